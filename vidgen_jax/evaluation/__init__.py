"""Scores of generated clips beside trivial predictions, of whole sets by their features, of runs while they train."""
