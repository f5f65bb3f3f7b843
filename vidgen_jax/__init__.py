"""Adversarial video models in JAX: one SPMD training loop for frame prediction, inbetweening and generation."""

__version__ = "0.1.0"
