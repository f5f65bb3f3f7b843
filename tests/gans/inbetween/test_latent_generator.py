"""The latent generator against eqs. 1 to 5 of Inbetweening written as loops; unrolling, recomputation and levels."""

import contextlib
import functools
import operator
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.inbetween.latent_generator import (
  LatentGenerator,
  LatentLevel,
  StackedEncodings,
  level_lengths,
  resize_time,
)
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.ops import loops

BATCH, SIZE, FEATURES, LATENT, FRAMES = 2, 3, 3, 5, 8
BLOCKS = (1, 2)


def _draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


ENDS, NOISE = _draw((BATCH, 2, SIZE, SIZE, FEATURES), 1), _draw((BATCH, LATENT), 2)


def _generator(**options):
  return LatentGenerator(BLOCKS, FEATURES, **options)


def _variables(module, *inputs, seed=3, **options):
  """Random variables drawn with NumPy; variances are positive."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    values = rng.normal(size=shape.shape).astype(np.float32)
    return jnp.asarray(np.abs(values) + 0.5 if path[-1].key == "var" else 0.5 * values)

  init = functools.partial(module.init, train=False, **options)
  return jax.tree.map_with_path(leaf, jax.eval_shape(init, jax.random.key(0), *inputs))


def _leaky(x):
  return np.where(x > 0, x, 0.2 * x)


def _convolve(x, kernel):
  """A 3x3x3 convolution with zero padding, tap by tap."""
  _, frames, height, width, _ = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
  y = np.zeros((*x.shape[:-1], kernel.shape[-1]))
  for t, i, j in np.ndindex(3, 3, 3):
    y += padded[:, t : t + frames, i : i + height, j : j + width] @ kernel[t, i, j]
  return y


def _normalise(x, params, stats, new_stats, train):
  mean, var = stats["mean"], stats["var"]
  if train:
    values = x.reshape(-1, x.shape[-1])
    mean, var = values.mean(axis=0), values.var(axis=0)
  new_stats |= {"mean": 0.9 * stats["mean"] + 0.1 * mean, "var": 0.9 * stats["var"] + 0.1 * var}
  return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]


def _control(u, kernel, bias):
  """A convolution of [B, T, C] along time with width 3 and zero padding."""
  batch, length, _ = u.shape
  y = np.zeros((batch, length, kernel.shape[-1]))
  for b, t in np.ndindex(batch, length):
    y[b, t] = bias[0, 0]
    for tap in range(3):
      if 0 <= t + tap - 1 < length:
        y[b, t] += u[b, t + tap - 1] @ kernel[tap]
  return y


def _block(z, params, stats, new_stats, *, fusion, train, kept_counts):
  u = np.zeros((BATCH, z.shape[1], FEATURES))
  for b, t, c in np.ndindex(*u.shape):
    u[b, t, c] = params["noise_kernel"][:, t, c] @ NOISE[b] + params["noise_bias"][0, t, c]
  control = _control(u, params["control_kernel"], params["control_bias"])
  start, end = ENDS[:, 0].astype(np.float64), ENDS[:, 1].astype(np.float64)
  fused = np.zeros(z.shape)
  for b, t, c in np.ndindex(*u.shape):
    if fusion:
      start_gate = 1 / (1 + np.exp(-control[b, t, c]))
      end_gate = 1 / (1 + np.exp(-control[b, t, FEATURES + c]))
      kept = max(0.0, 1 - start_gate - end_gate)
      kept_counts[int(kept > 0)] += 1
      fused[b, t, :, :, c] = start_gate * start[b, :, :, c] + end_gate * end[b, :, :, c] + kept * z[b, t, :, :, c]
      fused[b, t, :, :, c] += control[b, t, 2 * FEATURES + c]
    else:
      fused[b, t, :, :, c] = z[b, t, :, :, c] + control[b, t, c]
  blocks, new_stats["conv_1"], new_stats["norm_2"] = params["blocks"], {"norm": {}}, {}
  inner = _convolve(fused, blocks["conv_1"]["conv"]["kernel"])
  stats_1 = (stats["conv_1"]["norm"], new_stats["conv_1"]["norm"])
  inner = _leaky(_normalise(inner, blocks["conv_1"]["norm"], *stats_1, train))
  residual = _convolve(inner, blocks["conv_2"]["kernel"])
  return _leaky(z + _normalise(residual, blocks["norm_2"], stats["norm_2"], new_stats["norm_2"], train))


def _reference(variables, *, fusion, train):
  """Returns (z of every block, new statistics by level and block, counts of closed and open gates of z), in float64."""
  variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
  z, outputs, new_stats, kept_counts = ENDS.astype(np.float64), [], {}, [0, 0]
  for level, count in enumerate(BLOCKS):
    # Two frames become four, four become eight.
    z = z[:, [0, 0, 1, 1] if level == 0 else [0, 0, 1, 1, 2, 2, 3, 3]]
    params, stats = variables["params"][f"level_{level}"], variables[BATCH_STATS][f"level_{level}"]["blocks"]
    for block in range(count):
      own = [jax.tree.map(operator.itemgetter(block), tree) for tree in (params, stats)]
      new_stats[level, block] = {}
      z = _block(z, *own, new_stats[level, block], fusion=fusion, train=train, kept_counts=kept_counts)
      outputs.append(z)
  return outputs, new_stats, kept_counts


@pytest.fixture(scope="module", params=[True, False], ids=["fusion", "no fusion"])
def case(request):
  """A generator's variables, and its outputs in evaluation and in train mode."""
  module = _generator(fusion=request.param)
  variables = _variables(module, ENDS, NOISE, num_frames=FRAMES)

  @jax.jit
  def run(variables):
    apply = functools.partial(module.apply, variables, ENDS, NOISE, num_frames=FRAMES)
    return apply(train=False), apply(train=False, every_block=True), apply(train=True, mutable=[BATCH_STATS])

  latent, every, (trained, updated) = run(variables)
  found = {"latent": latent, "every": every, "trained": trained, "stats": updated[BATCH_STATS]}
  return types.SimpleNamespace(fusion=request.param, variables=variables, **found)


def test_equations_1_to_5(case):
  expected, _, kept_counts = _reference(case.variables, fusion=case.fusion, train=False)
  # Both branches of max(0, 1 - g_s - g_e) occur.
  assert not case.fusion or min(kept_counts) > 20
  np.testing.assert_allclose(case.latent, expected[-1], rtol=1e-3, atol=1e-4)
  # Outputs of the last level only, in order.
  assert case.every.shape == (2, BATCH, FRAMES, SIZE, SIZE, FEATURES)
  np.testing.assert_allclose(case.every[0], expected[-2], rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(case.every[1], case.latent, rtol=1e-5, atol=1e-5)


def test_in_train_mode_moments_span_batch_time_and_space(case):
  expected, stats, _ = _reference(case.variables, fusion=case.fusion, train=True)
  np.testing.assert_allclose(case.trained, expected[-1], rtol=1e-3, atol=1e-3)
  for (level, block), new in stats.items():
    found = jax.tree.map(operator.itemgetter(block), case.stats[f"level_{level}"]["blocks"])
    assert jax.tree.structure(found) == jax.tree.structure(new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, new)


def test_unrolling_and_recomputation_do_not_change_results():
  def run(context, remat):
    level = LatentLevel(2, FEATURES, remat=remat)
    z, weight = _draw((BATCH, 3, SIZE, SIZE, FEATURES), 4), _draw((BATCH, 3, SIZE, SIZE, FEATURES), 5)
    variables = _variables(level, z, ENDS, NOISE)

    def loss(params, ends, noise):
      (z_last, _), updated = level.apply(
        {**variables, "params": params}, z, ends, noise, train=True, mutable=[BATCH_STATS]
      )
      return jnp.sum(weight * z_last), (z_last, updated)

    with context():
      return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(variables["params"], ENDS, NOISE)

  expected = run(contextlib.nullcontext, False)
  for options in ((loops.unrolled, False), (contextlib.nullcontext, True)):
    found = run(*options)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, np.abs(b).max()), err_msg=str(options))
  assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected[1]))


def test_evaluation_does_not_change_statistics():
  level = LatentLevel(2, FEATURES)
  z = _draw((BATCH, 4, SIZE, SIZE, FEATURES), 4)
  variables = _variables(level, z, ENDS, NOISE)
  (_, outputs), updated = level.apply(variables, z, ENDS, NOISE, train=False, mutable=[BATCH_STATS])
  assert outputs is None
  jax.tree.map(np.testing.assert_array_equal, updated, {BATCH_STATS: variables[BATCH_STATS]})


def test_initial_blocks_differ_and_are_scaled_by_their_number_of_inputs():
  wide = LatentLevel(2, 16)
  z, ends = jnp.zeros((1, 4, 2, 2, 16)), jnp.zeros((1, 2, 2, 2, 16))
  variables = jax.jit(functools.partial(wide.init, train=False))(jax.random.key(0), z, ends, jnp.zeros((1, 32)))
  params = variables["params"]
  for kernel in (params["noise_kernel"], params["control_kernel"], params["blocks"]["conv_2"]["kernel"]):
    assert float(jnp.min(jnp.std(kernel, axis=0))) > 0
  # LeCun's 1 / sqrt(number of inputs): 32 values of u for every frame and channel; 3 x 16 for each gate.
  assert float(jnp.std(params["noise_kernel"])) == pytest.approx(32**-0.5, rel=0.1)
  assert float(jnp.std(params["control_kernel"])) == pytest.approx((3 * 16) ** -0.5, rel=0.1)
  assert not np.any(params["noise_bias"])
  assert not np.any(params["control_bias"])
  stats = variables[BATCH_STATS]["blocks"]["norm_2"]
  np.testing.assert_array_equal(stats["mean"], np.zeros((2, 16)))
  np.testing.assert_array_equal(stats["var"], np.ones((2, 16)))


def test_resize_time():
  def frames(start, length):
    return np.asarray(resize_time(jnp.arange(float(start)).reshape(1, -1, 1, 1, 1), length))[0, :, 0, 0, 0].tolist()

  assert frames(2, 4) == [0, 0, 1, 1]
  assert frames(4, 8) == [0, 0, 1, 1, 2, 2, 3, 3]
  assert frames(2, 2) == [0, 1]
  # Frames floor(i 2 / 3) and floor(i 2 / 5).
  assert frames(2, 3) == [0, 0, 1]
  assert frames(2, 5) == [0, 0, 0, 1, 1]


def test_levels_double_time_from_four_to_sixteen_frames():
  module = LatentGenerator((1, 1, 1), FEATURES, fusion=False)
  variables = _variables(module, ENDS, NOISE, num_frames=16)
  lengths = [variables["params"][f"level_{level}"]["noise_kernel"].shape[2] for level in range(3)]
  assert lengths == [4, 8, 16]
  # Without residuals and with positive features h is the identity, and only resizing remains.
  for level in range(3):
    norm = variables["params"][f"level_{level}"]["blocks"]["norm_2"]
    norm |= jax.tree.map(jnp.zeros_like, norm)
  ends = np.abs(ENDS)
  apply = jax.jit(functools.partial(module.apply, num_frames=16, train=False))
  latent = apply(variables, ends, NOISE)
  np.testing.assert_array_equal(latent, np.repeat(ends, 8, axis=1))
  # z_0, the input of the first of three levels.
  np.testing.assert_array_equal(resize_time(ends, level_lengths(16, 3)[0]), ends[:, [0, 0, 1, 1]])


def test_level_lengths():
  assert level_lengths(16, 3) == (4, 8, 16)
  assert level_lengths(12, 3) == (3, 6, 12)
  assert level_lengths(7, 1) == (7,)


def test_in_bfloat16_variables_stay_float32():
  module = _generator(dtype=jnp.bfloat16)
  init = functools.partial(module.init_with_output, num_frames=FRAMES, train=True)
  latent, variables = jax.eval_shape(init, jax.random.key(0), ENDS, NOISE)
  assert latent.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_noise_of_the_naive_baseline_is_uniform_over_space():
  module = StackedEncodings()
  kernel, bias = _draw((LATENT, 2 * FEATURES), 6), _draw((2 * FEATURES,), 7)
  output = module.apply({"params": {"noise": {"kernel": kernel, "bias": bias}}}, ENDS, NOISE, num_frames=4, train=False)
  expected = ENDS.astype(np.float64)
  for b, frame, c in np.ndindex(BATCH, 2, FEATURES):
    expected[b, frame, :, :, c] += NOISE[b] @ kernel[:, frame * FEATURES + c] + bias[frame * FEATURES + c]
  np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
