"""Residual blocks against numpy, in the order of BigGAN's diagrams."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.biggan import DiscriminatorBlock, GeneratorBlock
from vidgen_jax.nn.norm import BATCH_STATS

EPSILON = 1e-5


def _params(module, *inputs):
  """Parameters of a module without spectral normalisation, drawn with numpy."""
  shapes = jax.eval_shape(lambda key: module.init(key, *inputs), jax.random.key(0))["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def _draw(*shape) -> np.ndarray:
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def _conv(x: np.ndarray, params) -> np.ndarray:
  """SAME convolution of [B, T, H, W, C] with a [(kt), kh, kw, in, out] kernel, and bias."""
  kernel = params["kernel"] if params["kernel"].ndim == 5 else params["kernel"][None]
  sizes = kernel.shape[:3]
  padded = np.pad(x, [(0, 0)] + [(k // 2, k // 2) for k in sizes] + [(0, 0)])
  out = np.zeros((*x.shape[:4], kernel.shape[-1]))
  for t, i, j in np.ndindex(*x.shape[1:4]):
    window = padded[:, t : t + sizes[0], i : i + sizes[1], j : j + sizes[2]]
    out[:, t, i, j] = np.einsum("zabcx,abcxo->zo", window, kernel)
  return out + params["bias"]


def _norm(x: np.ndarray, condition: np.ndarray, params) -> np.ndarray:
  mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
  scale, offset = (condition @ params[name]["kernel"] for name in ("scale", "offset"))
  expand = (slice(None), None, None, None)
  return (x - mean) / np.sqrt(var + EPSILON) * (1 + scale[expand]) + offset[expand]


def _relu(x: np.ndarray) -> np.ndarray:
  return np.maximum(x, 0)


def _up(x: np.ndarray) -> np.ndarray:
  return x.repeat(2, axis=2).repeat(2, axis=3)


def _pool(x: np.ndarray) -> np.ndarray:
  return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


@pytest.mark.parametrize(
  ("features", "upsample"),
  [(3, False), (2, False), (3, True), (2, True)],
  ids=["same", "narrower", "up", "up-narrower"],
)
def test_generator_block(features, upsample):
  x, condition = _draw(2, 2, 4, 3, 3), _draw(2, 4)
  module = GeneratorBlock(features, upsample=upsample, spectral_norm=False)
  params = _params(module, x, condition, True)
  apply = jax.jit(lambda *inputs: module.apply({"params": params}, *inputs, True, mutable=[BATCH_STATS]))
  output, _ = apply(x, condition)

  up = _up if upsample else lambda x: x
  y = _conv(up(_relu(_norm(x, condition, params["norm_0"]))), params["conv_0"])
  y = _conv(_relu(_norm(y, condition, params["norm_1"])), params["conv_1"])
  # Upsampling before the 1x1 convolution, unlike the module.
  changed = upsample or features != 3
  shortcut = _conv(up(x), params["conv_shortcut"]) if changed else x
  assert ("conv_shortcut" in params) == changed
  np.testing.assert_allclose(output, y + shortcut, rtol=1e-3, atol=1e-3)


def test_a_temporal_shift_applies_to_the_branch_only():
  x, condition = _draw(2, 4, 3, 3, 6), _draw(2, 4, 5)
  module = GeneratorBlock(6, shift_divisor=3, bn_per_frame=False, spectral_norm=False)
  params = _params(module, x, condition, True)
  output, _ = jax.jit(lambda *inputs: module.apply({"params": params}, *inputs, True, mutable=[BATCH_STATS]))(
    x, condition
  )

  def norm(y, params):
    """Statistics over batch, time and space; condition [b, t] gives the gains of frame t of clip b."""
    moments = {"axis": (0, 1, 2, 3), "keepdims": True}
    scale, offset = (np.einsum("btd,dc->btc", condition, params[name]["kernel"]) for name in ("scale", "offset"))
    normalised = (y - y.mean(**moments)) / np.sqrt(y.var(**moments) + EPSILON)
    return normalised * (1 + scale[:, :, None, None]) + offset[:, :, None, None]

  shifted = np.zeros_like(x)
  shifted[:, 1:, ..., :2] = x[:, :-1, ..., :2]
  shifted[:, :-1, ..., 2:4] = x[:, 1:, ..., 2:4]
  shifted[..., 4:] = x[..., 4:]
  y = _conv(_relu(norm(shifted, params["norm_0"])), params["conv_0"])
  y = _conv(_relu(norm(y, params["norm_1"])), params["conv_1"])
  np.testing.assert_allclose(output, y + x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
  ("features", "options"),
  [
    (2, {"preactivation": False}),
    (2, {}),
    (3, {"downsample": False}),
    (2, {"downsample": False}),
    (2, {"temporal_kernel": 3, "downsample_time": True}),
  ],
  ids=["first", "middle", "last", "last-wider", "temporal"],
)
def test_discriminator_block(features, options):
  x = _draw(2, 4, 4, 6, 3)
  module = DiscriminatorBlock(features, spectral_norm=False, **options)
  params = _params(module, x, True)
  output = jax.jit(lambda x: module.apply({"params": params}, x, True))(x)

  y = _relu(x) if options.get("preactivation", True) else x
  y = _conv(_relu(_conv(y, params["conv_0"])), params["conv_1"])
  downsample = options.get("downsample", True)
  changed = downsample or features != 3
  # The 1x1 convolution before pooling, unlike the module.
  shortcut = _conv(x, params["conv_shortcut"]) if changed else x
  expected = _pool(y) + _pool(shortcut) if downsample else y + shortcut
  if options.get("downsample_time"):
    expected = (expected[:, ::2] + expected[:, 1::2]) / 2
  assert ("conv_shortcut" in params) == changed
  np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)


def test_only_the_branch_has_temporal_kernels():
  params = _params(DiscriminatorBlock(2, temporal_kernel=3), _draw(1, 3, 4, 4, 5), True)
  shapes = {name: layer["kernel"].shape for name, layer in params.items()}
  assert shapes == {"conv_0": (3, 3, 3, 5, 2), "conv_1": (3, 3, 3, 2, 2), "conv_shortcut": (1, 1, 5, 2)}


@pytest.mark.parametrize("upsample", [False, True])
def test_bfloat16_blocks(upsample):
  x, condition = jnp.zeros((2, 3, 8, 8, 4), jnp.bfloat16), jnp.zeros((2, 5))
  module = GeneratorBlock(6, upsample=upsample, dtype=jnp.bfloat16)
  init = functools.partial(module.init_with_output)
  output, variables = jax.eval_shape(lambda key: init(key, x, condition, True), jax.random.key(0))
  assert (output.shape, output.dtype) == ((2, 3, 16, 16, 6) if upsample else (2, 3, 8, 8, 6), jnp.bfloat16)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
