"""What every classifier returns."""

from typing import NamedTuple

import jax


class ClassifierOutput(NamedTuple):
  """Scores and features of a batch of clips.

  Attributes:
    logits: float32[B, num_classes], before the softmax.
    features: float32[B, D], what Frechet and kernel distances are taken on.
  """

  logits: jax.Array
  features: jax.Array
