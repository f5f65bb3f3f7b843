"""The generator of MVT-GAN: class embedding, sequence generator and frame generator (figure 2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.gans.mvt.frame_generator import FrameGenerator
from vidgen_jax.gans.mvt.sequence_generator import SequenceGenerator
from vidgen_jax.nn.spectral import Embed


class Generator(nn.Module):
  """Generates clips of a class from one latent per clip: Z_F[t] = [z_gru[t]; e(y)].

  Attributes:
    sequence: generator of z_gru.
    frames: generator of a frame from each Z_F[t].
    class_features: length of the class embedding e(y), which is not spectrally normalised, as in BigGAN.
  """

  sequence: SequenceGenerator
  frames: FrameGenerator
  num_classes: int = 1
  class_features: int = 120

  def setup(self) -> None:
    """Creates the class embedding."""
    self.class_embedding = Embed(self.num_classes, self.class_features, spectral_norm=False)

  def __call__(self, latent: jax.Array, label: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Generates clips, float32 [B, T, H, W, C] in [-1, 1], from latents Z_ABC [B, d]."""
    return self.decode(latent, self.embed(label), num_frames=num_frames, train=train)

  def embed(self, label: jax.Array) -> jax.Array:
    """Embeddings e(y), [B, class_features], of labels int [B]."""
    return self.class_embedding(label, train=False)

  def decode(self, latent: jax.Array, embedding: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Generates clips from embeddings [B, class_features] instead of labels, e.g. between classes (figure 8)."""
    sequence = self.sequence(latent, num_frames=num_frames, train=train)
    repeated = jnp.broadcast_to(embedding[:, None].astype(sequence.dtype), (*sequence.shape[:2], embedding.shape[-1]))
    return self.frames(jnp.concatenate([sequence, repeated], axis=-1), train=train)
