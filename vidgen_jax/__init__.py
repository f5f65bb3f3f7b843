"""Adversarial video models in JAX: one SPMD training loop for frame prediction, inbetweening and generation."""

import os

__version__ = "0.1.0"

# epath, by which orbax reaches buckets, would take TensorFlow where that is installed, and gcsfs elsewhere. One of them
# is enough; it is chosen when the first path is used.
os.environ.setdefault("EPATH_USE_TF", "0")
