"""Clips from a trained generator, be it a run's or an export's, and from conditioning frames of any origin."""
