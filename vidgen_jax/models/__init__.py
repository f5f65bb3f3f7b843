"""The papers' networks; constructor arguments only."""
