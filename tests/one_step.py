"""One train step with chosen learning rates, and random nets and frames, for tests of losses and updates."""

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
"""Root key of the step."""


def drawn_nets(algorithm: Algorithm, batch: Batch, *, scale: float = 1.0, bias_scale: float | None = None) -> Nets:
  """Nets with the shapes that `init` returns and normally distributed values drawn with NumPy.

  Args:
    algorithm: algorithm whose nets are drawn.
    batch: clips that determine the shapes.
    scale: standard deviation of all values but variances, which are at least 0.5.
    bias_scale: standard deviation of biases; None for `scale`.
  """
  rng = np.random.default_rng(1)

  def leaf(path, shape):
    values, name = rng.normal(size=shape.shape).astype(np.float32), getattr(path[-1], "key", "")
    if name == "var":
      return jnp.asarray(np.abs(values) + 0.5)
    return jnp.asarray((bias_scale if name == "bias" and bias_scale is not None else scale) * values)

  return jax.tree.map_with_path(leaf, jax.eval_shape(algorithm.init, jax.random.key(0), batch))


def drawn_frames(video: np.ndarray, key: jax.Array, count: int) -> np.ndarray:
  """`count` frames of each clip [B, T, ...], those with the smallest of T uniform draws: [B, count, ...]."""
  chosen = np.sort(np.argsort(jax.random.uniform(key, video.shape[:2]), axis=1)[:, :count], axis=1)
  return np.stack([clip[indices] for clip, indices in zip(np.asarray(video), chosen, strict=True)])


class OneStep:
  """A train step in which every update receives the same batch: (nets, batch, rates by update) -> (nets, metrics)."""

  def __init__(self, algorithm: Algorithm, phase: str = "main"):
    self._updates = algorithm.updates(phase)
    self._microbatches = sum(update.repeats for update in self._updates)
    settings = {"updates": self._updates, "ema": EmaConfig(), "config": StepConfig()}
    self._step = jax.jit(functools.partial(train_step, **settings))

  def __call__(self, nets: Nets, batch: Batch, **rates: float) -> tuple[Nets, dict[str, float]]:
    """Updates without an entry in `rates` have learning rate 0."""
    assert set(rates) <= {update.name for update in self._updates}
    opt_states = {u.name: u.optimizer.init({name: nets[name].params for name in u.trains}) for u in self._updates}
    state = TrainState(step=jnp.int32(0), key=KEY, nets=nets, opt_states=opt_states, ema={})
    repeated = jax.tree.map(lambda x: jnp.stack([x] * self._microbatches), batch)
    learning_rates = {update.name: jnp.float32(rates.get(update.name, 0.0)) for update in self._updates}
    state, metrics = self._step(state, repeated, StepConstants(learning_rates=learning_rates, frozen={}))
    return state.nets, {name: float(value) for name, value in metrics.items()}

  def loss_key(self, name: str) -> jax.Array:
    """The key that an update's loss receives."""
    index = [update.name for update in self._updates].index(name)
    return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(KEY, 0), index), 0)


def changed_nets(before: Nets, after: Nets) -> set[str]:
  """Names of the nets whose parameters changed; asserts that either all or none of a net's parameters changed."""
  names = set()
  for name, net in before.items():
    changed = jax.tree.map(lambda new, old: bool(np.any(new != old)), after[name].params, net.params)
    assert len(set(jax.tree.leaves(changed))) == 1, (name, changed)
    names |= {name} if jax.tree.leaves(changed)[0] else set()
  return names
