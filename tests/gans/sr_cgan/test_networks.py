"""SR-cGAN's networks: GRUs against NumPy, padding, placed anchors, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.sr_cgan.image_networks import ImageDiscriminator, ImageEncoder, ImageGenerator
from vidgen_jax.gans.sr_cgan.temporal_discriminator import TemporalDiscriminator, place_anchors
from vidgen_jax.gans.sr_cgan.temporal_networks import TemporalEncoder, TemporalGenerator

KEY = jax.random.key(0)


def _random(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


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
  variables = module.init(KEY, latents, times, known)
  found = jax.jit(module.apply)(variables, latents, times, known)

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
  np.testing.assert_array_equal(
    module.apply(variables, *other, known).mean, module.apply(variables, latents, times, known).mean
  )
  reordered = module.apply(variables, latents, times[:, [1, 0, 2]], known)
  assert np.abs(reordered.mean - found.mean).max() > 1e-3


def test_temporal_generator_against_numpy():
  module = TemporalGenerator(num_frames=4, image_features=3, hidden_features=5)
  latent = _random(2, 6)
  variables = module.init(KEY, latent)
  latents, logits = jax.jit(module.apply)(variables, latent)
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
  assert posterior.mean.shape == posterior.log_variance.shape == (2, 3, 128)
  assert variables["params"]["down_4"]["conv"]["kernel"].shape == (4, 4, 512, 1024)
  assert variables["params"]["mean"]["kernel"].shape == (2 * 2 * 1024, 128)
  frames_again, variables = jax.eval_shape(lambda z: generator.init_with_output(KEY, z, train=True), posterior.mean)
  assert frames_again.shape == (2, 3, 64, 64, 3)
  assert variables["params"]["up_3"]["conv"]["kernel"].shape == (1, 4, 4, 128, 64)
  logits, _ = jax.eval_shape(lambda x: ImageDiscriminator().init_with_output(KEY, x), frames)
  assert logits.shape == (2, 3)


@pytest.mark.parametrize("num_frames", [1, 5, 16])
def test_temporal_discriminator_accepts_clips_of_any_length(num_frames):
  video = _random(2, num_frames, 16, 16, 3)
  module = TemporalDiscriminator((4, 4, 4))
  variables = module.init(KEY, video)
  logits = module.apply(variables, video)
  assert logits.shape == (2,)
  placed = place_anchors(video[:, :1], np.zeros((2, 1), int), np.ones((2, 1), bool), num_frames=num_frames)
  assert module.init(KEY, video, placed)["params"]["down_0"]["kernel"].shape[-2] == 7


def test_frames_are_processed_independently():
  frames = _random(2, 3, 16, 16, 3)
  encoder = ImageEncoder((4, 4), 5)
  variables = encoder.init(KEY, frames, train=False)
  whole = encoder.apply(variables, frames, train=False).mean
  np.testing.assert_allclose(whole[1:, 1:2], encoder.apply(variables, frames[1:, 1:2], train=False).mean, atol=1e-5)
  generator = ImageGenerator((16, 16), (4, 4))
  variables = generator.init(KEY, whole, train=False)
  images = generator.apply(variables, whole, train=False)
  assert np.abs(images).max() <= 1
  np.testing.assert_allclose(images[1:, 1:2], generator.apply(variables, whole[1:, 1:2], train=False), atol=1e-5)
  discriminator = ImageDiscriminator((4, 4), hidden_features=6)
  variables = discriminator.init(KEY, frames)
  np.testing.assert_allclose(
    discriminator.apply(variables, frames)[1, 1], discriminator.apply(variables, frames[1:, 1:2])[0, 0], atol=1e-5
  )
