"""Averages by hand: one weight that is 1 before and 3 after the step."""

import jax.numpy as jnp
import pytest

from vidgen_jax.core.ema import EmaConfig, update_ema
from vidgen_jax.core.state import NetState
from vidgen_jax.errors import UserError


def _moved(step: int, config: EmaConfig) -> float:
  old = {"g": NetState(params={"w": jnp.float32(1.0)}, variables={"u": jnp.float32(7.0)})}
  new = {
    "g": NetState(params={"w": jnp.float32(3.0)}, variables={"u": jnp.float32(8.0)}),
    "d": NetState(params={"w": jnp.float32(0.0)}, variables={}),
  }
  moved = update_ema(old, new, jnp.int32(step), config)
  assert set(moved) == {"g"}
  assert moved["g"].variables["u"] == 8.0  # variables follow the live net
  return float(moved["g"].params["w"])


def test_average_equals_live_weights_until_the_start_step():
  config = EmaConfig(decay=0.9, start_step=10)
  assert _moved(1, config) == 3.0
  assert _moved(10, config) == 3.0
  assert _moved(11, config) == pytest.approx(0.9 * 1 + 0.1 * 3)


def test_warmup_uses_the_smaller_decay():
  config = EmaConfig(decay=0.9, start_step=10, warmup=True)
  # n = 1 averaged step: (1 + 1) / (10 + 1) = 2 / 11; n = 200: 201 / 210 > 0.9.
  assert _moved(11, config) == pytest.approx(2 / 11 * 1 + 9 / 11 * 3)
  assert _moved(210, config) == pytest.approx(0.9 * 1 + 0.1 * 3)


def test_invalid_decay_raises():
  with pytest.raises(UserError, match=r"ema\.decay=2\.0 must be in \[0, 1\]"):
    EmaConfig(decay=2.0)
