"""Forward passes of bound nets: variables are inputs and outputs, never changed in place."""

import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.errors import ModifyScopeVariableError

from vidgen_jax.core.state import NetState
from vidgen_jax.gans.common import BoundNets
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS


class _Sum(nn.Module):
  """Adds its input to the variable `total`, in train mode for later passes as well."""

  @nn.compact
  def __call__(self, x, *, train):
    total = self.variable(BATCH_STATS, "total", jnp.zeros, ())
    if train:
      total.value += x
      return total.value
    return total.value + x


def _bound() -> BoundNets:
  variables = {BATCH_STATS: {"total": jnp.float32(2.0)}, SPECTRAL_STATS: {"kept": jnp.float32(7.0)}}
  return BoundNets({"sum": _Sum()}, {"sum": NetState(params={}, variables=variables)})


def test_train_mode_returns_updated_variables_and_every_pass_starts_from_the_bound_ones():
  bound = _bound()
  for x in (3.0, 4.0):
    output, net = bound.apply_mutable("sum", x, train=True)
    assert float(output) == 2.0 + x
    assert net.variables == {BATCH_STATS: {"total": 2.0 + x}, SPECTRAL_STATS: {"kept": 7.0}}
  assert bound == _bound()


def test_outside_train_mode_nets_stay_unchanged():
  bound = _bound()
  output, net = bound.apply_mutable("sum", 3.0, train=False)
  assert float(output) == float(bound.apply("sum", 3.0, train=False)) == 5.0
  assert net is bound.nets["sum"]


def test_a_pass_that_would_drop_updated_variables_is_an_error():
  with pytest.raises(ModifyScopeVariableError):
    _bound().apply("sum", 3.0, train=True)
