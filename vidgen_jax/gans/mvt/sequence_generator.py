"""The sequence generator: one latent per frame from one latent per clip (MVT-GAN, 4.1 and appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.norm import BatchNorm


class SequenceGenerator(nn.Module):
  """A linear map, a GRU that receives its own output, and a batch normalisation for each time step.

  The paper specifies the linear map d -> d and a GRU cell with 2048 units. The authors' code adds the rest: the cell
  starts from zeros; its state is projected to d values, the next input; the outputs are normalised over the batch, with
  statistics for each time step and without a learned scale.

  Attributes:
    hidden_features: units of the cell.
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
  """One time step: (state, input) to (state, output); the output is also the next input."""

  features: int
  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(self, carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    state, x = carry
    state, _ = nn.GRUCell(self.hidden_features, dtype=self.dtype, name="gru")(state, x)
    x = nn.Dense(self.features, dtype=self.dtype, name="output")(state)
    return (state, x), x
