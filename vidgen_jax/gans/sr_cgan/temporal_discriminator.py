"""D_T of SR-cGAN (III.C.2): judges a clip together with the anchors that it was made from."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.normalised_conv import activation
from vidgen_jax.types import Video


class TemporalDiscriminator(nn.Module):
  """4x4x4 convolutions with stride 2 over the clip, its anchors in their places, and a mask of these.

  Time is halved as long as it has more than one frame left.

  Attributes:
    widths: channels of the convolutions.
    dtype: of the computation; logits are float32.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: Video, anchors: Video | None = None) -> jax.Array:
    """Logits float32 [B] of clips [B, N, H, W, C] in [-1, 1].

    Args:
      video: real or generated clips.
      anchors: of `place_anchors`, [B, N, H, W, C + 1]; None for the base model, whose clips have none.
    """
    x = video if anchors is None else jnp.concatenate([video, anchors], axis=-1)
    x = x.astype(self.dtype)
    for i, width in enumerate(self.widths):
      halves = x.shape[1] > 1
      window = {"kernel_size": (4, 4, 4), "strides": (2, 2, 2), "padding": ((1, 1),) * 3}
      if not halves:
        window = {"kernel_size": (4, 4), "strides": (2, 2), "padding": ((1, 1),) * 2}
      x = activation(Conv3D(width, **window, use_bias=True, dtype=self.dtype, precision=None, name=f"down_{i}")(x))
    features = x.reshape(x.shape[0], -1).astype(jnp.float32)
    return nn.Dense(1, name="output")(features)[:, 0]


def place_anchors(frames: Video, times: jax.Array, known: jax.Array, *, num_frames: int) -> Video:
  """Puts anchors in their places in an empty clip.

  Args:
    frames: [B, M, H, W, C].
    times: int [B, M], 0-based, different for the known ones of a clip.
    known: bool [B, M]; False is padding.
    num_frames: N.

  Returns:
    [B, N, H, W, C + 1]: the anchors at their times, zeros elsewhere; the last channel is 1 at the anchors.
  """
  place = jax.nn.one_hot(times, num_frames, dtype=frames.dtype) * known[..., None]
  placed = jnp.einsum("bmn,bmhwc->bnhwc", place, frames, precision=jax.lax.Precision.HIGHEST)
  mask = jnp.sum(place, axis=1)[:, :, None, None, None]
  return jnp.concatenate([placed, jnp.broadcast_to(mask, (*placed.shape[:-1], 1))], axis=-1)
