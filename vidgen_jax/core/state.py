"""The state of a training run: arrays only."""

import flax.struct
import jax
import optax

from vidgen_jax.types import Params, PRNGKey, Variables


@flax.struct.dataclass
class NetState:
  """One network."""

  params: Params
  """What is trained."""
  variables: Variables
  """Every other collection: {'batch_stats': ..., 'spectral_stats': ...}; {} where stateless."""

  @property
  def collections(self) -> dict[str, Params]:
    """All collections, as `module.apply` takes them."""
    return {"params": self.params, **self.variables}


Nets = dict[str, NetState]
"""Networks by name: 'generator', 'frame_disc', ..."""


@flax.struct.dataclass
class TrainState:
  """Everything that a checkpoint must hold to continue bitwise."""

  step: jax.Array
  """int32[], completed train steps."""
  key: PRNGKey
  """The root key; folded with the step and the update, never split in place."""
  nets: Nets
  """Live networks."""
  opt_states: dict[str, optax.OptState]
  """By update name, the union over all phases, so that the checkpoint layout never changes."""
  ema: Nets
  """Exponential moving averages of the parameters of some nets."""
