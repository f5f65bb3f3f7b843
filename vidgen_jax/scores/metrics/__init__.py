"""Metrics of generated video: pure functions, and in each module a tuple `METRICS` that describes its own."""
