"""From stored video to class probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vidgen_jax.scores.metrics.preprocessing import normalise

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
"""What classifiers trained here see: RGB in [-1, 1]."""


def network_input(
  video: jax.typing.ArrayLike, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> jax.Array:
  """Maps stored video onto a network's range; luma becomes a grey RGB.

  Args:
    video: uint8[..., H, W, C] with C 1 or 3, values 0..255.
    mean: RGB, on the scale where white is 1.
    std: RGB, on the same scale.

  Returns:
    float32[..., H, W, 3]: (video / 255 - mean) / std.

  Raises:
    TypeError: if `video` is not uint8.
  """
  video = jnp.asarray(video)
  if video.dtype != jnp.uint8:
    raise TypeError(f"network_input needs uint8 video, got {video.dtype}; convert with to_uint8 first")
  return normalise(video, mean=mean, std=std)


def predict(
  apply: Callable[..., Any], variables: Mapping[str, Any], clips: jax.typing.ArrayLike, **preprocessing: Any
) -> jax.Array:
  """Class probabilities of clips.

  Args:
    apply: a network's `apply`, whose result has `logits`.
    variables: the network's collections.
    clips: uint8[B, T, H, W, C] with C 1 or 3.
    **preprocessing: `mean` and `std`, see `network_input`.

  Returns:
    float32[B, num_classes], each row summing to 1.
  """
  output = apply(variables, network_input(clips, **preprocessing), train=False)
  return jax.nn.softmax(output.logits.astype(jnp.float32), axis=-1)
