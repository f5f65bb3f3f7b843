"""D_T of SR-cGAN (III.C.2): scores a clip together with the anchors that it was generated from."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.convolution import Conv3D
from vidgen_jax.nn.normalised_conv import activation
from vidgen_jax.types import Video


class TemporalDiscriminator(nn.Module):
  """4x4x4 convolutions with stride 2 over the clip, its anchors at their times, and the anchors' mask.

  Time is halved until one frame is left.

  Attributes:
    widths: channels of the convolutions.
  """

  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: Video, anchors: Video | None = None) -> jax.Array:
    """Maps clips to logits float32 [B].

    Args:
      video: real or generated clips [B, N, H, W, C] in [-1, 1].
      anchors: result of `place_anchors`, [B, N, H, W, C + 1]; None for the base model.
    """
    x = video if anchors is None else jnp.concatenate([video, anchors], axis=-1)
    x = x.astype(self.dtype)
    for i, width in enumerate(self.widths):
      axes = 3 if x.shape[1] > 1 else 2
      window: dict[str, Any] = {"kernel_size": (4,) * axes, "strides": (2,) * axes, "padding": ((1, 1),) * axes}
      x = activation(Conv3D(width, **window, use_bias=True, dtype=self.dtype, precision=None, name=f"down_{i}")(x))
    features = x.reshape(x.shape[0], -1).astype(jnp.float32)
    return nn.Dense(1, name="output")(features)[:, 0]


def place_anchors(frames: Video, times: jax.Array, known: jax.Array, *, num_frames: int) -> Video:
  """Places anchors at their times in an empty clip.

  Args:
    frames: anchors [B, M, H, W, C].
    times: 0-based times int [B, M]; the known times of a clip are distinct.
    known: bool [B, M]; False marks padding.
    num_frames: N.

  Returns:
    [B, N, H, W, C + 1]: the anchors at their times, zeros elsewhere; the last channel is 1 at the anchors.
  """
  position = jax.nn.one_hot(times, num_frames, dtype=frames.dtype) * known[..., None]
  placed = jnp.einsum("bmn,bmhwc->bnhwc", position, frames, precision=jax.lax.Precision.HIGHEST)
  mask = jnp.sum(position, axis=1)[:, :, None, None, None]
  return jnp.concatenate([placed, jnp.broadcast_to(mask, (*placed.shape[:-1], 1))], axis=-1)
