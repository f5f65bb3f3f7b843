"""Images, videos and plots of what a run produces."""
