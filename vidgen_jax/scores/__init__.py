"""Scores of generated clips: metrics, clip sets, feature networks and their weights."""
