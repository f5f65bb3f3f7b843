"""The classifiers without PyTorch: sizes counted by hand, names, training mode, small inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.scores.networks import C3D, I3D, NETWORKS, TSN, ResNet3D
from vidgen_jax.scores.networks.i3d import MIXED_CHANNELS
from vidgen_jax.scores.networks.layers import ClassifierOutput, ResidualBlock, Stem
from vidgen_jax.scores.networks.tsn import middle_frames, random_frames


def _shapes(module, *video):
  """(output, variables) as shapes."""
  init = functools.partial(module.init_with_output, jax.random.key(0))
  return jax.eval_shape(init, jax.ShapeDtypeStruct(video, jnp.float32))


def _size(tree) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _names(tree) -> set[str]:
  return {"/".join(entry.key for entry in path) for path, _ in jax.tree.leaves_with_path(tree)}


def test_size_of_i3d():
  output, variables = _shapes(I3D(), 2, 9, 224, 224, 3)
  assert _size(variables) == 12_704_544
  assert output.logits.shape == (2, 400)
  assert output.features.shape == (2, 1024)
  # From the table of channels: a unit of n outputs has a kernel and 3 n values of normalisation.
  units = [(343 * 3, 64), (64, 64), (27 * 64, 192)]
  inputs = 192
  for b0, b1a, b1b, b2a, b2b, b3b in MIXED_CHANNELS.values():
    units += [(inputs, n) for n in (b0, b1a, b2a, b3b)] + [(27 * b1a, b1b), (27 * b2a, b2b)]
    inputs = b0 + b1b + b2b + b3b
  assert inputs == 1024
  assert _size(variables) == sum((taps + 3) * n for taps, n in units) + 1024 * 400 + 400


def test_names_of_i3d():
  _, variables = _shapes(I3D(), 1, 9, 224, 224, 3)
  blocks = [f"Mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]
  units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
  units += [f"{block}/{unit}" for block in blocks for unit in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")]
  params = {f"{unit}/{leaf}" for unit in units for leaf in ("conv/kernel", "norm/bias")}
  assert _names(variables["params"]) == params | {"logits/conv/kernel", "logits/conv/bias"}
  assert _names(variables["batch_stats"]) == {f"{unit}/norm/{leaf}" for unit in units for leaf in ("mean", "var")}


def test_size_of_c3d():
  output, variables = _shapes(C3D(), 2, 16, 112, 112, 3)
  assert output.logits.shape == (2, 101)
  assert output.features.shape == (2, 4096)
  # Convolutions, 27 * in * out + out: 5,248 + 221,312 + 884,992 + 1,769,728 + 3,539,456 + 3 * 7,078,400 = 27,655,936;
  # fc6 8192 * 4096 + 4096 = 33,558,528; fc7 4096^2 + 4096 = 16,781,312; fc8 4096 * 101 + 101 = 413,797.
  assert _size(variables) == 27_655_936 + 33_558_528 + 16_781_312 + 413_797 == 78_409_573
  # 112 / 16 = 7 pixels reach the last pool and 4 leave it; 16 frames become 1: 512 * 1 * 4 * 4 = 8192.
  assert variables["params"]["fc6"]["kernel"].shape == (8192, 4096)
  convolutions = ["conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"]
  layers = [*convolutions, "fc6", "fc7", "fc8"]
  assert _names(variables) == {f"params/{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")}


def test_size_of_the_3d_resnet():
  output, variables = _shapes(ResNet3D(400), 2, 8, 32, 32, 3)
  assert output.features.shape == (2, 512)
  # Stem 147 * 3 * 64 + 128 = 28,352. Layer 1: four times 27 * 64^2, and 4 norms: 442,880. Layer 2: 27 * (64 * 128
  # + 3 * 128^2) + 64 * 128 + 5 * 256 = 1,557,760. Layers 3 and 4 likewise 6,228,480 and 24,908,800. fc 205,200.
  assert _size(variables["params"]) == 28_352 + 442_880 + 1_557_760 + 6_228_480 + 24_908_800 + 205_200 == 33_371_472
  # Hara's stem has 343 taps instead of 147.
  _, hara = _shapes(ResNet3D(400, stem="hara"), 2, 8, 32, 32, 3)
  assert _size(hara["params"]) - _size(variables["params"]) == (343 - 147) * 3 * 64
  names = _names(variables["params"])
  assert {"stem/conv/kernel", "stem/norm/scale", "layer1_0/conv_0/kernel", "layer4_1/norm_1/bias"} <= names
  assert {"layer2_0/shortcut_conv/kernel", "layer2_0/shortcut_norm/scale", "fc/kernel", "fc/bias"} <= names
  # 20 convolutions, 20 norms of two, one dense layer of two; no shortcut convolution in layer 1.
  assert len(names) == 20 + 2 * 20 + 2
  assert not any(name.startswith("layer1_0/shortcut") for name in names)


def test_size_of_the_2d_resnet():
  output, variables = _shapes(TSN(1000), 2, 16, 64, 64, 3)
  assert output.logits.shape == (2, 1000)
  assert output.features.shape == (2, 2048)
  # Layer with f channels from i inputs: i f + 9 f^2 + 4 f^2 in the first block, i 4 f for its shortcut, 17 f^2 in
  # each further one; norms of 2 (f + f + 4 f) = 12 f per block and 8 f for the shortcut's.
  expected, inputs = 49 * 3 * 64 + 128, 64
  for blocks, f in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True):
    expected += 5 * inputs * f + 13 * f * f + (blocks - 1) * 17 * f * f + blocks * 12 * f + 8 * f
    inputs = 4 * f
  assert _size(variables["params"]) == expected + 2048 * 1000 + 1000 == 25_557_032
  assert variables["params"]["layer1_0"]["conv_1"]["kernel"].shape == (3, 3, 64, 64)


@pytest.mark.parametrize("frames", [4, 8])
def test_i3d_refuses_clips_that_are_too_short(frames):
  with pytest.raises(ValueError, match=r"at least 9 frames.*224"):
    _shapes(I3D(), 1, frames, 224, 224, 3)


@pytest.mark.parametrize("size", [(192, 224), (224, 225)])
def test_i3d_refuses_other_sizes(size):
  with pytest.raises(ValueError, match="193 to 224 pixels"):
    _shapes(I3D(), 1, 9, *size, 3)
  output, _ = _shapes(I3D(), 1, 9, 193, 224, 3)
  assert output.logits.shape == (1, 400)


def test_other_networks_refuse_small_clips():
  with pytest.raises(ValueError, match="8 frames of 16x16"):
    _shapes(C3D(), 1, 7, 112, 112, 3)
  with pytest.raises(ValueError, match="at least 3 frames"):
    _shapes(TSN(2), 1, 2, 32, 32, 3)
  with pytest.raises(ValueError, match="torchvision"):
    _shapes(ResNet3D(2, stem="other"), 1, 8, 32, 32, 3)


SMALL = {
  "i3d": (I3D(5, width=0.125, pool_window=(2, 1, 1)), (2, 9, 32, 32, 3)),
  "c3d": (C3D(5, width=0.125), (2, 8, 16, 16, 3)),
  "r3d18": (ResNet3D(5, width=4), (2, 8, 16, 16, 3)),
  "tsn": (TSN(5, width=4), (2, 3, 32, 32, 3)),
}


def test_small_networks_cover_the_registry():
  # The others are fixed feature networks, see test_current_parity.py and test_builtin.py.
  known = {"inception", "videomae", "vjepa", "video_statistics"}
  assert {name: type(module) for name, (module, _) in SMALL.items()} == {
    name: kind for name, kind in NETWORKS.items() if name not in known
  }


@pytest.mark.parametrize("name", SMALL)
def test_results_are_float32_also_in_lower_precision(name):
  module, video = SMALL[name]
  output, variables = _shapes(module.clone(dtype=jnp.bfloat16), *video)
  assert isinstance(output, ClassifierOutput)
  assert (output.logits.shape, output.logits.dtype, output.features.dtype) == ((2, 5), jnp.float32, jnp.float32)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}


def _filled(shapes):
  """Random variables of these shapes; the initializers would take longer than the test."""
  generator = np.random.default_rng(0)

  def fill(path, leaf):
    if path[-1].key in ("scale", "var"):
      return np.ones(leaf.shape, np.float32)
    fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100.0
    return generator.normal(0, np.sqrt(2 / fan_in), leaf.shape).astype(np.float32)

  return jax.tree.map_with_path(fill, shapes)


@pytest.mark.parametrize("name", ["r3d18", "tsn"])
def test_training_updates_every_statistic_and_nothing_else_does(name):
  module, shape = SMALL[name]
  video = jax.random.normal(jax.random.key(1), shape)
  variables = _filled(_shapes(module, *shape)[1])
  keys = {"dropout": jax.random.key(2), "frames": jax.random.key(3)}

  @jax.jit
  def statistics(variables, video):
    runs = [module.apply(variables, video, train=t, rngs=keys, mutable=["batch_stats"])[1] for t in (True, False)]
    return [run["batch_stats"] for run in runs]

  trained, untouched = statistics(variables, video)
  before = variables["batch_stats"]
  assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.all(a != b)), before, trained)))
  jax.tree.map(np.testing.assert_array_equal, untouched, before)


BASIC, BOTTLENECK = ((3, 3, 3), (3, 3, 3)), ((1, 1), (3, 3), (1, 1))


@pytest.mark.parametrize(
  "block",
  [
    ResidualBlock((4, 4), BASIC, 2),
    ResidualBlock((3, 3), BASIC),
    ResidualBlock((2, 2, 8), BOTTLENECK, 2),
    ResidualBlock((2, 2, 8), BOTTLENECK),
  ],
)
def test_blocks_pass_gradients_to_all_their_parameters(block):
  video = jax.random.normal(jax.random.key(1), (2, 4, 6, 6, 3))

  @jax.jit
  def gradients(video):
    variables = block.init(jax.random.key(0), video, False)
    loss = lambda params: jnp.square(block.apply({"params": params}, video, True, mutable=["batch_stats"])[0]).sum()
    return jax.grad(loss)(variables["params"])

  for leaf in jax.tree.leaves(gradients(video)):
    assert np.all(np.isfinite(leaf))
    assert np.any(leaf)


def test_dropout_acts_in_training_only():
  module = C3D(5, width=0.02)
  video = jax.random.normal(jax.random.key(1), (2, 8, 16, 16, 3))
  variables = _filled(_shapes(module, *video.shape)[1])

  @functools.partial(jax.jit, static_argnums=1)
  def run(key, train):
    return module.apply(variables, video, train=train, rngs={"dropout": key})

  first, again, other = (run(jax.random.key(seed), True) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first.logits, again.logits)
  assert np.any(first.logits != other.logits)
  first, other = (run(jax.random.key(seed), False) for seed in (1, 2))
  np.testing.assert_array_equal(first.logits, other.logits)
  # fc8 is a plain dense layer on the features.
  expected = np.asarray(first.features) @ variables["params"]["fc8"]["kernel"] + variables["params"]["fc8"]["bias"]
  np.testing.assert_allclose(first.logits, expected, rtol=1e-4, atol=1e-5)


def test_statistics_by_hand():
  # Equal numbers of the values 0 and 4: mean 2, variance 4. A step moves the statistics by a tenth: 0.9 * 0 + 0.1 * 2
  # = 0.2 and 0.9 * 1 + 0.1 * 4 = 1.3. The stem has one channel, and its kernel copies the pixel.
  stem = Stem(1, (1, 1, 1))
  video = jnp.zeros((2, 1, 2, 2, 1)).at[1].set(4.0)
  variables = stem.init(jax.random.key(0), video, False)
  variables = {**variables, "params": {**variables["params"], "conv": {"kernel": jnp.ones((1, 1, 1, 1, 1))}}}
  y, updated = stem.apply(variables, video, True, mutable=["batch_stats"])
  np.testing.assert_allclose(updated["batch_stats"]["norm"]["mean"], [0.2], rtol=1e-6)
  np.testing.assert_allclose(updated["batch_stats"]["norm"]["var"], [1.3], rtol=1e-6)
  np.testing.assert_allclose(np.ravel(y), [0, 1], atol=1e-5)  # (0 - 2) / 2 is clipped by the ReLU, (4 - 2) / 2 = 1


def test_frames_of_segments_by_hand():
  # 10 frames, 3 segments of 10/3: middles at 1.67, 5, 8.33.
  np.testing.assert_array_equal(middle_frames(10, 3), [1, 5, 8])
  np.testing.assert_array_equal(middle_frames(3, 3), [0, 1, 2])
  # Segments start at 0, 3.33, 6.67: frames 0-2, 3-5, 6-9.
  chosen = np.asarray(random_frames(jax.random.key(0), 10, 3, batch=200))
  assert [set(column) for column in chosen.T] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}]


def test_tsn_selects_whole_frames():
  # Pixels hold the number of the frame.
  video = jnp.broadcast_to(jnp.arange(10.0).reshape(1, 10, 1, 1, 1), (64, 10, 2, 2, 3))
  seen = lambda train: np.asarray(TSN(5).apply({}, video, train, rngs={"frames": jax.random.key(0)}, method="_frames"))
  assert seen(True).shape == seen(False).shape == (64, 3, 2, 2, 3)
  np.testing.assert_array_equal(seen(False)[:, :, 0, 0, 0], np.broadcast_to([1, 5, 8], (64, 3)))
  # Each clip of a batch gets frames of its own, and whole ones.
  chosen = seen(True)[:, :, 0, 0, 0]
  np.testing.assert_array_equal(seen(True), np.broadcast_to(chosen[:, :, None, None, None], (64, 3, 2, 2, 3)))
  assert [set(column) for column in chosen.T] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}]
