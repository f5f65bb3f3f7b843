"""Pure functions on arrays: losses, penalties, resampling, warping, video ranges."""
