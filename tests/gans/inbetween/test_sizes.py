"""Shapes and numbers of parameters at paper size, counted by hand from the paper's tables.

Convolutions before batch normalisation have no bias, those before layer normalisation do. Both normalisations have a
scale and an offset per channel.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.gans.inbetween.networks import Encoder, ImageDiscriminator, VideoDiscriminator, VideoGenerator
from vidgen_jax.nn.norm import BATCH_STATS

ENDS, NOISE = (2, 2, 8, 8, 64), (2, 128)


def _trace(module, *inputs, **options):
  """Returns (shape of the output, number of parameters, number of batch statistics)."""
  inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
  output, variables = jax.eval_shape(functools.partial(module.init_with_output, **options), jax.random.key(0), *inputs)
  count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  return output.shape, count(variables.get("params", {})), count(variables.get(BATCH_STATS, {}))


@pytest.mark.parametrize("channels", [3, 1])
def test_encoder(channels):
  shape, params, stats = _trace(Encoder(), (2, 2, 64, 64, channels), train=False)
  assert shape == ENDS
  kernels = (
    # 64 K4 S2; 64 K3
    4 * 4 * channels * 64
    + 3 * 3 * 64 * 64
    # 128 K4 S2; 128 K3
    + 4 * 4 * 64 * 128
    + 3 * 3 * 128 * 128
    # 256 K4 S2; 256 K3
    + 4 * 4 * 128 * 256
    + 3 * 3 * 256 * 256
    # 64 K3
    + 3 * 3 * 256 * 64
  )
  norms = 2 * (2 * 64 + 2 * 128 + 2 * 256 + 64)
  assert (params, stats) == (kernels + norms, norms)
  assert channels != 3 or params == 1_580_032 + 1_920


@pytest.mark.parametrize("fusion", [True, False])
def test_latent_generator(fusion):
  module = LatentGenerator(fusion=fusion)
  shape, params, stats = _trace(module, ENDS, NOISE, num_frames=16, train=False)
  assert shape == (2, 16, 8, 8, 64)
  # A_l and b_l map 128 values to T_l x 64; T_l = 4, 8, 16 in 8 blocks each: 8 (33,024 + 66,048 + 132,096).
  noise = 8 * sum((128 + 1) * length * 64 for length in (4, 8, 16))
  # k_s, k_e, k_n of width 3 with biases (only k_n without fusion); 37,056 and 12,352.
  control = (3 if fusion else 1) * (3 * 64 * 64 + 64)
  # k1 and k2, each followed by a normalisation.
  residual = 2 * (3 * 3 * 3 * 64 * 64 + 2 * 64)
  assert params == noise + 24 * (control + residual)
  assert params == (8_053_248 if fusion else 7_460_352)
  # Mean and variance of two normalisations of 64 channels in 24 blocks.
  assert stats == 24 * 2 * 2 * 64


def test_length_changes_only_the_noise_maps():
  shape, params, stats = _trace(LatentGenerator(), ENDS, NOISE, num_frames=12, train=False)
  assert shape == (2, 12, 8, 8, 64)
  # Lengths 3, 6, 12 instead of 4, 8, 16: three quarters of the noise maps.
  assert params == 8_053_248 - 8 * (128 + 1) * (1 + 2 + 4) * 64
  assert stats == 24 * 2 * 2 * 64


@pytest.mark.parametrize("channels", [3, 1])
def test_video_generator(channels):
  shape, params, stats = _trace(VideoGenerator(channels=channels), (2, 16, 8, 8, 64), train=False)
  assert shape == (2, 16, 64, 64, channels)
  kernels = (
    # 256 K3; 256 K3
    27 * 64 * 256
    + 27 * 256 * 256
    # 128 K(3,4,4) S(1,2,2); 128 K3
    + 48 * 256 * 128
    + 27 * 128 * 128
    # 64 K(3,4,4) S(1,2,2); 64 K3
    + 48 * 128 * 64
    + 27 * 64 * 64
    # Output: K(3,4,4) S(1,2,2), with a bias and without a normalisation
    + 48 * 64 * channels
  )
  norms = 2 * (2 * 256 + 2 * 128 + 2 * 64)
  assert (params, stats) == (kernels + channels + norms, norms)
  assert channels != 3 or params == 4_740_096 + 3 + 1_792


def test_naive_baseline():
  shape, params, stats = _trace(StackedEncodings(), ENDS, NOISE, num_frames=16, train=False)
  assert shape == ENDS
  # One value for each of 2 frames and 64 channels.
  assert (params, stats) == ((128 + 1) * 2 * 64, 0)
  shape, params, _ = _trace(VideoGenerator(time_doublings=3), ENDS, train=False)
  assert shape == (2, 16, 64, 64, 3)
  # As above, but with 4x4x4 kernels instead of 3x4x4 where time doubles.
  assert params == 4_741_891 + (64 - 48) * (256 * 128 + 128 * 64 + 64 * 3)


@pytest.mark.parametrize(("doublings", "frames"), [(0, 2), (1, 4), (2, 8)])
def test_leading_layers_double_time(doublings, frames):
  shape, _, _ = _trace(VideoGenerator(time_doublings=doublings), ENDS, train=False)
  assert shape == (2, frames, 64, 64, 3)


def test_video_discriminator():
  shape, params, stats = _trace(VideoDiscriminator(), (2, 16, 64, 64, 3))
  assert shape == (2,)
  kernels = 4**3 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
  biases = 64 + 128 + 256 + 512
  norms = 2 * (64 + 128 + 256 + 512)
  # Four convolutions remove three frames each: 16 - 12 = 4 frames with 64 / 2^4 = 4 pixels by 4.
  head = 4 * 4 * 4 * 512 + 1
  assert (params, stats) == (kernels + biases + norms + head, 0)
  assert params == 11_022_336 + 960 + 1_920 + 32_769


def test_image_discriminator():
  shape, params, stats = _trace(ImageDiscriminator(), (2, 64, 64, 3))
  assert shape == (2,)
  total = 0
  for before, after in ((3, 64), (64, 128), (128, 256), (256, 512)):
    # K3 and its normalisation keep the channels; K4 S2, the 1x1 shortcut and the sum's normalisation change them.
    # Each of the three convolutions has one bias per channel.
    total += 9 * before * before + before + 2 * before
    total += 16 * before * after + after + before * after + after + 2 * after
  # 64 / 2^4 = 4 pixels by 4.
  assert (params, stats) == (total + 4 * 4 * 512 + 1, 0)
