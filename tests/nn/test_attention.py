"""Self-attention against a loop over positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.biggan import SelfAttention


def _module(channels: int = 8):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 2, 4, 6, channels)).astype(np.float32)
  module = SelfAttention(spectral_norm=False)
  shapes = jax.eval_shape(lambda key: module.init(key, x, train=False), jax.random.key(0))["params"]
  return module, x, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def _reference(x: np.ndarray, params) -> np.ndarray:
  theta, phi, g, output = (params[name]["kernel"][0, 0] for name in ("theta", "phi", "g", "output"))
  out = np.zeros_like(x)
  _, _, height, width, _ = x.shape
  for b, t in np.ndindex(x.shape[:2]):
    keys, values = [], []
    for i, j in np.ndindex(height // 2, width // 2):
      corner = x[b, t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      keys.append((corner @ phi).max(axis=(0, 1)))
      values.append((corner @ g).max(axis=(0, 1)))
    for i, j in np.ndindex(height, width):
      logits = np.array([(x[b, t, i, j] @ theta) @ key for key in keys])
      weights = np.exp(logits - logits.max())
      weights /= weights.sum()
      out[b, t, i, j] = x[b, t, i, j] + params["gamma"] * (weights @ np.array(values)) @ output
  return out


def test_against_a_loop():
  module, x, params = _module()
  output = jax.jit(lambda x: module.apply({"params": params}, x, train=False))(x)
  np.testing.assert_allclose(output, _reference(x, params), rtol=1e-4, atol=1e-4)


def test_the_initial_layer_is_the_identity_and_gamma_has_a_gradient():
  module, x, params = _module()
  initial = module.init(jax.random.key(0), x, train=False)["params"]
  assert float(initial["gamma"]) == 0
  np.testing.assert_array_equal(module.apply({"params": initial}, x, train=False), x)
  gradient = jax.grad(lambda p: jnp.sum(jnp.square(module.apply({"params": p}, x, train=False))))(initial)
  assert float(jnp.abs(gradient["gamma"])) > 0
  assert {name: value["kernel"].shape for name, value in params.items() if name != "gamma"} == {
    "theta": (1, 1, 8, 1),
    "phi": (1, 1, 8, 1),
    "g": (1, 1, 8, 4),
    "output": (1, 1, 4, 8),
  }


@pytest.mark.parametrize("shape", [(1, 1, 4, 4, 7), (1, 1, 3, 4, 8)])
def test_other_shapes_are_rejected(shape):
  with pytest.raises(ValueError, match="at least 8 channels and an even height"):
    SelfAttention().init(jax.random.key(0), jnp.zeros(shape), train=False)
