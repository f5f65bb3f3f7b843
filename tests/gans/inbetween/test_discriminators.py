"""The discriminators: gradient penalty against finite differences; effect of contrast; logits in bfloat16."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.inbetween import networks
from vidgen_jax.gans.inbetween.networks import ImageDiscriminator, VideoDiscriminator
from vidgen_jax.ops import losses

CASES = {"video": (VideoDiscriminator((2, 3)), (2, 8, 4, 4, 1)), "image": (ImageDiscriminator((3,)), (2, 4, 4, 2))}


def _draw(shape, seed):
  return jnp.asarray(0.3 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module", params=CASES)
def case(request):
  """A discriminator, its parameters, inputs, and its penalty: params -> ((value, (real, fake)), gradients)."""
  module, shape = CASES[request.param]
  real, fake = _draw(shape, 1), _draw(shape, 2)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(module.init, jax.random.key(0), real)["params"]
  # With large biases the outputs would hardly depend on the inputs.
  scale = lambda path: 0.1 if path[-1].key == "bias" else 1.0
  params = jax.tree.map_with_path(
    lambda path, leaf: jnp.asarray(scale(path) * rng.normal(size=leaf.shape), jnp.float32), shapes
  )
  # Logits near 0, where the factors (1 - D)^2 and D^2 change fastest.
  params["output"]["kernel"] *= 0.5

  def penalty(params):
    critic = lambda x: module.apply({"params": params}, x)
    both = [losses.logits_and_gradients(critic, x) for x in (real, fake)]
    return losses.gradient_penalty(*both), both

  evaluate = jax.jit(jax.value_and_grad(penalty, has_aux=True))
  # A smooth activation: the penalty is discontinuous at the kinks of leaky ReLUs, which would spoil the differences.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(networks, "activation", lambda x: 0.2 * x + 0.8 * jax.nn.softplus(x))
    yield types.SimpleNamespace(module=module, params=params, inputs=(real, fake), evaluate=evaluate)


def test_input_gradients_against_differences(case):
  step = 1e-2
  logit = jax.jit(functools.partial(case.module.apply, {"params": case.params}))
  (_, found), _ = case.evaluate(case.params)
  for inputs, (logits, norms) in zip(case.inputs, found, strict=True):
    for b, x in enumerate(inputs):
      # One batch with an input for each coordinate, moved forwards, and one moved backwards.
      shifts = step * jnp.eye(x.size).reshape(-1, *x.shape)
      ahead, behind = (np.asarray(logit(x[None] + sign * shifts), np.float64) for sign in (1, -1))
      np.testing.assert_allclose(logits[b], (ahead + behind) / 2, atol=2e-3)
      assert float(norms[b]) == pytest.approx(np.sum(np.square((ahead - behind) / (2 * step))), rel=0.02)
      assert float(norms[b]) > 0.01


def test_parameter_gradients_of_the_penalty_against_differences(case):
  _, gradients = case.evaluate(case.params)
  leaves, structure = jax.tree.flatten(case.params)
  step = 3e-3
  for index, (path, gradient) in enumerate(jax.tree.leaves_with_path(gradients)):
    # The derivative along the gradient is the gradient's length. The output's bias only shifts the logits, which
    # changes the factors (1 - D)^2 and D^2.
    length = float(jnp.sqrt(jnp.sum(jnp.square(gradient))))
    values = []
    for sign in (1, -1):
      shifted = leaves.copy()
      shifted[index] += sign * step * gradient / length
      values.append(float(case.evaluate(jax.tree.unflatten(structure, shifted))[0][0]))
    name = jax.tree_util.keystr(path)
    assert length > 1e-4, name
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(length, rel=0.01, abs=1e-4), name


def test_logits_depend_on_contrast(case):
  logit = jax.jit(functools.partial(case.module.apply, {"params": case.params}))
  for inputs in case.inputs:
    assert np.all(np.abs(logit(inputs) - logit(inputs / 2)) > 1e-3)


def test_logits_are_float32_in_bfloat16(case):
  module, inputs = case.module.clone(dtype=jnp.bfloat16), case.inputs[0].astype(jnp.bfloat16)
  logits, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), inputs)
  assert (logits.shape, logits.dtype) == ((2,), jnp.float32)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  assert set(variables) == {"params"}
