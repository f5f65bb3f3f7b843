"""Adversarial video models in JAX: one SPMD training loop for frame prediction, inbetweening and generation."""

import os

__version__ = "0.1.0"

# epath, which orbax uses for buckets, prefers TensorFlow to gcsfs if both are installed. It reads this setting when the
# first path is used.
os.environ.setdefault("EPATH_USE_TF", "0")
