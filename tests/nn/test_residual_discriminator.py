"""The discriminator: shapes, sizes, and its head against numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.biggan import DiscriminatorBlock, ResidualDiscriminator


def _shapes(module: ResidualDiscriminator, *video: int):
  """(scores, variables) as shapes."""
  init = functools.partial(module.init_with_output, train=True)
  label = jax.ShapeDtypeStruct(video[:1], jnp.int32)
  return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(video, jnp.float32), label)


def _size(variables) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _affine(inputs: int, outputs: int) -> int:
  return inputs * outputs + outputs


@pytest.mark.parametrize(("resolution", "frames"), [(64, 8), (32, 16)])
@pytest.mark.parametrize("remat", [False, True])
def test_scores_per_clip_and_time_step(resolution, frames, remat):
  module = ResidualDiscriminator((2, 4, 8, 16, 16), num_temporal_blocks=2, remat=remat)
  scores, _ = _shapes(module, 3, frames, resolution, resolution, 3)
  assert scores.unconditional.shape == scores.conditional.shape == (3, frames)


def test_temporal_blocks_can_halve_time():
  scores, _ = _shapes(ResidualDiscriminator((2, 4, 8), num_temporal_blocks=2, downsample_time=True), 3, 16, 16, 16, 3)
  assert scores.unconditional.shape == (3, 4)


def test_size_of_a_tiny_network_by_hand():
  _, variables = _shapes(ResidualDiscriminator((2, 3), num_temporal_blocks=1, num_classes=4), 1, 2, 4, 4, 1)
  # Block 0, 1 -> 2 channels, 3x3x3: 27*1*2 + 2 = 56, 27*2*2 + 2 = 110, shortcut 1*2 + 2 = 4.
  # Block 1, 2 -> 3 channels, 3x3: 9*2*3 + 3 = 57, 9*3*3 + 3 = 84, shortcut 2*3 + 3 = 9.
  # Head: 3 + 1, and 4 classes of 3.
  assert _size(variables) == (56 + 110 + 4) + (57 + 84 + 9) + 4 + 12


@pytest.mark.parametrize("temporal", [0, 2])
def test_size_at_the_papers_width(temporal):
  widths = tuple(48 * m for m in (2, 4, 8, 16, 16))
  _, variables = _shapes(ResidualDiscriminator(widths, num_temporal_blocks=temporal), 1, 8, 32, 32, 3)
  expected, inputs = 0, 3
  for i, width in enumerate(widths):
    taps = 27 if i < temporal else 9
    expected += _affine(taps * inputs, width) + _affine(taps * width, width)
    expected += _affine(inputs, width) if i < 4 else 0  # the last block keeps the shape: its shortcut is the identity
    inputs = width
  expected += _affine(inputs, 1) + inputs
  assert _size(variables) == expected


@pytest.fixture(scope="module")
def framewise():
  """(a module without temporal convolutions, its params, the compiled module) for 3 clips of 4 frames."""
  module = ResidualDiscriminator((2, 3), num_classes=4, spectral_norm=False)
  _, variables = _shapes(module, 3, 4, 4, 4, 1)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), variables["params"])
  return module, params, jax.jit(functools.partial(module.apply, {"params": params}, train=False))


def _video() -> np.ndarray:
  return np.random.default_rng(1).normal(size=(3, 4, 4, 4, 1)).astype(np.float32)


def test_the_head_against_numpy(framewise):
  module, params, apply = framewise
  label = np.array([3, 0, 3])
  scores = apply(_video(), label)

  @jax.jit
  def trunk(x):
    for i, options in enumerate(({"preactivation": False}, {"downsample": False})):
      block = DiscriminatorBlock(module.widths[i], spectral_norm=False, **options)
      x = block.apply({"params": params[f"block_{i}"]}, x, False)
    return x

  features = np.maximum(trunk(_video()), 0).sum(axis=(2, 3))
  table = params["class_embedding"]["embedding"]
  for b, t in np.ndindex(3, 4):
    own = features[b, t] @ params["output"]["kernel"][:, 0] + params["output"]["bias"][0]
    assert float(scores.unconditional[b, t]) == pytest.approx(own, rel=1e-4, abs=1e-4)
    assert float(scores.conditional[b, t]) == pytest.approx(features[b, t] @ table[label[b]], rel=1e-4, abs=1e-4)


def test_frames_are_scored_separately(framewise):
  _, _, apply = framewise
  label, order = np.array([1, 2, 0]), [2, 0, 3, 1]
  scores, permuted = apply(_video(), label), apply(_video()[:, order], label)
  np.testing.assert_allclose(permuted.unconditional, scores.unconditional[:, np.array(order)], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(permuted.conditional, scores.conditional[:, np.array(order)], rtol=1e-4, atol=1e-4)


def test_temporal_convolutions_are_in_the_first_blocks():
  _, variables = _shapes(ResidualDiscriminator((2, 3, 4), num_temporal_blocks=2), 1, 3, 8, 8, 1)
  ranks = {i: variables["params"][f"block_{i}"]["conv_0"]["kernel"].shape[:-2] for i in range(3)}
  assert ranks == {0: (3, 3, 3), 1: (3, 3, 3), 2: (3, 3)}


def test_bfloat16_scores_are_float32():
  module = ResidualDiscriminator((2, 3), dtype=jnp.bfloat16)
  apply = functools.partial(module.apply, train=True, capture_intermediates=True, mutable=["intermediates"])
  video, label = jnp.zeros((1, 2, 4, 4, 1)), jnp.zeros((1,), jnp.int32)
  _, variables = _shapes(module, *video.shape)
  scores, captured = jax.eval_shape(apply, variables, video, label)
  assert scores.unconditional.dtype == scores.conditional.dtype == jnp.float32
  for i in range(2):
    assert captured["intermediates"][f"block_{i}"]["__call__"][0].dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
