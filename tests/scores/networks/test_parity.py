"""The classifiers against independent PyTorch networks with the same weights, to 1e-4 of the results' spread."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra 'parity'")

from tests.parity import mapping, torch_networks  # noqa: E402
from vidgen_jax.scores.networks import C3D, I3D, TSN, ResNet3D  # noqa: E402
from vidgen_jax.scores.networks.i3d import Unit  # noqa: E402
from vidgen_jax.scores.networks.layers import max_pool  # noqa: E402


def _compare(network, variables, reference, shape, *, scale=1.0):
  video = np.random.default_rng(1).uniform(-scale, scale, (*shape, 3)).astype(np.float32)
  with torch.inference_mode():
    expected = [part.numpy() for part in reference(torch.from_numpy(video).permute(0, 4, 1, 2, 3))]
  found = jax.jit(network.apply)(variables, video)
  for part, target in zip(found, expected, strict=True):
    assert part.shape == target.shape
    # Relative to the spread and not to the largest value: a constant offset of all classes must not hide an error.
    np.testing.assert_allclose(part, target, atol=1e-4 * np.std(target))


def _expected(network, shape):
  return jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((*shape, 3), np.float32))


def _i3d(shape, **settings):
  pool = settings.pop("pool_window", (2, 7, 7))
  reference = torch_networks.build(torch_networks.I3D(**settings, pool=pool), seed=0, unit_gain=True)
  network = I3D(**settings, pool_window=pool)
  is_gain = lambda name: name.endswith("bn.weight")
  variables = mapping.to_flax(reference.state_dict(), _expected(network, shape), mapping.i3d_name, unused=is_gain)
  return network, variables, reference


def test_i3d_at_full_size():
  shape = (1, 9, 224, 224)
  _compare(*_i3d(shape), shape)


# The large epsilon changes the results noticeably.
@pytest.mark.parametrize(("shape", "epsilon"), [((2, 16, 32, 31), 1e-3), ((1, 17, 29, 32), 0.3)])
def test_i3d_at_odd_sizes(shape, epsilon):
  settings = {"num_classes": 7, "width": 0.125, "pool_window": (2, 1, 1), "epsilon": epsilon}
  _compare(*_i3d(shape, **settings), shape)


@pytest.mark.parametrize("size", [(9, 12, 15), (10, 14, 16), (16, 13, 10), (17, 9, 11)])
def test_i3d_start_at_all_remainders(size):
  # The first convolution and the pools after it, where TensorFlow's asymmetric padding matters most.
  reference = torch_networks.build(torch_networks.I3DUnit(3, 4, 7, 2), seed=0, unit_gain=True)
  video = np.random.default_rng(1).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
  with torch.inference_mode():
    target = reference(torch.from_numpy(video).permute(0, 4, 1, 2, 3))
    target = torch_networks.same_max_pool(target, (1, 3, 3), (1, 2, 2))
    target = torch_networks.same_max_pool(target, (3, 3, 3), (2, 2, 2)).permute(0, 2, 3, 4, 1).numpy()
  unit = Unit(4, 7, 2)
  expected = jax.eval_shape(unit.init, jax.random.key(0), jax.ShapeDtypeStruct(video.shape, np.float32))
  is_gain = lambda name: name.endswith("bn.weight")
  variables = mapping.to_flax(reference.state_dict(), expected, mapping.i3d_name, unused=is_gain)
  found = max_pool(unit.apply(variables, video), (1, 3, 3), (1, 2, 2), padding="SAME")
  found = max_pool(found, (3, 3, 3), (2, 2, 2), padding="SAME")
  np.testing.assert_allclose(found, target, atol=1e-4 * np.std(target))


def test_c3d_with_a_rounded_up_pool():
  # 24 frames reach the last pool as 3 and leave it as 2; 48 and 80 pixels as 3 and 5, and leave it as 2 and 3.
  shape, width = (2, 24, 48, 80), 0.0625
  reference = torch_networks.build(torch_networks.C3D(11, width, flat=32 * 2 * 2 * 3), seed=0)
  network = C3D(11, width=width)
  variables = mapping.to_flax(
    reference.state_dict(), _expected(network, shape), mapping.c3d_name, flattened=("fc6", (32, 2, 2, 3))
  )
  _compare(network, variables, reference, shape, scale=100.0)
  arrays = torch_networks.chainer_arrays(reference)
  assert arrays["conv1a/W"].shape == (4, 3, 3, 3, 3)
  assert arrays["fc8/b"].shape == (11,)


@pytest.mark.parametrize("shape", [(2, 8, 32, 32), (1, 9, 33, 30)])
@pytest.mark.parametrize(
  ("stem", "name_of"), [("torchvision", mapping.torchvision_video_name), ("hara", mapping.resnet_name)]
)
def test_3d_resnet(stem, name_of, shape):
  reference = torch_networks.build(torch_networks.ResNet3D(7, stem, width=8), seed=0)
  network = ResNet3D(7, stem=stem, width=8)
  variables = mapping.to_flax(reference.state_dict(), _expected(network, shape), name_of)
  _compare(network, variables, reference, shape)


@pytest.mark.parametrize("shape", [(2, 10, 40, 37)])
def test_tsn(shape):
  reference = torch_networks.build(torch_networks.TSN(7, width=8), seed=0)
  network = TSN(7, width=8)
  variables = mapping.to_flax(reference.state_dict(), _expected(network, shape), mapping.resnet_name)
  _compare(network, variables, reference, shape)
  released = torch_networks.tsn_release(reference.state_dict())
  assert {"new_fc.weight", "base_model.conv1.weight", "base_model.layer1.0.downsample.0.weight"} <= set(released)
