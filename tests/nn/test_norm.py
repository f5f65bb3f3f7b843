"""Batch normalisation, per time step and over time, and layer normalisation, against numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.norm import BATCH_STATS, BatchNorm, ConditionalBatchNorm, LayerNorm

EPSILON = 1e-5


def _video(seed: int = 0, frames: int = 3) -> np.ndarray:
  """[4, frames, 2, 5, 2] whose frames differ in mean and spread."""
  rng = np.random.default_rng(seed)
  places = np.arange(frames).reshape(1, -1, 1, 1, 1)
  return ((places + 1) * rng.normal(size=(4, frames, 2, 5, 2)) + 10 * places).astype(np.float32)


def _moments(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and (biased) variance over batch and space, [T, C]."""
  frames, channels = video.shape[1], video.shape[-1]
  mean, var = np.zeros((2, frames, channels))
  for t in range(frames):
    for c in range(channels):
      values = video[:, t, :, :, c].astype(np.float64).ravel()
      mean[t, c] = sum(values) / len(values)
      var[t, c] = sum((value - mean[t, c]) ** 2 for value in values) / len(values)
  return mean, var


def _normalise(video: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
  expand = (None, slice(None), None, None)
  return (video - mean[expand]) / np.sqrt(var[expand] + EPSILON)


def _run(momentum: float, video: np.ndarray):
  module = BatchNorm(momentum=momentum)
  variables = module.init(jax.random.key(0), jnp.asarray(video), train=True)
  return module.apply(variables, jnp.asarray(video), train=True, mutable=[BATCH_STATS])


def test_every_time_step_is_normalised_by_its_own_moments():
  video = _video()
  output, _ = _run(0.9, video)
  np.testing.assert_allclose(output, _normalise(video, *_moments(video)), atol=1e-4)
  np.testing.assert_allclose(jnp.mean(output, axis=(0, 2, 3)), np.zeros((3, 2)), atol=1e-5)
  np.testing.assert_allclose(jnp.std(output, axis=(0, 2, 3)), np.ones((3, 2)), atol=1e-4)


def test_momentum_0_leaves_the_moments_of_the_batch():
  video = _video()
  _, variables = _run(0.0, video)
  mean, var = _moments(video)
  np.testing.assert_allclose(variables[BATCH_STATS]["mean"], mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(variables[BATCH_STATS]["var"], var, rtol=1e-4)


def test_momentum_weighs_the_old_statistics():
  video = _video()
  _, variables = _run(0.75, video)
  mean, var = _moments(video)
  # From mean 0 and variance 1.
  np.testing.assert_allclose(variables[BATCH_STATS]["mean"], 0.25 * mean, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(variables[BATCH_STATS]["var"], 0.75 + 0.25 * var, rtol=1e-4)


def test_evaluation_uses_the_stored_statistics_scale_and_bias():
  video = _video()
  mean, var = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([[1.0, 4.0], [9.0, 16.0], [25.0, 36.0]])
  variables = {
    "params": {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -0.5])},
    BATCH_STATS: {"mean": jnp.asarray(mean), "var": jnp.asarray(var)},
  }
  output = BatchNorm().apply(variables, jnp.asarray(video), train=False)
  expected = _normalise(video, mean, var) * [2.0, 3.0] + [0.5, -0.5]
  np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_another_length_are_rejected():
  module = BatchNorm()
  variables = module.init(jax.random.key(0), jnp.asarray(_video()), train=True)
  for frames in (1, 4):
    with pytest.raises(ValueError, match=r"\(3, 2\), but the input has .* at the length of the clips to sample"):
      module.apply(variables, jnp.asarray(_video(frames=frames)), train=False)


def test_bfloat16_keeps_statistics_and_parameters_in_float32():
  # Near 64 bfloat16 has steps of 0.5, too coarse for moments.
  video = jnp.asarray(64 + np.random.default_rng(0).choice([-1.0, 1.0], size=(8, 1, 8, 8, 1)), jnp.bfloat16)
  module = BatchNorm(momentum=0.0, dtype=jnp.bfloat16)
  variables = module.init(jax.random.key(0), video, train=True)
  output, stats = module.apply(variables, video, train=True, mutable=[BATCH_STATS])
  assert output.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, stats))} == {jnp.dtype(jnp.float32)}
  np.testing.assert_allclose(stats[BATCH_STATS]["var"], np.var(np.asarray(video, np.float64)), rtol=1e-3)


def _conditional(video: np.ndarray, condition: np.ndarray):
  rng = np.random.default_rng(1)
  maps = {name: rng.normal(size=(3, 2)).astype(np.float32) for name in ("scale", "offset")}
  module = ConditionalBatchNorm(momentum=0.0, spectral_norm=False)
  params = {name: {"kernel": jnp.asarray(kernel)} for name, kernel in maps.items()}
  output, _ = module.apply(
    {"params": params}, jnp.asarray(video), jnp.asarray(condition), train=True, mutable=[BATCH_STATS]
  )
  return output, maps


def test_the_conditional_scale_is_one_plus_a_linear_map():
  video, condition = _video(), np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
  output, maps = _conditional(video, condition)
  normalised = _normalise(video, *_moments(video))
  for b in range(4):
    scale, offset = 1 + condition[b] @ maps["scale"], condition[b] @ maps["offset"]
    np.testing.assert_allclose(output[b], normalised[b] * scale + offset, rtol=1e-4, atol=1e-4)


def test_a_condition_per_frame():
  video, condition = _video(), np.random.default_rng(2).normal(size=(4, 3, 3)).astype(np.float32)
  output, maps = _conditional(video, condition)
  normalised = _normalise(video, *_moments(video))
  for b, t in np.ndindex(4, 3):
    scale, offset = 1 + condition[b, t] @ maps["scale"], condition[b, t] @ maps["offset"]
    np.testing.assert_allclose(output[b, t], normalised[b, t] * scale + offset, rtol=1e-4, atol=1e-4)


def test_the_conditional_layer_has_no_other_gain():
  video, condition = jnp.asarray(_video()), jnp.zeros((4, 3))
  init = functools.partial(ConditionalBatchNorm().init, train=True)
  variables = jax.eval_shape(init, jax.random.key(0), video, condition)
  shapes = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
    for path, leaf in jax.tree.leaves_with_path(variables["params"])
  }
  assert shapes == {"scale/kernel": (3, 2), "offset/kernel": (3, 2)}


def test_statistics_over_time_as_well():
  video = _video()
  module = BatchNorm(per_frame=False, momentum=0.75)
  variables = module.init(jax.random.key(0), jnp.asarray(video), train=True)
  variables = {"params": {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -0.5])}} | {
    BATCH_STATS: variables[BATCH_STATS]
  }
  output, stats = module.apply(variables, jnp.asarray(video), train=True, mutable=[BATCH_STATS])
  values = video.astype(np.float64).reshape(-1, 2)
  mean, var = values.mean(axis=0), values.var(axis=0)
  # The means of the frames differ by 10, so the variance over time exceeds the mean of the frames' variances.
  assert np.all(var > 1.5 * _moments(video)[1].mean(axis=0))
  np.testing.assert_allclose(stats[BATCH_STATS]["mean"], 0.25 * mean, rtol=1e-4)
  np.testing.assert_allclose(stats[BATCH_STATS]["var"], 0.75 + 0.25 * var, rtol=1e-4)
  expected = (video - mean) / np.sqrt(var + EPSILON) * [2.0, 3.0] + [0.5, -0.5]
  np.testing.assert_allclose(output, expected, atol=1e-4)


def test_statistics_over_time_fit_clips_of_any_length():
  module = BatchNorm(per_frame=False)
  variables = {
    "params": {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -0.5])},
    BATCH_STATS: {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 9.0])},
  }
  for frames in (1, 3, 4):
    video = _video(frames=frames)
    expected = (video - [1.0, 2.0]) / np.sqrt(np.array([4.0, 9.0]) + EPSILON) * [2.0, 3.0] + [0.5, -0.5]
    output = module.apply(variables, jnp.asarray(video), train=False)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


LAYER_PARAMS = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([0.5, -0.5])}


@pytest.mark.parametrize("shape", [(2, 3, 2, 5, 2), (3, 2, 5, 2)], ids=["videos", "images"])
def test_layer_norm_is_over_all_axes_except_the_batch(shape):
  x = (np.random.default_rng(0).normal(size=shape) * 3 + np.arange(2)).astype(np.float32)
  variables = LayerNorm().init(jax.random.key(0), jnp.asarray(x))
  assert jax.tree.map(jnp.shape, variables) == {"params": {"scale": (2,), "bias": (2,)}}
  expected = np.empty(shape)
  for b in range(shape[0]):
    values = x[b].astype(np.float64).ravel()
    mean = sum(values) / len(values)
    var = sum((value - mean) ** 2 for value in values) / len(values)
    expected[b] = (x[b] - mean) / np.sqrt(var + EPSILON)
  np.testing.assert_allclose(LayerNorm().apply(variables, jnp.asarray(x)), expected, atol=1e-5)
  scaled = LayerNorm().apply({"params": LAYER_PARAMS}, jnp.asarray(x))
  np.testing.assert_allclose(scaled, expected * [2.0, 3.0] + [0.5, -0.5], atol=1e-5)


def test_layer_norm_treats_examples_separately():
  x = jnp.asarray(_video())
  output = LayerNorm().apply({"params": LAYER_PARAMS}, x)
  changed = LayerNorm().apply({"params": LAYER_PARAMS}, x.at[2].multiply(-3.0))
  np.testing.assert_array_equal(np.delete(changed, 2, axis=0), np.delete(output, 2, axis=0))
  assert float(jnp.max(jnp.abs(changed[2] - output[2]))) > 1.0


def test_layer_norm_of_equal_values_has_finite_second_derivatives():
  # With E[x^2] - E[x]^2 rounding would give a variance of about -1e-3, with a root of NaN.
  x = jnp.full((1, 3, 3, 2), 100.1)

  def steepness(x):
    output = lambda x: jnp.sum(LayerNorm().apply({"params": LAYER_PARAMS}, x)[..., 0])
    return jnp.sum(jnp.square(jax.grad(output)(x)))

  # y = 2 (x - mean) / s of one of two channels: dy/dx is 2 / s (1 - 1/2) there and -2 / s 1/2 in the other one, with
  # s^2 = 1e-5: 18 times 1 / s^2.
  value, gradient = jax.jit(jax.value_and_grad(steepness))(x)
  assert float(value) == pytest.approx(18 / EPSILON, rel=1e-3)
  assert np.all(np.isfinite(gradient))


def test_layer_norm_computes_moments_in_float32():
  # Near 64 bfloat16 has steps of 0.5, too coarse for moments.
  x = jnp.asarray(64 + np.random.default_rng(0).choice([-1.0, 1.0], size=(2, 8, 8, 2)), jnp.bfloat16)
  variables = LayerNorm(dtype=jnp.bfloat16).init(jax.random.key(0), x)
  output = LayerNorm(dtype=jnp.bfloat16).apply(variables, x)
  assert output.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
  values = np.asarray(x, np.float64)
  expected = (values - values.mean(axis=(1, 2, 3), keepdims=True)) / values.std(axis=(1, 2, 3), keepdims=True)
  np.testing.assert_allclose(np.asarray(output, np.float64), expected, rtol=0.01)
