"""Training state: arrays only."""

import flax.struct
import jax
import optax

from vidgen_jax.types import Params, PRNGKey, Variables


class NetState(flax.struct.PyTreeNode):
  """State of one network."""

  params: Params
  """Trained parameters."""
  variables: Variables
  """Every other collection: {'batch_stats': ..., 'spectral_stats': ...}; {} where stateless."""

  @property
  def collections(self) -> dict[str, Params]:
    """All collections, in the form that `module.apply` takes."""
    return {"params": self.params, **self.variables}


Nets = dict[str, NetState]
"""Networks by name: 'generator', 'frame_disc', ..."""


class TrainState(flax.struct.PyTreeNode):
  """Everything that a checkpoint stores for a bitwise resume."""

  step: jax.Array
  """int32[], number of completed train steps."""
  key: PRNGKey
  """Root key; folded with the step and the update, never split in place."""
  nets: Nets
  """Live networks."""
  opt_states: dict[str, optax.OptState]
  """Optimizer states by update name, over all phases, so that the checkpoint layout never changes."""
  ema: Nets
  """Nets with exponentially averaged parameters, for the names in `Algorithm.ema_nets`."""
