"""Numbers of parameters, against BigGAN's published networks and by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp

from vidgen_jax.gans.mvt.networks import FrameGenerator, Generator, SequenceGenerator, VideoDiscriminator
from vidgen_jax.nn.biggan import ResidualDiscriminator

WIDTH = 96
BIGGAN_GENERATOR, BIGGAN_DISCRIMINATOR = 70_433_988, 87_982_370
"""BigGAN at 128x128, ch 96, 1,000 classes, with hierarchical latents and a shared embedding: 70.43 M and 87.98 M."""


def _size(tree) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _params(module, *inputs, **options):
  init = functools.partial(module.init, train=False, **options)
  return jax.eval_shape(init, jax.random.key(0), *inputs)["params"]


def test_image_discriminator_has_the_size_of_biggans():
  module = ResidualDiscriminator(tuple(WIDTH * m for m in (1, 2, 4, 8, 16, 16)), num_classes=1000, attention_after=0)
  params = _params(module, jnp.zeros((1, 1, 128, 128, 3)), jnp.zeros(1, int))
  assert _size(params) == BIGGAN_DISCRIMINATOR


def test_frame_generator_has_the_size_of_biggans_except_for_its_condition():
  multipliers = (16, 16, 8, 4, 2, 1)
  frames = FrameGenerator(tuple(WIDTH * m for m in multipliers), attention_after=3, conditional_bias=False)
  module = Generator(SequenceGenerator(), frames, num_classes=1000)
  params = _params(module, jnp.zeros((1, 120)), jnp.zeros(1, int), num_frames=2)
  # BigGAN feeds 20 of 120 latent values to the linear map and to each block; here both receive all of Z_F, which is
  # [120 values of the sequence; 120 of the class]. Its class embedding has 128 values, its blocks receive 20 + 128.
  linear = 4 * 4 * 16 * WIDTH
  pairs = itertools.pairwise(multipliers)
  gains = sum(2 * WIDTH * m for before, after in pairs for m in (before, after))
  as_biggan = _size(params["frames"]) - linear * (240 - 20) - gains * (240 - 148) + 1000 * 128
  assert as_biggan == BIGGAN_GENERATOR
  # Linear map 120 -> 120; a GRU with three gates, of which one also has biases for the state; 2048 -> 120.
  gru = 3 * (120 * 2048 + 2048) + 3 * 2048 * 2048 + 2048
  assert _size(params["sequence"]) == (120 * 120 + 120) + gru + (2048 * 120 + 120)
  assert _size(params["class_embedding"]) == 1000 * 120


def test_video_discriminator_by_hand():
  params = _params(VideoDiscriminator(num_classes=101), jnp.zeros((1, 16, 96, 96, 3)), jnp.zeros(1, int))
  # No biases; batch normalisation of all convolutions except the first has a scale and an offset.
  pairs = ((3, 96), (96, 192), (192, 384), (384, 768))
  convolutions = sum(64 * a * b for a, b in pairs) + sum(2 * b for _, b in pairs[1:])
  assert _size(params) == convolutions + (768 + 1) + 101 * 768
