"""The generator: shapes, numbers of parameters, and its architecture against a composition of its parts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.trivd.generator import Encoder, Generator
from vidgen_jax.nn.biggan import GeneratorBlock
from vidgen_jax.nn.norm import BATCH_STATS, BatchNorm
from vidgen_jax.nn.recurrent.convolutional import ConvGRU
from vidgen_jax.nn.spectral import SPECTRAL_STATS, convolve


def _shapes(module: Generator, *conditioning: int, latent: int = 128, num_frames: int = 11):
  """Shapes of (video, variables)."""
  batch = conditioning[0]
  inputs = (
    jax.ShapeDtypeStruct(conditioning, jnp.float32),
    jax.ShapeDtypeStruct((batch, latent), jnp.float32),
    jax.ShapeDtypeStruct((batch,), jnp.int32),
  )
  init = functools.partial(module.init_with_output, num_frames=num_frames, train=True)
  return jax.eval_shape(init, jax.random.key(0), *inputs)


def _draw(shapes, seed: int = 0):
  """Random parameters and statistics of a module; variances are positive."""
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    values = rng.normal(size=shape.shape).astype(np.float32)
    return np.abs(values) + 0.5 if path[-1].key == "var" else 0.5 * values

  return {name: jax.tree.map_with_path(leaf, shapes[name]) for name in shapes if name in ("params", BATCH_STATS)}


def _size(variables) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _affine(inputs: int, outputs: int) -> int:
  return inputs * outputs + outputs


@pytest.mark.parametrize(("resolution", "remat"), [(64, True), (32, False)])
def test_shapes(resolution, remat):
  module = Generator((8, 8, 4), (8, 4, 2), (4, 8, 16), remat=remat)
  video, variables = _shapes(module, 2, 5, resolution, resolution, 3, num_frames=4)
  assert (video.shape, video.dtype) == ((2, 4, resolution, resolution, 3), jnp.float32)
  r = resolution // 8
  assert variables["params"]["input"]["kernel"].shape == (256, r * r * 8)
  statistics = variables[BATCH_STATS]["stage_2_block_1"]["norm_1"]["BatchNorm_0"]
  assert statistics["mean"].shape == (4, 2)
  assert set(variables["params"]) == {"encoder", "class_embedding", "input", "output_norm", "output"} | {
    f"stage_{i}_{part}" for i in range(3) for part in ("unit", "conv", "block_0", "block_1")
  }


def test_all_kernels_but_the_first_are_spectrally_normalised():
  _, variables = _shapes(Generator((8, 4), (4, 4), (4, 8)), 1, 2, 16, 16, 1)
  names = {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, leaf in jax.tree.leaves_with_path(variables["params"])
    if leaf.ndim > 1
  }
  normalised = {
    jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("_u")
    for path, _ in jax.tree.leaves_with_path(variables[SPECTRAL_STATS])
  }
  assert names - normalised == {"input/kernel"}
  assert normalised <= names


def test_number_of_parameters_of_a_tiny_network_by_hand():
  module = Generator(
    (4,), (3,), (2,), recurrent_unit="conv_gru", blocks_per_stage=1, num_classes=3, class_features=5, channels=1
  )
  _, variables = _shapes(module, 1, 2, 8, 8, 1, latent=6, num_frames=2)
  # Encoder: block 1 -> 2: 9*1*2 + 2 = 20, 9*2*2 + 2 = 38, 1*2 + 2 = 4; two frames of 2 channels -> 4: 9*4*4 + 4 = 148.
  encoder = 20 + 38 + 4 + 148
  # Condition: 3 classes of 5; 6 + 5 = 11 features -> 4*4*4 = 64: 11*64 + 64.
  condition = 15 + 768
  # ConvGRU on 4 + 4 channels: three gates of 9*8*4 + 4; the convolution after it: 9*4*4 + 4.
  unit = 3 * 292 + 148
  # Block 4 -> 3: 9*4*3 + 3, 9*3*3 + 3, shortcut 4*3 + 3, two norms with two maps 11 -> 4 and 11 -> 3.
  block = 111 + 84 + 15 + 2 * 44 + 2 * 33
  # Norm 3 + 3, convolution to one channel.
  output = 6 + 28
  assert _size(variables) == encoder + condition + unit + block + output == 2415


def test_number_of_parameters_of_a_tsru_by_hand():
  _, variables = _shapes(Generator((4,), (4,), (2,)), 1, 2, 8, 8, 1, num_frames=2)
  # c, u and 4 hidden channels: 9*8*4 + 4 each; kernel selection: 9*8*9 + 9; perceptron: 16*4 -> 4 -> 81.
  unit = {"params": variables["params"]["stage_0_unit"]}
  assert _size(unit) == 3 * 292 + 657 + (64 * 4 + 4) + (4 * 81 + 81)


def test_number_of_parameters_at_the_papers_width():
  widths, upsampled, encoder_widths, condition = (384, 384, 192), (384, 192, 96), (96, 192, 384), 256
  _, variables = _shapes(Generator(widths, upsampled, encoder_widths), 1, 5, 64, 64, 3)
  expected, inputs = 128 + _affine(condition, 8 * 8 * 384), 3
  for width, state in zip(encoder_widths, reversed(widths), strict=True):
    expected += _affine(9 * inputs, width) + _affine(9 * width, width) + _affine(inputs, width)
    expected += _affine(9 * 5 * width, state)
    inputs = width
  # The block that upsamples changes the width, so a unit's input is as wide as its state.
  for width, outputs in zip(widths, upsampled, strict=True):
    expected += 2 * _affine(9 * 2 * width, width) + _affine(9 * 2 * width, width) + _affine(9 * 2 * width, 9)
    expected += _affine(16 * width, width) + _affine(width, 81)
    # The convolution after the unit, two blocks with two each, and the shortcut of the block that upsamples.
    expected += 3 * _affine(9 * width, width) + _affine(9 * width, outputs) + _affine(9 * outputs, outputs)
    expected += _affine(width, outputs)
    expected += 2 * condition * (3 * width + outputs)
  expected += 2 * 96 + _affine(9 * 96, 3)
  assert _size(variables) == expected


TINY = Generator(
  (3, 2), (4, 3), (2, 3), recurrent_unit="conv_gru", num_classes=3, class_features=2, channels=1, spectral_norm=False
)


def _inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  rng = np.random.default_rng(1)
  conditioning = rng.normal(size=(2, 2, 8, 8, 1)).astype(np.float32)
  return conditioning, rng.normal(size=(2, 3)).astype(np.float32), np.array([2, 0])


@pytest.fixture(scope="module")
def variables():
  return _draw(_shapes(TINY, 2, 2, 8, 8, 1, latent=3, num_frames=3)[1])


@pytest.fixture(scope="module")
def predict(variables):
  """The compiled tiny generator in evaluation mode."""
  return jax.jit(functools.partial(TINY.apply, variables, num_frames=3, train=False))


def test_the_generator_equals_the_composition_of_its_parts(variables, predict):
  def part(module, name, *inputs, **options):
    own = {key: value[name] for key, value in variables.items() if name in value}
    return module.apply(own, *inputs, **options)

  def conv(name, x):
    params = variables["params"][name]
    return convolve(x, params["kernel"]) + params["bias"][None, None, None, None]

  @jax.jit
  def reference(conditioning, latent, label):
    params = variables["params"]
    c = jnp.concatenate([latent, jnp.take(params["class_embedding"]["embedding"], label, axis=0)], axis=1)
    states = part(Encoder((2, 3), (3, 2), spectral_norm=False), "encoder", conditioning, train=False)
    x = (c @ params["input"]["kernel"] + params["input"]["bias"][None]).reshape(2, 1, 2, 2, 3)
    x = jnp.repeat(x, 3, axis=1)
    for i, (width, upsampled) in enumerate([(3, 4), (2, 3)]):
      x = part(ConvGRU(width, spectral_norm=False), f"stage_{i}_unit", x, states[i], num_steps=3, train=False)
      x = conv(f"stage_{i}_conv", x)
      for j in range(2):
        block = GeneratorBlock(upsampled if j else width, upsample=j == 1, spectral_norm=False)
        x = part(block, f"stage_{i}_block_{j}", x, c, False)
    x = jax.nn.relu(part(BatchNorm(), "output_norm", x, train=False))
    return jnp.tanh(conv("output", x))

  video = predict(*_inputs())
  assert float(jnp.std(video)) > 0.1
  np.testing.assert_allclose(video, reference(*map(jnp.asarray, _inputs())), rtol=1e-3, atol=1e-4)


def test_class_latent_and_conditioning_affect_their_own_clip_only(predict):
  conditioning, latent, label = _inputs()
  video = predict(conditioning, latent, label)
  np.testing.assert_allclose(predict(conditioning[::-1], latent[::-1], label[::-1]), video[::-1], rtol=1e-4, atol=1e-5)
  # Changing the class, latent or conditioning of the second clip changes the second clip only.
  other = np.array([2, 1]), latent * [[1], [-1]], conditioning * np.reshape([1, -1], (2, 1, 1, 1, 1))
  for inputs in (
    (conditioning, latent, other[0]),
    (conditioning, other[1].astype(np.float32), label),
    (other[2].astype(np.float32), latent, label),
  ):
    changed = predict(*inputs)
    np.testing.assert_allclose(changed[0], video[0], rtol=1e-4, atol=1e-5)
    assert float(jnp.max(jnp.abs(changed[1] - video[1]))) > 1e-3


def test_bfloat16_applies_to_activations_only():
  module = Generator((4, 2), (4, 2), (2, 4), dtype=jnp.bfloat16)
  video, variables = _shapes(module, 1, 2, 8, 8, 1, num_frames=2)
  assert video.dtype == jnp.float32
  for collection in ("params", BATCH_STATS, SPECTRAL_STATS):
    assert {leaf.dtype for leaf in jax.tree.leaves(variables[collection])} == {jnp.dtype(jnp.float32)}
  apply = functools.partial(
    module.apply, num_frames=2, train=False, capture_intermediates=True, mutable=["intermediates"]
  )
  inputs = jnp.zeros((1, 2, 8, 8, 1)), jnp.zeros((1, 128)), jnp.zeros((1,), jnp.int32)
  captured = jax.eval_shape(apply, variables, *inputs)[1]["intermediates"]
  wide = {
    name
    for name, layer in captured.items()
    if name != "__call__" and {leaf.dtype for leaf in jax.tree.leaves(layer["__call__"])} != {jnp.dtype(jnp.bfloat16)}
  }
  assert wide == {"class_embedding"}
