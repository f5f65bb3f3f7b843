"""SR-cGAN's updates with one-weight networks and gradient descent, against derivatives by hand.

Every frame is one white pixel, x = 1, so that drawn frames and anchors do not depend on the key; all noise is 1.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.one_step import OneStep
from vidgen_jax.core.state import NetState
from vidgen_jax.gans.sr_cgan.algorithm import SrCgan
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.sr_cgan.losses import Gaussian

FRAMES, RATE, LOG2 = 2, 0.01, math.log(2)
BATCH = {"video": jnp.full((3, FRAMES, 1, 1, 1), 255, jnp.uint8), "label": jnp.zeros(3, jnp.int32)}


class _Weight(nn.Module):
  def weight(self) -> jax.Array:
    return self.param("weight", nn.initializers.ones, ())


class ImageEncoder(_Weight):
  """q(z | x) = N(e x, 1)."""

  @nn.compact
  def __call__(self, frames, *, train):
    del train
    mean = self.weight() * frames[..., 0, 0]
    return Gaussian(mean=mean, log_variance=jnp.zeros_like(mean))


class ImageGenerator(_Weight):
  """x = g z."""

  @nn.compact
  def __call__(self, latents, *, train):
    del train
    return self.weight() * latents[..., None, None]


class ImageDiscriminator(_Weight):
  """The logit d x."""

  @nn.compact
  def __call__(self, frames):
    return self.weight() * frames[..., 0, 0, 0]


class TemporalEncoder(_Weight):
  """q(z_T | z) = N(t z, 1) for the first anchor's z."""

  @nn.compact
  def __call__(self, latents, times, known):
    del times, known
    mean = self.weight() * latents[:, 0]
    return Gaussian(mean=mean, log_variance=jnp.zeros_like(mean))


class TemporalGenerator(_Weight):
  """z = r z_T for every frame; the correct time has the logit r, the other one 0."""

  @nn.compact
  def __call__(self, latent):
    r = self.weight()
    return jnp.stack([r * latent] * FRAMES, axis=1), jnp.tile(r * jnp.eye(FRAMES)[None], (len(latent), 1, 1))


class TemporalDiscriminator(_Weight):
  """The logit k times the mean of the clip's frames."""

  @nn.compact
  def __call__(self, video, anchors):
    assert anchors.shape == (*video.shape[:-1], 2)
    return self.weight() * video.mean(axis=(1, 2, 3, 4))


MODULES = {
  "image_encoder": ImageEncoder,
  "image_generator": ImageGenerator,
  "image_disc": ImageDiscriminator,
  "temporal_encoder": TemporalEncoder,
  "temporal_generator": TemporalGenerator,
  "temporal_disc": TemporalDiscriminator,
}


class OneWeightNets(SrCgan):
  """SR-cGAN with these networks."""

  def modules(self, size, *, bn_momentum=0.9):
    del size, bn_momentum
    return {name: module_type() for name, module_type in MODULES.items()}


# Frames of one value and clips of two: with these weights errors count as plain sums.
CONFIG = SrCganConfig(
  num_frames=FRAMES,
  anchors=(1, 1),
  conditioning_indices=(0,),
  channels=1,
  frames_per_clip=1,
  encoder_reconstruction_weight=50 / 3072,
  generator_reconstruction_weight=0.5 / 3072,
  clip_reconstruction_weight=FRAMES / 49152,
  content_weight=1.0,
)


@pytest.fixture(autouse=True)
def noise_of_one(monkeypatch):
  monkeypatch.setattr(jax.random, "normal", lambda key, shape=(), dtype=jnp.float32: jnp.ones(shape, dtype))


@pytest.fixture
def gradient_descent(monkeypatch):
  monkeypatch.setattr("vidgen_jax.core.algorithm.make_optimizer", lambda config: optax.identity())


def _nets(**weights):
  return {name: NetState(params={"weight": jnp.float32(weights.get(name, 1.0))}, variables={}) for name in MODULES}


def _step_lengths(nets, phase, **rates):
  """Changes of the weights that changed."""
  after, _ = OneStep(OneWeightNets(CONFIG), phase)(nets, BATCH, **rates)
  changes = {name: float(np.float64(after[name].params["weight"]) - nets[name].params["weight"]) for name in nets}
  return {name: length for name, length in changes.items() if length}


@pytest.mark.parametrize(
  ("update", "network", "derivative"),
  [
    # z = e + 1 = 2 is decoded to g z = 1/2, with the error (g z - 1)^2 and the divergence e^2 / 2.
    # d/de [e^2 / 2 + 50 (g (e + 1) - 1)^2] = e + 100 (1/2 - 1) g = 1 - 12.5.
    ("image_encoder", "image_encoder", -11.5),
    # Decoded 2 g = 1/2, drawn g = 1/4; s(t) = 1 / (1 + exp(-t)), s(-2 g d) = s(-log 4) = 1/5, s(-g d) = 1/3.
    # d/dg [softplus(-2 g d) + softplus(-g d) + 0.5 (2 g - 1)^2] = -2 d / 5 - d / 3 + 2 (1/2 - 1), with d = 4 log 2.
    ("image_generator", "image_generator", -44 / 15 * LOG2 - 1),
    # d/dd [softplus(-d) + softplus(d / 2) + softplus(d / 4)] = -s(-4 log 2) + s(log 4) / 2 + s(log 2) / 4.
    ("image_disc", "image_disc", -1 / 17 + 4 / 10 + 2 / 12),
  ],
)
@pytest.mark.usefixtures("gradient_descent")
def test_each_image_network_descends_its_own_loss(update, network, derivative):
  nets = _nets(image_encoder=1.0, image_generator=0.25, image_disc=4 * LOG2)
  lengths = _step_lengths(nets, "images", **{update: RATE})
  assert lengths == {network: pytest.approx(-RATE * derivative, rel=1e-4)}


# z_I = e + 1 = 2, mu_T = t z_I = 1, z_T = mu_T + 1 = 2, and both frames are y = g r z_T = 1/2.
CLIP_WEIGHTS = {
  "image_encoder": 1.0,
  "image_generator": 0.5,
  "temporal_encoder": 0.5,
  "temporal_generator": 0.5,
  "temporal_disc": 2 * LOG2,
}


@pytest.mark.usefixtures("gradient_descent")
def test_generator_nets_descend_all_three_losses():
  # Error 2 (y - 1)^2 and content softplus(-k y): by_frame = d/dy = 4 (y - 1) - k s(-k y) = -2 - 2/3 log 2.
  by_frame = -2 - 2 / 3 * LOG2
  expected = {
    # dy/dg = r z_T = 1.
    "image_generator": by_frame,
    # dy/dr = g z_T = 1; the anchor loss is 2 softplus(-r).
    "temporal_generator": by_frame - 2 / (1 + math.exp(0.5)),
    # dy/dt = g r z_I = 1/2; the divergence mu_T^2 / 2 has the derivative mu_T z_I = 2.
    "temporal_encoder": by_frame / 2 + 2,
    # dy/de = g r t = 1/8; the divergence's derivative is mu_T t = 1/2.
    "image_encoder": by_frame / 8 + 1 / 2,
  }
  # E_I and G_I are fine-tuned, with a tenth of the learning rate.
  for name in ("image_encoder", "image_generator"):
    expected[name] *= CONFIG.fine_tuning_rate
  assert CONFIG.fine_tuning_rate == 0.1
  lengths = _step_lengths(_nets(**CLIP_WEIGHTS), "clips", clip_gen=RATE)
  assert lengths == pytest.approx({name: -RATE * value for name, value in expected.items()}, rel=1e-4)


@pytest.mark.usefixtures("gradient_descent")
def test_temporal_discriminator_descends_its_own_loss():
  # d/dk [softplus(-k) + softplus(k / 2)] = -s(-log 4) + s(log 2) / 2 = -1/5 + 1/3.
  lengths = _step_lengths(_nets(**CLIP_WEIGHTS), "clips", clip_disc=RATE)
  assert lengths == {"temporal_disc": pytest.approx(-RATE * (1 / 3 - 1 / 5), rel=1e-4)}


def test_learning_rates_are_applied():
  # Adam's first step has the length of the learning rate. With small weights, float32 resolves a change of 2e-7.
  nets = _nets(image_encoder=0.01, image_generator=0.01, image_disc=0.01)
  updates = SrCgan(CONFIG).updates("images")
  lengths = _step_lengths(nets, "images", **{update.name: update.learning_rate(0) for update in updates})
  expected = {"image_encoder": 1e-4, "image_generator": 1e-4, "image_disc": 2e-7}
  assert {name: abs(length) for name, length in lengths.items()} == pytest.approx(expected, rel=0.01)
