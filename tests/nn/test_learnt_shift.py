"""Warping units learn to continue a motion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidgen_jax.gans.trivd.motion import expected_flow
from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS

DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
"""(right, down) in pixels per frame."""
SIZE, FEATURES, PER_DIRECTION = 8, 8, 8
NUM_UPDATES = 1000


def _batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The previous, current and next frame of specks that move by one pixel per frame."""
  size = (len(DIRECTIONS), PER_DIRECTION, SIZE + 4, SIZE + 4, FEATURES)
  fields = np.maximum(2 * rng.uniform(size=size) - 1, 0).astype(np.float32)
  frames = []
  for time in (-1, 0, 1):
    windows = [
      field[:, 2 - time * down :, 2 - time * right :][:, :SIZE, :SIZE]
      for field, (right, down) in zip(fields, DIRECTIONS, strict=True)
    ]
    frames.append(np.concatenate(windows))
  return tuple(frames)


@pytest.mark.slow  # the gradients of the units are also compared with differences in test_recurrent.py
@pytest.mark.parametrize("name", ["tsru_p", "ptsru_s"])
def test_a_unit_learns_a_shift(name):
  """From the current frame as state and the previous one as input, the next state should be the next frame.

  Only the two frames show the direction. Pixels at the border are unpredictable and ignored.
  """
  unit = RECURRENT_UNITS[name](FEATURES, spectral_norm=False)
  apply = functools.partial(unit.apply, num_steps=1, train=False)
  rng, optimizer = np.random.default_rng(0), optax.adam(optax.cosine_decay_schedule(0.01, NUM_UPDATES))

  def loss(params, before, now, after):
    error = apply({"params": params}, before[:, None], now)[:, 0] - after
    return jnp.mean(jnp.square(error[:, 1:-1, 1:-1]))

  @jax.jit
  def update(params, state, batch):
    updates, state = optimizer.update(jax.grad(loss)(params, *batch), state)
    return optax.apply_updates(params, updates), state

  before, now, after = _batch(rng)
  params = jax.jit(functools.partial(unit.init, num_steps=1, train=False))(jax.random.key(0), before[:, None], now)
  params = params["params"]
  state = optimizer.init(params)
  for _ in range(NUM_UPDATES):
    params, state = update(params, state, _batch(rng))

  still = np.mean(np.square(now - after)[:, 1:-1, 1:-1])
  assert loss(params, before, now, after) < 0.05 * still
  _, changed = apply({"params": params}, before[:, None], now, mutable=[MOTION])
  flow = np.asarray(expected_flow(changed[MOTION]["kernels"]))[:, :, 1:-1, 1:-1]
  flow = flow.reshape(len(DIRECTIONS), -1, 2).mean(axis=1)
  np.testing.assert_allclose(flow, DIRECTIONS, atol=0.25)
