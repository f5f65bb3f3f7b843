"""Inbetweening: default settings against the paper, and invalid settings."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.gans.inbetween.algorithm import Inbetween
from vidgen_jax.gans.inbetween.config import InbetweenConfig
from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, StackedEncodings
from vidgen_jax.gans.inbetween.networks import Encoder, ImageDiscriminator, VideoDiscriminator, VideoGenerator

GENERATOR = ("encoder", "latent_generator", "video_generator")
DISCRIMINATORS = ("image_disc", "video_disc")


def test_updates_follow_the_paper():
  algorithm = Inbetween(InbetweenConfig())
  disc, gen = algorithm.updates("main")
  assert (disc.name, disc.trains, disc.refreshes, disc.repeats) == ("disc", DISCRIMINATORS, DISCRIMINATORS, 1)
  assert (gen.name, gen.trains, gen.refreshes, gen.repeats) == ("gen", GENERATOR, GENERATOR, 1)
  for step in (0, 10**6):
    assert (disc.learning_rate(step), gen.learning_rate(step)) == pytest.approx((5e-5, 5e-5))
  assert algorithm.microbatches == 2
  assert algorithm.phases == (algorithm.phase_at(0),) == (algorithm.phase_at(10**6),)
  assert algorithm.ema_nets == GENERATOR
  assert algorithm.frozen_networks() == {}
  assert algorithm.config.gradient_penalty == 0.1
  assert algorithm.config.frames_per_clip == 1
  # Adam with b1 = 0.5, b2 = 0.999: corrected moments of gradients 1 and -3 are -1.25 / 0.75 and (0.999 + 9) / 1.999.
  for update in (disc, gen):
    state = update.optimizer.init({"w": jnp.zeros(1)})
    for gradient in (1.0, -3.0):
      direction, state = update.optimizer.update({"w": jnp.array([gradient])}, state)
    expected = (0.25 * 1 - 0.5 * 3) / 0.75 / np.sqrt((0.999 + 9) / 1.999)
    assert abs(float(direction["w"][0])) == pytest.approx(abs(expected), rel=1e-3)


def test_default_networks_have_the_papers_sizes():
  discriminators = dict(zip(DISCRIMINATORS, (ImageDiscriminator(), VideoDiscriminator()), strict=True))
  expected = dict(zip(GENERATOR, (Encoder(), LatentGenerator(), VideoGenerator()), strict=True)) | discriminators
  assert Inbetween(InbetweenConfig()).networks() == expected
  without = Inbetween(InbetweenConfig(fusion=False)).networks()
  assert without == expected | {"latent_generator": LatentGenerator(fusion=False)}
  naive = Inbetween(InbetweenConfig(naive=True, channels=1)).networks()
  parts = {"latent_generator": StackedEncodings(), "video_generator": VideoGenerator(channels=1, time_doublings=3)}
  assert naive == expected | parts


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"encoder_widths": (2, 2)}, r"encoder_widths=\(2, 2\) and decoder_widths=\(256, 128, 64\) must have the same"),
    ({"latent_blocks": ()}, r"algorithm\.latent_blocks=\(\) must be positive"),
    ({"latent_blocks": (1, 0)}, r"algorithm\.latent_blocks=\(1, 0\) must be positive"),
    ({"video_discriminator_widths": ()}, r"algorithm\.video_discriminator_widths=\(\) must be positive"),
    ({"decoder_widths": (4, 0, 4)}, r"algorithm\.decoder_widths=\(4, 0, 4\) must be positive"),
    ({"latent_features": 0}, r"algorithm\.latent_features=0 must be positive"),
    ({"encoding_features": -1}, r"algorithm\.encoding_features=-1 must be positive"),
    ({"gradient_penalty": -1.0}, r"algorithm\.gradient_penalty=-1\.0 must be 0 or more"),
    ({"gradient_penalty": math.nan}, r"algorithm\.gradient_penalty=nan must be 0 or more"),
    ({"image_discriminator_widths": (0,)}, r"algorithm\.image_discriminator_widths=\(0,\) must be positive"),
  ],
)
def test_invalid_settings(changes, message):
  with pytest.raises(UserError, match=message):
    InbetweenConfig(**changes)
