"""Clips from a trained generator: of a run or of an export, from conditioning frames of any source."""
