"""Runs: configuration, training loop, checkpoints, logging, scoring, sampling and export."""
