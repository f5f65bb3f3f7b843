"""Scores of generated video, each with the protocol it was computed under."""
