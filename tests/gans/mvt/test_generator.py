"""The generator's parts against loops, and which inputs each frame depends on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.mvt.networks import FrameGenerator, Generator, SequenceGenerator
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS

BATCH, FRAMES, FEATURES, HIDDEN = 3, 4, 5, 7


def _draw(shapes, seed: int = 0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: (0.5 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_sequence_generator_against_a_loop(spectral_norm):
  module = SequenceGenerator(HIDDEN, spectral_norm=spectral_norm)
  latent = np.random.default_rng(1).normal(size=(BATCH, FEATURES)).astype(np.float32)
  init = functools.partial(module.init, num_frames=FRAMES, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), latent)
  params, stats = _draw(shapes["params"]), shapes.get(SPECTRAL_STATS, {})
  apply = functools.partial(module.apply, num_frames=FRAMES, train=True, mutable=[BATCH_STATS, SPECTRAL_STATS])
  ones = {SPECTRAL_STATS: jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), stats)}
  found, variables = jax.jit(apply)({"params": params, **ones}, latent)

  def affine(x, weights):
    return x @ weights["kernel"] + weights.get("bias", 0)

  def normalised(weights):
    kernel = weights["kernel"]
    v = kernel.sum(axis=1) / np.linalg.norm(kernel.sum(axis=1))
    return weights | {"kernel": kernel / np.linalg.norm(v @ kernel)} if spectral_norm else weights

  gru, x = params["cell"]["gru"], affine(latent, normalised(params["input"]))
  output = normalised(params["output"] if spectral_norm else params["cell"]["output"])
  state, outputs = np.zeros((BATCH, HIDDEN)), []
  for _ in range(FRAMES):
    r = _sigmoid(affine(x, gru["ir"]) + affine(state, gru["hr"]))
    z = _sigmoid(affine(x, gru["iz"]) + affine(state, gru["hz"]))
    n = np.tanh(affine(x, gru["in"]) + r * affine(state, gru["hn"]))
    state = (1 - z) * n + z * state
    x = affine(state, output)  # Also the next input.
    outputs.append(x)
  outputs = np.stack(outputs, axis=1)
  mean, var = outputs.mean(axis=0), outputs.var(axis=0)
  np.testing.assert_allclose(found, (outputs - mean) / np.sqrt(var + 1e-5), rtol=1e-3, atol=1e-3)
  # One power iteration per pass, not per frame, and every time step has its own statistics.
  np.testing.assert_allclose(variables[BATCH_STATS]["norm"]["mean"], 0.1 * mean, rtol=1e-3, atol=1e-5)


@functools.cache
def _frames(shifted_blocks: int):
  """Returns (compiled frame generator in evaluation mode, its condition)."""
  module = FrameGenerator((24, 24, 24, 24), first_size=(2, 2), attention_after=1, shifted_blocks=shifted_blocks)
  condition = np.random.default_rng(1).normal(size=(2, 6, FEATURES)).astype(np.float32)
  shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), condition)
  variables = {**_draw(shapes), BATCH_STATS: jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1), shapes[BATCH_STATS])}
  return jax.jit(functools.partial(module.apply, variables, train=False)), condition


@pytest.mark.parametrize(("shifted_blocks", "reach"), [(0, 0), (1, 1), (2, 2)])
def test_shifts_extend_the_range_of_conditions_that_a_frame_depends_on(shifted_blocks, reach):
  apply, condition = _frames(shifted_blocks)
  frames = apply(condition)
  assert frames.shape == (2, 6, 16, 16, 3)
  changed = condition.copy()
  changed[1, 2] += 1.0
  difference = np.abs(apply(changed) - frames).max(axis=(2, 3, 4))
  expected = np.zeros((2, 6), bool)
  expected[1, max(0, 2 - reach) : 2 + reach + 1] = True
  np.testing.assert_array_equal(difference > 1e-6, expected)


def test_clips_depend_on_class_and_latent():
  frames = FrameGenerator((8, 8), first_size=(2, 2))
  module = Generator(SequenceGenerator(HIDDEN), frames, num_classes=3, class_features=4)
  latent = np.random.default_rng(1).normal(size=(3, FEATURES)).astype(np.float32)
  latent[1] = latent[0]
  label = np.array([0, 1, 0])
  options = {"num_frames": 2, "train": False}
  variables = jax.jit(functools.partial(module.init, **options))(jax.random.key(0), latent, label)
  clips = jax.jit(functools.partial(module.apply, **options))(variables, latent, label)
  assert clips.shape == (3, 2, 4, 4, 3)
  assert float(jnp.abs(clips).max()) <= 1
  assert np.abs(clips[0] - clips[1]).max() > 1e-4  # Another class.
  assert np.abs(clips[0] - clips[2]).max() > 1e-4  # Another latent.
  embedded = module.apply(variables, label, method="embed")
  decode = jax.jit(functools.partial(module.apply, **options, method="decode"))
  np.testing.assert_allclose(decode(variables, latent, embedded), clips, atol=1e-6)
