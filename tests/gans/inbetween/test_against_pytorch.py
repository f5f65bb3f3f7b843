"""Encoder, video generator and discriminators in evaluation mode against the same layers in PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.inbetween.networks import Encoder, ImageDiscriminator, VideoDiscriminator, VideoGenerator
from vidgen_jax.nn.norm import BATCH_STATS

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def _draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _run(module, *inputs, **options):
  """Returns (output, variables drawn with NumPy)."""
  rng = np.random.default_rng(1)

  def leaf(path, shape):
    values = rng.normal(size=shape.shape).astype(np.float32)
    # With large biases the outputs would hardly depend on the inputs.
    return np.abs(values) + 0.5 if path[-1].key == "var" else (0.1 if path[-1].key == "bias" else 0.5) * values

  shapes = jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *inputs)
  variables = jax.tree.map_with_path(leaf, shapes)
  return jax.jit(functools.partial(module.apply, **options))(variables, *inputs), variables


def _tensor(x):
  """[B, ..., C] -> [B, C, ...]."""
  return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def _array(x):
  return np.moveaxis(x.numpy(), 1, -1)


def _kernel(kernel, *, transposed=False):
  """[..., in, out] -> [out, in, ...], or [in, out, ...]."""
  kernel = np.moveaxis(kernel, (-2, -1), (0, 1))
  return torch.from_numpy((kernel if transposed else kernel.swapaxes(0, 1)).copy())


def _weights(params):
  """(kernel, bias) of a convolution."""
  return _kernel(params["kernel"]), torch.from_numpy(params["bias"])


def _leaky(x):
  return functional.leaky_relu(x, 0.2)


def _generator_layer(x, variables, name, convolve, **options):
  params, stats = variables["params"][name], variables[BATCH_STATS][name]["norm"]
  transposed = "transpose" in convolve.__name__
  x = convolve(x, _kernel(params["conv"]["kernel"], transposed=transposed), padding=1, **options)
  moments = [torch.from_numpy(stats[moment]) for moment in ("mean", "var")]
  gains = [torch.from_numpy(params["norm"][gain]) for gain in ("scale", "bias")]
  return _leaky(functional.batch_norm(x, *moments, *gains))


def _layer_norm(x, params):
  """Group normalisation with one group, which spans everything but the batch; gains per channel."""
  return functional.group_norm(x, 1, torch.from_numpy(params["scale"]), torch.from_numpy(params["bias"]))


def _logit(x, params):
  return torch.from_numpy(_array(x)).flatten(1) @ torch.from_numpy(params["kernel"]) + torch.from_numpy(params["bias"])


def test_encoder():
  frames = _draw((2, 2, 8, 12, 3))
  found, variables = _run(Encoder((2, 3), 4), frames, train=False)
  x = _tensor(frames.reshape(4, 8, 12, 3))
  for index in range(2):
    x = _generator_layer(x, variables, f"down_{index}", functional.conv2d, stride=2)
    x = _generator_layer(x, variables, f"conv_{index}", functional.conv2d)
  x = _generator_layer(x, variables, "output", functional.conv2d)
  np.testing.assert_allclose(found, _array(x).reshape(2, 2, 2, 3, 4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("doublings", [0, 1])
def test_video_generator(doublings):
  latent = _draw((2, 2, 2, 3, 3))
  found, variables = _run(VideoGenerator((4, 3), 2, time_doublings=doublings), latent, train=False)
  strides = [(2, 2, 2) if index < doublings else (1, 2, 2) for index in range(2)]
  x = _generator_layer(_tensor(latent), variables, "input", functional.conv3d)
  x = _generator_layer(x, variables, "conv_0", functional.conv3d)
  x = _generator_layer(x, variables, "up_0", functional.conv_transpose3d, stride=strides[0])
  x = _generator_layer(x, variables, "conv_1", functional.conv3d)
  output = variables["params"]["output"]
  kernel, bias = _kernel(output["kernel"], transposed=True), torch.from_numpy(output["bias"])
  x = torch.tanh(functional.conv_transpose3d(x, kernel, bias, stride=strides[1], padding=1))
  np.testing.assert_allclose(found, _array(x), rtol=1e-4, atol=1e-4)
  assert found.dtype == jnp.float32


def test_video_discriminator():
  video = _draw((3, 8, 8, 12, 2))
  found, variables = _run(VideoDiscriminator((3, 4)), video)
  params, x = variables["params"], _tensor(video)
  for index in range(2):
    x = functional.conv3d(x, *_weights(params[f"conv_{index}"]), stride=(1, 2, 2), padding=(0, 1, 1))
    x = _leaky(_layer_norm(x, params[f"norm_{index}"]))
  np.testing.assert_allclose(found, _logit(x, params["output"])[:, 0], rtol=1e-4, atol=1e-4)
  assert np.ptp(found) > 0.1


def test_image_discriminator():
  frames = _draw((3, 8, 12, 2))
  found, variables = _run(ImageDiscriminator((3, 4)), frames)
  params, x = variables["params"], _tensor(frames)
  for index in range(2):
    conv, down, shortcut = (_weights(params[f"{name}_{index}"]) for name in ("conv", "down", "shortcut"))
    y = functional.conv2d(x, *conv, padding=1)
    y = functional.conv2d(_leaky(_layer_norm(y, params[f"norm_{index}"])), *down, stride=2, padding=1)
    shortcut = functional.conv2d(functional.avg_pool2d(x, 2), *shortcut)
    x = _leaky(_layer_norm(y + shortcut, params[f"down_norm_{index}"]))
  np.testing.assert_allclose(found, _logit(x, params["output"])[:, 0], rtol=1e-4, atol=1e-4)
  assert np.ptp(found) > 0.1
