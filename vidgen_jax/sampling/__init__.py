"""Clips from a trained generator, be it a run's or an export's, and from given frames of any origin."""
