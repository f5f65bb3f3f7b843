"""Learning rates and Adam's direction by hand."""

import math

import jax.numpy as jnp
import pytest

from vidgen_jax.core.optimizers import AdamConfig, make_optimizer
from vidgen_jax.errors import UserError


def test_warmup_grows_linearly_then_is_constant():
  config = AdamConfig(learning_rate=0.8, warmup_steps=4)
  assert [config.learning_rate_at(step) for step in (0, 1, 3, 4, 100)] == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8])


def test_first_direction_of_adam_is_the_sign_of_the_gradient():
  # b1 = 0: m = g; bias-corrected v = g^2; direction = g / (|g| + eps).
  optimizer = make_optimizer(AdamConfig(learning_rate=1.0, b1=0.0, eps=1.0))
  params = {"w": jnp.array([1.0, -3.0])}
  direction, _ = optimizer.update({"w": jnp.array([4.0, -1.0])}, optimizer.init(params), params)
  assert direction["w"].tolist() == pytest.approx([4 / 5, -1 / 2], rel=1e-5)


def test_clipping_scales_the_gradient_down_to_the_norm():
  # The gradient (3, 4) has norm 5 and is clipped to norm 1: (0.6, 0.8); with eps 1: g / (g + 1).
  optimizer = make_optimizer(AdamConfig(learning_rate=1.0, eps=1.0, clip_norm=1.0))
  params = {"w": jnp.zeros(2)}
  direction, _ = optimizer.update({"w": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
  assert direction["w"].tolist() == pytest.approx([0.6 / 1.6, 0.8 / 1.8], rel=1e-5)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learning_rate": -1.0}, "learning_rate=-1.0 must be 0 or more"),
    ({"learning_rate": math.nan}, "learning_rate=nan must be 0 or more"),
    ({"learning_rate": 1.0, "warmup_steps": -5}, "warmup_steps=-5 must be 0 or more"),
    ({"learning_rate": 1.0, "b2": 1.0}, r"b2=1.0 must be in \[0, 1\)"),
  ],
)
def test_invalid_settings_raise(changes, message):
  with pytest.raises(UserError, match=message):
    AdamConfig(**changes)
