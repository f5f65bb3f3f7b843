"""From one latent of a clip to a latent for each of its frames (MVT-GAN, section 4.1 and appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.norm import BatchNorm


class SequenceGenerator(nn.Module):
  """A linear map, a GRU that is fed its own output, and batch normalisation of every step by itself.

  The paper gives the linear map d -> d and a GRU cell of 2048 units. What its authors' code adds: the cell starts from
  zeros, its state is projected to d values, which are its next input, and the outputs are normalised over the batch,
  for each step with statistics of its own and without a learned scale.

  Attributes:
    hidden_features: units of the cell.
    bn_momentum: see `BatchNorm`.
    dtype: of the computation; the normalised result is float32.
  """

  hidden_features: int = 2048
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Maps latents [B, d] to float32 [B, num_frames, d]."""
    features = latent.shape[-1]
    x = nn.Dense(features, dtype=self.dtype, name="input")(latent.astype(self.dtype))
    state = jnp.zeros((latent.shape[0], self.hidden_features), self.dtype)
    cell = nn.scan(_Cell, variable_broadcast="params", split_rngs={"params": False}, length=num_frames, out_axes=1)(
      features=features, hidden_features=self.hidden_features, dtype=self.dtype, name="cell"
    )
    _, outputs = cell((state, x), None)
    norm = BatchNorm(momentum=self.bn_momentum, affine=False, dtype=jnp.float32, name="norm")
    return norm(outputs[:, :, None, None, :], train=train)[:, :, 0, 0]


class _Cell(nn.Module):
  """One step: (state, input) to (state, output), which is the next input as well."""

  features: int
  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(self, carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    state, x = carry
    state, _ = nn.GRUCell(self.hidden_features, dtype=self.dtype, name="gru")(state, x)
    x = nn.Dense(self.features, dtype=self.dtype, name="output")(state)
    return (state, x), x
