"""SR-cGAN with tiny networks: phases, losses, trained nets, anchors in sampling, invalid settings."""

import dataclasses
import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.one_step import KEY, OneStep, changed_nets, drawn_frames, drawn_nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.gans.sr_cgan import anchors as anchor_ops
from vidgen_jax.gans.sr_cgan.algorithm import SrCgan
from vidgen_jax.gans.sr_cgan.config import SrCganConfig
from vidgen_jax.gans.sr_cgan.losses import Gaussian, time_cross_entropy
from vidgen_jax.gans.sr_cgan.networks import place_anchors
from vidgen_jax.runs.config import TrainConfig
from vidgen_jax.runs.experiment import TrainingExperiment

CONFIG = SrCganConfig(
  num_frames=4,
  image_steps=3,
  frames_per_clip=2,
  anchors=(1, 3),
  conditioning_indices=(0, -2),
  image_widths=(3, 4),
  image_features=2,
  image_discriminator_widths=(2,),
  image_discriminator_features=3,
  temporal_features=3,
  hidden_features=4,
  temporal_discriminator_widths=(2,),
  clip_reconstruction_weight=0.2,
  clip_prior_weight=0.7,
  anchor_weight=0.3,
  content_weight=2.0,
)
FRAMES, SIZE, BATCH = 4, 8, 3
ENCODER, GENERATOR, DISC = "image_encoder", "image_generator", "image_disc"
T_ENCODER, T_GENERATOR, T_DISC = "temporal_encoder", "temporal_generator", "temporal_disc"


def _batch():
  video = np.random.default_rng(0).integers(0, 256, (BATCH, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
  return {"video": jnp.asarray(video), "label": jnp.zeros(BATCH, jnp.int32)}


def _real():
  return np.asarray(_batch()["video"], np.float32) / 127.5 - 1


def _known(times):
  return {"conditioning": _batch()["video"][:, np.array(times, int)], "label": jnp.zeros(BATCH, jnp.int32)}


@pytest.fixture(scope="module")
def algorithm() -> SrCgan:
  return SrCgan(CONFIG)


@pytest.fixture(scope="module")
def nets(algorithm):
  return drawn_nets(algorithm, _batch(), scale=0.5)


@pytest.fixture(scope="module")
def images(algorithm) -> OneStep:
  return OneStep(algorithm, "images")


@pytest.fixture(scope="module")
def clips(algorithm) -> OneStep:
  return OneStep(algorithm, "clips")


@pytest.fixture(scope="module")
def run(algorithm, nets):
  """(network, inputs) -> output in train mode."""
  modules = algorithm.modules((SIZE, SIZE))

  def call(name, *inputs):
    options = {"train": True, "mutable": ["batch_stats"]} if name in (ENCODER, GENERATOR) else {}
    output = jax.jit(functools.partial(modules[name].apply, **options))(nets[name].collections, *inputs)
    return output[0] if options else output

  return call


def _kl(posterior: Gaussian):
  mean, variance = np.asarray(posterior.mean), np.exp(np.asarray(posterior.log_variance))
  return 0.5 * (mean**2 + variance - np.log(variance) - 1).sum(axis=-1).mean()


def _error(video, truth):
  """Squared error summed over each frame, [B, T]."""
  return np.sum((np.asarray(video) - truth) ** 2, axis=(2, 3, 4))


def _softplus(x):
  return np.logaddexp(0, np.asarray(x)).mean()


def test_phases(algorithm):
  assert [algorithm.phase_at(step) for step in range(5)] == ["images"] * 3 + ["clips"] * 2
  assert SrCgan(dataclasses.replace(CONFIG, image_steps=0)).phase_at(0) == "clips"
  assert (algorithm.microbatches, algorithm.phases) == (3, ("images", "clips"))
  assert algorithm.conditioning_indices(4) == (0, 2)


@pytest.mark.parametrize(("num_steps", "end"), [(5, 3), (3, 3), (2, 2)])
def test_the_checkpoint_of_the_last_step_on_frames_is_kept(num_steps, end, algorithm):
  config = types.SimpleNamespace(train=TrainConfig(num_steps=num_steps))
  assert TrainingExperiment(config, algorithm, mesh=None).phase_ends == (end,)


def test_default_learning_rates_are_the_papers(algorithm):
  rates = {u.name: u.learning_rate(0) for phase in algorithm.phases for u in algorithm.updates(phase)}
  assert (rates["image_encoder"], rates["image_generator"], rates["image_disc"]) == (1e-4, 1e-4, 2e-7)
  assert SrCganConfig().image_encoder_optimizer.b1 == 0.5
  assert (SrCganConfig().encoder_reconstruction_weight, SrCganConfig().generator_reconstruction_weight) == (50, 0.5)


def test_losses_of_frames_against_separate_calls_of_the_networks(nets, images, run):
  _, found = images(nets, _batch())

  keys = jax.random.split(images.loss_key("image_encoder"))
  x = drawn_frames(_real(), keys[0], 2)
  posterior = run(ENCODER, x)
  error = _error(run(GENERATOR, posterior.sample(keys[1])), x).mean()
  # Errors are weighed as those of 32x32 pixels: these frames have 8x8.
  expected = {"image_encoder/loss": _kl(posterior) + 50 * 16 * error, "image_encoder/reconstruction": error}
  expected["image_encoder/prior"] = _kl(posterior)

  def decoded_and_drawn(x, key):
    encoded_key, drawn_key = jax.random.split(key)
    encoded = run(ENCODER, x).sample(encoded_key)
    return run(GENERATOR, encoded), run(GENERATOR, jax.random.normal(drawn_key, encoded.shape))

  keys = jax.random.split(images.loss_key("image_generator"))
  x = drawn_frames(_real(), keys[0], 2)
  decoded, drawn = decoded_and_drawn(x, keys[1])
  error = _error(decoded, x).mean()
  adversarial = _softplus(-run(DISC, decoded)) + _softplus(-run(DISC, drawn))
  expected |= {"image_generator/loss": adversarial + 0.5 * 16 * error, "image_generator/reconstruction": error}
  expected["image_generator/adversarial"] = adversarial

  keys = jax.random.split(images.loss_key("image_disc"))
  x = drawn_frames(_real(), keys[0], 2)
  logits = {"real": run(DISC, x)}
  logits["decoded"], logits["drawn"] = (run(DISC, fake) for fake in decoded_and_drawn(x, keys[1]))
  loss = _softplus(-logits["real"]) + _softplus(logits["decoded"]) + _softplus(logits["drawn"])
  expected |= {"image_disc/loss": loss, **{f"image_disc/{name}": float(value.mean()) for name, value in logits.items()}}

  found = {name: value for name, value in found.items() if "grad_norm" not in name}
  assert found == pytest.approx(expected, rel=2e-3, abs=1e-3)


def test_losses_of_clips_against_separate_calls_of_the_networks(nets, clips, run):
  _, found = clips(nets, _batch())

  def generate(key):
    anchor_key, image_key, latent_key = jax.random.split(key, 3)
    times, known = anchor_ops.draw_anchors(anchor_key, BATCH, num_frames=FRAMES, counts=(1, 3))
    frames = np.stack([clip[np.asarray(t)] for clip, t in zip(_real(), times, strict=True)])
    posterior = run(T_ENCODER, run(ENCODER, frames).sample(image_key), times, known)
    latents, logits = run(T_GENERATOR, posterior.sample(latent_key))
    return run(GENERATOR, latents), logits, posterior, place_anchors(frames, times, known, num_frames=FRAMES)

  video, _, _, placed = generate(clips.loss_key("clip_disc"))
  on_real, on_fake = run(T_DISC, _real(), placed), run(T_DISC, video, placed)
  expected = {"clip_disc/loss": _softplus(-on_real) + _softplus(on_fake)}
  expected |= {"clip_disc/real": float(on_real.mean()), "clip_disc/fake": float(on_fake.mean())}

  video, logits, posterior, placed = generate(clips.loss_key("clip_gen"))
  error, content = _error(video, _real()).sum(axis=1).mean(), _softplus(-run(T_DISC, video, placed))
  guesses = np.asarray(jax.nn.log_softmax(logits))
  anchor = -np.mean([sum(guesses[b, t, t] for t in range(FRAMES)) for b in range(BATCH)])
  # A clip of 16 frames of 32x32 has 64 times the values of four frames of 8x8.
  expected["clip_gen/loss"] = 0.2 * 64 * error + 0.7 * _kl(posterior) + 0.3 * anchor + 2 * content
  expected |= {"clip_gen/reconstruction": error, "clip_gen/prior": _kl(posterior)}
  expected |= {"clip_gen/anchor": anchor, "clip_gen/content": content}

  found = {name: value for name, value in found.items() if "grad_norm" not in name}
  assert found == pytest.approx(expected, rel=2e-3, abs=1e-3)


def test_anchor_loss_by_hand():
  # Two steps and two times: p(step 0 is time 0) = 3/4, p(step 1 is time 1) = 1/2.
  logits = jnp.log(jnp.array([[[3.0, 1.0], [2.0, 2.0]]]))
  assert float(time_cross_entropy(logits)) == pytest.approx(math.log(4 / 3) + math.log(2), rel=1e-6)


@pytest.mark.parametrize(
  ("phase", "update", "trained"),
  [
    ("images", "image_encoder", {ENCODER}),
    ("images", "image_generator", {GENERATOR}),
    ("images", "image_disc", {DISC}),
    ("clips", "clip_disc", {T_DISC}),
    ("clips", "clip_gen", {ENCODER, GENERATOR, T_ENCODER, T_GENERATOR}),
  ],
)
def test_each_update_trains_its_own_nets(phase, update, trained, nets, request):
  updated, _ = request.getfixturevalue(phase)(nets, _batch(), **{update: 1e-3})
  changed = set()
  for name, net in updated.items():
    before = jax.tree.leaves(nets[name].params)
    if any(np.any(new != old) for new, old in zip(jax.tree.leaves(net.params), before, strict=True)):
      changed.add(name)
  assert changed == trained
  other = {"images": (T_ENCODER, T_GENERATOR, T_DISC), "clips": (DISC,)}[phase]
  assert changed_nets({name: nets[name] for name in other}, updated) == set()


def test_base_model_generates_clips_from_noise_and_trains_two_nets():
  base = SrCgan(dataclasses.replace(CONFIG, anchors=(0, 0), conditioning_indices=()))
  nets = drawn_nets(base, _batch())
  assert T_ENCODER not in nets
  assert base.conditioning_indices(FRAMES) == ()
  step = OneStep(base, "clips")
  updated, metrics = step(nets, _batch(), clip_gen=1e-3)
  changed = {
    name
    for name, net in updated.items()
    if any(np.any(a != b) for a, b in zip(jax.tree.leaves(net.params), jax.tree.leaves(nets[name].params), strict=True))
  }
  assert changed == {GENERATOR, T_GENERATOR}
  assert metrics["clip_gen/loss"] == metrics["clip_gen/content"]
  options = SampleOptions(num_frames=FRAMES)
  video = jax.jit(functools.partial(base.sample, options=options))(nets, _known([]), KEY)
  assert video.shape == (BATCH, FRAMES, SIZE, SIZE, 3)


def test_predict_keeps_anchors_and_infer_reconstructs_them(algorithm, nets):
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))
  latents = [algorithm.latent(jax.random.key(seed), BATCH) for seed in (0, 1)]
  first, second = (np.asarray(predict(nets, _known([0, 2]), latent)) for latent in latents)
  np.testing.assert_allclose(first[:, [0, 2]], _real()[:, [0, 2]], atol=1e-6)
  assert np.abs(first - second)[:, [1, 3]].max() > 1e-4
  infer = jax.jit(functools.partial(algorithm.infer, num_frames=FRAMES))
  inferred = np.asarray(infer(nets, _known([0, 2]), latents[0]))
  np.testing.assert_allclose(inferred[:, [1, 3]], first[:, [1, 3]], atol=1e-5)
  assert np.abs(inferred - first)[:, [0, 2]].max() > 1e-2
  # Truncation 0 is the deterministic model, z_T = mu_T.
  assert np.all(np.asarray(algorithm.latent(KEY, BATCH, truncation=0.0)) == 0)


def test_interpolate_normalises_with_its_own_batch(algorithm, nets):
  interpolate = jax.jit(functools.partial(algorithm.interpolate, num_frames=FRAMES))
  found = np.asarray(interpolate(nets, _known([0, 2])))
  statistics = nets[GENERATOR].variables | {
    "batch_stats": jax.tree.map(lambda x: 3 * x + 1, nets[GENERATOR].variables["batch_stats"])
  }
  other = nets | {GENERATOR: nets[GENERATOR].replace(variables=statistics)}
  np.testing.assert_array_equal(interpolate(other, _known([0, 2])), found)
  # Decoded are the anchors' latents at their times, their mean in between, and the last latent after the last anchor.
  modules = algorithm.modules((SIZE, SIZE))
  encoded = modules[ENCODER].apply(nets[ENCODER].collections, _real()[:, [0, 2]], train=False).mean
  latents = jnp.stack([encoded[:, 0], encoded.mean(axis=1), encoded[:, 1], encoded[:, 1]], axis=1)
  decode = functools.partial(modules[GENERATOR].apply, train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(found, jax.jit(decode)(nets[GENERATOR].collections, latents)[0], atol=1e-4)


def test_without_anchors_latents_come_from_the_prior(algorithm, nets):
  latent = algorithm.latent(KEY, BATCH)
  free = SrCgan(dataclasses.replace(CONFIG, conditioning_indices=()))
  video = jax.jit(functools.partial(free.predict, num_frames=FRAMES))(nets, _known([]), latent)
  modules = free.modules((SIZE, SIZE))

  @jax.jit
  def generate(latent):
    latents, _ = modules[T_GENERATOR].apply(nets[T_GENERATOR].collections, latent)
    return modules[GENERATOR].apply(nets[GENERATOR].collections, latents, train=False)

  np.testing.assert_allclose(video, generate(latent), atol=1e-5)
  options = SampleOptions(num_frames=FRAMES)
  moments = jax.jit(functools.partial(free.batch_moments, options=options))(nets, _known([]), KEY)
  assert np.any(moments[GENERATOR].variables["batch_stats"]["first"]["norm"]["mean"] != 0)
  same = jax.tree.map(np.array_equal, moments[ENCODER].variables, nets[ENCODER].variables)
  assert all(jax.tree.leaves(same))


def test_times_may_differ_between_clips_and_padding_is_ignored(algorithm, nets):
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))
  latent = algorithm.latent(KEY, BATCH)
  plain = np.asarray(predict(nets, _known([0, 2]), latent))
  padded = _known([0, 2, 3]) | {"times": jnp.tile(jnp.array([[0, 2, -1]]), (BATCH, 1))}
  np.testing.assert_allclose(predict(nets, padded, latent), plain, atol=1e-5)
  times = np.array([[0, 2], [1, 3], [3, -1]])
  conditioning = jnp.stack([_batch()["video"][b][np.maximum(times[b], 0)] for b in range(BATCH)])
  found = np.asarray(predict(nets, {**_known([]), "conditioning": conditioning, "times": jnp.asarray(times)}, latent))
  np.testing.assert_allclose(found[0], plain[0], atol=1e-5)
  np.testing.assert_allclose(found[1, [1, 3]], _real()[1, [1, 3]], atol=1e-6)
  np.testing.assert_allclose(found[2, 3], _real()[2, 3], atol=1e-6)
  assert np.abs(found[2, 0] - _real()[2, 0]).max() > 1e-2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_classes": 2}, "has no classes"),
    ({"anchors": (2, 1)}, r"algorithm.anchors=\(2, 1\)"),
    ({"anchors": (1, 5)}, "within 1..4"),
    ({"anchors": (2,)}, "the smallest and the largest number of anchors"),
    ({"anchors": ()}, "the smallest and the largest number of anchors"),
    ({"conditioning_indices": (2, 1)}, "ascending order"),
    ({"conditioning_indices": (0, -4)}, "ascending order"),
    ({"anchors": (0, 0)}, r"must be \(\) for the base model"),
    ({"image_steps": -1}, "image_steps=-1"),
    ({"image_widths": ()}, "image_widths"),
    ({"content_weight": math.inf}, "content_weight=inf"),
    ({"hidden_features": 0}, "hidden_features=0"),
  ],
)
def test_invalid_settings(changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((5, 8, 8, 3), "data.num_frames=5 and algorithm.num_frames=4"),
    ((4, 8, 8, 1), "data.channels=1 and algorithm.channels=3"),
    ((4, 6, 6, 3), "image_widths need multiples of 4"),
  ],
)
def test_unsuitable_clips(shape, message, algorithm):
  batch = {"video": jnp.zeros((1, *shape), jnp.uint8), "label": jnp.zeros(1, jnp.int32)}
  with pytest.raises(UserError, match=message):
    algorithm.init(KEY, batch)
  with pytest.raises(UserError, match="generates only clips of 4 frames"):
    algorithm.conditioning_indices(6)
