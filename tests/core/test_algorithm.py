"""The training contract's defaults, and updates with Adam."""

import dataclasses

import jax.numpy as jnp
import pytest

from vidgen_jax.core.algorithm import Algorithm, LossOutput, adam_update
from vidgen_jax.core.optimizers import AdamConfig
from vidgen_jax.core.state import NetState

ADAM = AdamConfig(learning_rate=0.1)


def _loss(nets, frozen, batch, key, step):
  return nets["net"].params["w"], LossOutput(nets={}, metrics={})


@dataclasses.dataclass(frozen=True)
class Minimal(Algorithm):
  """One network and one update."""

  @property
  def ema_nets(self):
    return ("net",)

  def networks(self):
    return {}

  def init(self, key, batch):
    return {"net": NetState(params={"w": jnp.zeros(())}, variables={})}

  def updates(self, phase):
    return (adam_update("train", ("net",), _loss, ADAM, repeats=3),)


def test_an_algorithm_has_one_phase_and_no_frozen_networks_by_default():
  algorithm = Minimal()
  assert algorithm.phases == ("main",) == (algorithm.phase_at(0),) == (algorithm.phase_at(10**6),)
  assert algorithm.microbatches == 3
  assert algorithm.frozen_networks() == {}


def test_an_algorithm_with_missing_methods_cannot_be_built():
  class Incomplete(Minimal):
    updates = Algorithm.updates

  with pytest.raises(TypeError, match=r"abstract method .*updates"):
    Incomplete()


def test_rate_factors_scale_the_steps_of_their_nets():
  update = adam_update("train", ("a", "b"), _loss, ADAM, rate_factors={"b": 0.25})
  assert (update.trains, update.refreshes, update.repeats) == (("a", "b"), ("a", "b"), 1)
  assert update.learning_rate(0) == 0.1
  params = {name: {"w": jnp.zeros(())} for name in ("a", "b")}
  gradients = {name: {"w": jnp.ones(())} for name in ("a", "b")}
  directions, _ = update.optimizer.update(gradients, update.optimizer.init(params), params)
  # Adam's first direction has length 1.
  assert (float(directions["a"]["w"]), float(directions["b"]["w"])) == pytest.approx((1.0, 0.25), rel=1e-4)
