"""Self-attention over the positions of a frame (Zhang et al. 2019; as in BigGAN)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from vidgen_jax.nn.spectral import Conv


class SelfAttention(nn.Module):
  """y = x + gamma o(softmax(theta(x) phi(x)^T) g(x)), for each frame separately; the softmax is float32.

  theta and phi have an eighth of the channels, g half of them; phi and g are max-pooled by 2 (Brock et al. 2019,
  appendix B.1). All maps are 1x1 convolutions without bias. gamma is initialised with 0, which makes the layer the
  identity. As in BigGAN, the logits are not scaled.
  """

  spectral_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, T, H, W, C] to the same shape; ValueError for fewer than 8 channels, or an odd height or width."""
    channels = x.shape[-1]
    if channels < 8 or x.shape[2] % 2 or x.shape[3] % 2:
      raise ValueError(f"self-attention needs at least 8 channels and an even height and width, got {x.shape}")

    def project(inputs: jax.Array, features: int, name: str) -> jax.Array:
      conv = Conv(features, (1, 1), use_bias=False, spectral_norm=self.spectral_norm, dtype=self.dtype, name=name)
      return conv(inputs, train=train)

    def positions(maps: jax.Array) -> jax.Array:
      return maps.reshape(*maps.shape[:2], -1, maps.shape[-1])

    theta = positions(project(x, channels // 8, "theta"))
    phi = positions(_max_pool(project(x, channels // 8, "phi")))
    g = positions(_max_pool(project(x, channels // 2, "g")))
    logits = jnp.einsum("btqc,btkc->btqk", theta, phi, preferred_element_type=jnp.float32)
    weights = nn.softmax(logits).astype(self.dtype)
    attended = jnp.einsum("btqk,btkc->btqc", weights, g).reshape(*x.shape[:-1], channels // 2)
    gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32)
    return x + gamma.astype(self.dtype) * project(attended, channels, "output")


def _max_pool(video: jax.Array) -> jax.Array:
  """Halves height and width of [B, T, H, W, C]."""
  window = (1, 1, 2, 2, 1)
  return lax.reduce_window(video, -jnp.inf, lax.max, window, window, "VALID")
