"""SR-cGAN's networks: GRUs against NumPy, padding, placed anchors, shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.sr_cgan.networks import (
  ImageDiscriminator,
  ImageEncoder,
  ImageGenerator,
  TemporalDiscriminator,
  TemporalEncoder,
  TemporalGenerator,
  place_anchors,
)

KEY = jax.random.key(0)


def _random(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _init(module, *inputs, **options):
  return jax.jit(functools.partial(module.init, **options))(KEY, *inputs)


def _apply(module, variables, *inputs, **options):
  return jax.jit(functools.partial(module.apply, **options))(variables, *inputs)


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def _gru(params, state, x):
  """A GRU step (Cho et al. 2014) in Flax's form: r, z and n from x W_i + b and h W_h, where r scales h W_hn + b_hn."""
  weights = {name: (np.asarray(p["kernel"]), np.asarray(p.get("bias", 0.0))) for name, p in params.items()}

  def dense(name, value):
    kernel, bias = weights[name]
    return value @ kernel + bias

  r = _sigmoid(dense("ir", x) + dense("hr", state))
  z = _sigmoid(dense("iz", x) + dense("hz", state))
  n = np.tanh(dense("in", x) + r * dense("hn", state))
  return (1 - z) * n + z * state


def test_temporal_encoder_against_numpy_and_with_padding():
  module = TemporalEncoder(num_frames=6, latent_features=3, hidden_features=4)
  latents, times = _random(2, 3, 5), np.array([[0, 2, 5], [1, 4, 0]])
  known = np.array([[True, True, True], [True, True, False]])
  variables = _init(module, latents, times, known)
  found = _apply(module, variables, latents, times, known)

  params = variables["params"]
  for clip in range(2):
    states = [np.zeros(4), np.zeros(4)]
    for m in range(known[clip].sum()):
      x = np.concatenate([latents[clip, m], np.eye(6)[times[clip, m]]])
      for layer in range(2):
        states[layer] = x = _gru(params["read"][f"gru_{layer}"], states[layer], x)
    hidden = x @ np.asarray(params["hidden"]["kernel"]) + np.asarray(params["hidden"]["bias"])
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    assert hidden.shape == (6,)
    for name, value in (("mean", found.mean), ("log_variance", found.log_variance)):
      expected = hidden @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
      np.testing.assert_allclose(value[clip], expected, rtol=1e-4, atol=1e-5)

  other = np.where(known[..., None], latents, 100.0).astype(np.float32), np.where(known, times, 3)
  np.testing.assert_array_equal(_apply(module, variables, *other, known).mean, found.mean)
  reordered = _apply(module, variables, latents, times[:, [1, 0, 2]], known)
  assert np.abs(reordered.mean - found.mean).max() > 1e-3


def test_temporal_generator_against_numpy():
  module = TemporalGenerator(num_frames=4, image_features=3, hidden_features=5)
  latent = _random(2, 6)
  variables = _init(module, latent)
  latents, logits = _apply(module, variables, latent)
  assert (latents.shape, logits.shape) == ((2, 4, 3), (2, 4, 4))
  params = jax.tree.map(np.asarray, variables["params"])
  first = np.tanh(latent @ params["first_state"]["kernel"] + params["first_state"]["bias"])
  states = [first[:, :5], first[:, 5:]]
  for t in range(4):
    x = latent
    for layer in range(2):
      states[layer] = x = _gru(params["write"][f"gru_{layer}"], states[layer], x)
    for name, value in (("output", latents), ("time", logits)):
      np.testing.assert_allclose(value[:, t], x @ params[name]["kernel"] + params[name]["bias"], rtol=1e-4, atol=1e-5)


def test_place_anchors():
  frames, times = _random(2, 3, 2, 2, 1), np.array([[0, 2, 3], [1, 3, 0]])
  known = np.array([[True, True, True], [True, False, False]])
  placed = np.asarray(place_anchors(frames, times, known, num_frames=5))
  expected = np.zeros((2, 5, 2, 2, 2), np.float32)
  for clip, m in zip(*np.nonzero(known), strict=True):
    expected[clip, times[clip, m], ..., :1] = frames[clip, m]
    expected[clip, times[clip, m], ..., 1] = 1
  np.testing.assert_array_equal(placed, expected)


def test_shapes_at_paper_size():
  frames = jax.ShapeDtypeStruct((2, 3, 64, 64, 3), jnp.float32)
  encoder, generator = ImageEncoder(), ImageGenerator((64, 64))
  posterior, variables = jax.eval_shape(lambda x: encoder.init_with_output(KEY, x, train=True), frames)
  assert posterior.mean.shape == posterior.log_variance.shape == (2, 3, 32)
  assert variables["params"]["down_4"]["conv"]["kernel"].shape == (4, 4, 512, 1024)
  assert variables["params"]["mean"]["kernel"].shape == (2 * 2 * 1024, 32)
  frames_again, variables = jax.eval_shape(lambda z: generator.init_with_output(KEY, z, train=True), posterior.mean)
  assert frames_again.shape == (2, 3, 64, 64, 3)
  assert variables["params"]["up_3"]["conv"]["kernel"].shape == (1, 4, 4, 128, 64)
  logits, _ = jax.eval_shape(lambda x: ImageDiscriminator().init_with_output(KEY, x), frames)
  assert logits.shape == (2, 3)


@pytest.mark.parametrize("num_frames", [1, 5])
def test_temporal_discriminator_accepts_clips_of_any_length(num_frames):
  video, module = _random(2, num_frames, 8, 8, 3), TemporalDiscriminator((4, 4, 4))
  assert _apply(module, _init(module, video), video).shape == (2,)
  anchors = jax.ShapeDtypeStruct((2, num_frames, 8, 8, 4), jnp.float32)
  params = jax.eval_shape(module.init, KEY, video, anchors)["params"]
  assert params["down_0"]["kernel"].shape[-2] == 3 + 4


def test_frames_are_processed_independently():
  frames = _random(2, 3, 8, 8, 3)
  encoder = ImageEncoder((4, 4), 5)
  variables = _init(encoder, frames, train=False)
  latents = _apply(encoder, variables, frames, train=False).mean
  np.testing.assert_allclose(_apply(encoder, variables, frames[1:, 1:2], train=False).mean, latents[1:, 1:2], atol=1e-5)
  generator = ImageGenerator((8, 8), (4, 4))
  variables = _init(generator, latents, train=False)
  images = _apply(generator, variables, latents, train=False)
  assert np.abs(images).max() <= 1
  np.testing.assert_allclose(_apply(generator, variables, latents[1:, 1:2], train=False), images[1:, 1:2], atol=1e-5)
  discriminator = ImageDiscriminator((4, 4), hidden_features=6)
  variables = _init(discriminator, frames)
  logits = _apply(discriminator, variables, frames)
  np.testing.assert_allclose(_apply(discriminator, variables, frames[1:, 1:2]), logits[1:, 1:2], atol=1e-5)
