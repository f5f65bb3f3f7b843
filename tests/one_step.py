"""A train step of an algorithm with chosen learning rates, for tests of losses and of what they move."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.core.algorithm import Algorithm
from vidgen_jax.core.ema import EmaConfig
from vidgen_jax.core.state import Nets, TrainState
from vidgen_jax.core.step import StepConfig, StepConstants, train_step
from vidgen_jax.types import Batch

KEY = jax.random.key(7)
"""The root key of the step."""


def drawn_nets(algorithm: Algorithm, batch: Batch, *, scale: float = 1.0) -> Nets:
  """Nets of the shapes that `init` gives, all values drawn with numpy; variances are at least 0.5, others `scale`d."""
  rng = np.random.default_rng(1)

  def leaf(path, shape):
    values, name = rng.normal(size=shape.shape).astype(np.float32), getattr(path[-1], "key", "")
    return jnp.asarray(np.abs(values) + 0.5 if name == "var" else scale * values)

  return jax.tree.map_with_path(leaf, jax.eval_shape(algorithm.init, jax.random.key(0), batch))


class OneStep:
  """(nets, batch, rates by update) -> (nets, metrics): a train step that gives every update the same batch."""

  def __init__(self, algorithm: Algorithm, phase: str = "main"):
    self._updates = algorithm.updates(phase)
    self._microbatches = sum(update.repeats for update in self._updates)
    settings = {"updates": self._updates, "ema": EmaConfig(), "config": StepConfig()}
    self._step = jax.jit(functools.partial(train_step, **settings))

  def __call__(self, nets: Nets, batch: Batch, **rates: float) -> tuple[Nets, dict[str, float]]:
    """Updates that `rates` does not name have the rate 0."""
    assert set(rates) <= {update.name for update in self._updates}
    opt_states = {u.name: u.optimizer.init({name: nets[name].params for name in u.trains}) for u in self._updates}
    state = TrainState(step=jnp.int32(0), key=KEY, nets=nets, opt_states=opt_states, ema={})
    repeated = jax.tree.map(lambda x: jnp.stack([x] * self._microbatches), batch)
    rates = {update.name: jnp.float32(rates.get(update.name, 0.0)) for update in self._updates}
    state, metrics = self._step(state, repeated, StepConstants(learning_rates=rates, frozen={}))
    return state.nets, {name: float(value) for name, value in metrics.items()}

  def loss_key(self, name: str) -> jax.Array:
    """The key that the step gives to an update's loss."""
    index = [update.name for update in self._updates].index(name)
    return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, 0), index), 0)


def moved_nets(before: Nets, after: Nets) -> set[str]:
  """Names of the nets whose parameters have changed: in such a net all of them must have."""
  moved = set()
  for name, net in before.items():
    changed = jax.tree.map(lambda new, old: bool(np.any(new != old)), after[name].params, net.params)
    assert len(set(jax.tree.leaves(changed))) == 1, (name, changed)
    moved |= {name} if jax.tree.leaves(changed)[0] else set()
  return moved
