"""The generator of MVT-GAN: class embedding, sequence generator and frame generator (figure 2)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.mvt.frame_generator import FrameGenerator
from vidgen_jax.gans.mvt.sequence_generator import SequenceGenerator
from vidgen_jax.nn.spectral import Embed


class Generator(nn.Module):
  """Generates clips of a class from one latent per clip: Z_F[t] = [z_gru[t]; e(y)].

  Attributes:
    widths: see `FrameGenerator`.
    num_classes: number of classes; 1 for an unconditional model (a constant dummy class).
    class_features: length of the class embedding e(y), which is not spectrally normalised, as in BigGAN.
    hidden_features: units of the GRU.
    first_size: see `FrameGenerator`.
    channels: see `FrameGenerator`.
    attention_after: see `FrameGenerator`.
    shifted_blocks: see `FrameGenerator`.
    bn_momentum: see `BatchNorm`.
    remat: see `FrameGenerator`.
    dtype: dtype of the computation.
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
    """Creates the submodules."""
    shared: dict[str, Any] = {"bn_momentum": self.bn_momentum, "dtype": self.dtype}
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
    """Generates clips.

    Args:
      latent: Z_ABC, [B, d].
      label: class labels int [B]; zeros for an unconditional model.
      num_frames: T.
      train: whether to normalise with the batch's own statistics and to advance the power iterations.

    Returns:
      float32 [B, T, H, W, C] in [-1, 1].
    """
    return self.decode(latent, self.embed(label), num_frames=num_frames, train=train)

  def embed(self, label: jax.Array) -> jax.Array:
    """Embeddings e(y), [B, class_features], of labels int [B]."""
    return self.class_embedding(label, train=False)

  def decode(self, latent: jax.Array, embedding: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Generates clips from embeddings [B, class_features] instead of labels, e.g. between classes (figure 8)."""
    sequence = self.sequence(latent, num_frames=num_frames, train=train)
    repeated = jnp.broadcast_to(embedding[:, None].astype(sequence.dtype), (*sequence.shape[:2], embedding.shape[-1]))
    return self.frames(jnp.concatenate([sequence, repeated], axis=-1), train=train)
