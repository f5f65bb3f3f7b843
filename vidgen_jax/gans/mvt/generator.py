"""The generator: class embedding, sequence generator, frame generator (MVT-GAN, figure 2)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.mvt.frame_generator import FrameGenerator
from vidgen_jax.gans.mvt.sequence_generator import SequenceGenerator
from vidgen_jax.nn.spectral import Embed


class Generator(nn.Module):
  """Clips of a class from one latent each: Z_F[t] = [z_gru[t]; e(y)].

  Attributes:
    widths: see `FrameGenerator`.
    num_classes: 1 stands for "no classes".
    class_features: length of the class embedding e(y), which has no spectral normalisation, as in BigGAN.
    hidden_features: units of the GRU.
    first_size: see `FrameGenerator`.
    channels: see `FrameGenerator`.
    attention_after: see `FrameGenerator`.
    shifted_blocks: see `FrameGenerator`.
    bn_momentum: see `BatchNorm`.
    remat: see `FrameGenerator`.
    dtype: of the computation.
  """

  widths: tuple[int, ...]
  num_classes: int = 1
  class_features: int = 120
  hidden_features: int = 2048
  first_size: tuple[int, int] = (4, 4)
  channels: int = 3
  attention_after: int | None = None
  shifted_blocks: int = 0
  bn_momentum: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  def setup(self) -> None:
    """Declares the parts."""
    shared = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
    self.class_embedding = Embed(self.num_classes, self.class_features, spectral_norm=False)
    self.sequence = SequenceGenerator(self.hidden_features, **shared)
    self.frames = FrameGenerator(
      self.widths,
      first_size=self.first_size,
      channels=self.channels,
      attention_after=self.attention_after,
      shifted_blocks=self.shifted_blocks,
      remat=self.remat,
      **shared,
    )

  def __call__(self, latent: jax.Array, label: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Makes clips.

    Args:
      latent: Z_ABC, [B, d].
      label: int [B]; zeros where there are no classes.
      num_frames: T.
      train: normalise by the batch's own statistics and advance the power iterations.

    Returns:
      float32 [B, T, H, W, C] in [-1, 1].
    """
    return self.decode(latent, self.embed(label), num_frames=num_frames, train=train)

  def embed(self, label: jax.Array) -> jax.Array:
    """e(y), [B, class_features], of labels int [B]."""
    return self.class_embedding(label, train=False)

  def decode(self, latent: jax.Array, embedding: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """As a call, with embeddings [B, class_features] in the place of labels: between classes, say (figure 8)."""
    sequence = self.sequence(latent, num_frames=num_frames, train=train)
    repeated = jnp.broadcast_to(embedding[:, None].astype(sequence.dtype), (*sequence.shape[:2], embedding.shape[-1]))
    return self.frames(jnp.concatenate([sequence, repeated], axis=-1), train=train)
