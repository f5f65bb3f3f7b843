"""MVT-GAN with tiny networks: losses, trained nets, latents, sampling, invalid settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.one_step import KEY, OneStep, changed_nets, drawn_frames, drawn_nets
from vidgen_jax.core.state import NetState
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.gans.mvt.algorithm import Mvt
from vidgen_jax.gans.mvt.config import MvtConfig
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.ops.optical_flow import LucasKanade, flow_of_clips

CONFIG = MvtConfig(
  num_classes=3,
  latent_sizes=(2, 1, 3),
  latent_scales=(0.5, 1.0, 2.0),
  class_features=2,
  hidden_features=3,
  generator_channels=8,
  generator_multipliers=(1, 1, 1),
  generator_attention=0,
  shifted_blocks=1,
  image_discriminator_channels=8,
  image_discriminator_multipliers=(1, 1),
  image_discriminator_attention=0,
  frames_per_clip=2,
  video_discriminator_widths=(2, 4),
  motion_constraint=0.7,
  discriminator_steps=1,
)
FRAMES, SIZE, BATCH = 4, 8, 4
GENERATOR, IMAGE, VIDEO = "generator", "image_disc", "video_disc"


def _batch():
  video = np.random.default_rng(0).integers(0, 256, (BATCH, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
  return {"video": jnp.asarray(video), "label": jnp.array([2, 0, 2, 1], jnp.int32)}


def _known(batch):
  return {"conditioning": batch["video"][:, :0], "label": batch["label"]}


@pytest.fixture(scope="module")
def algorithm() -> Mvt:
  return Mvt(CONFIG)


@pytest.fixture(scope="module")
def nets(algorithm) -> dict[str, NetState]:
  return drawn_nets(algorithm, _batch())


@pytest.fixture(scope="module")
def step(algorithm) -> OneStep:
  return OneStep(algorithm)


@pytest.fixture(scope="module")
def unchanged(step, nets):
  """(nets, metrics) of a step with learning rates 0, so that both losses use the same parameters."""
  return step(nets, _batch())


def _latent(key):
  return np.asarray(jax.random.normal(key, (BATCH, 6))) * np.array([0.5, 0.5, 1, 2, 2, 2])


def test_losses_against_separate_calls_of_the_networks(algorithm, nets, step, unchanged):
  label, real = _batch()["label"], np.asarray(_batch()["video"], np.float32) / 127.5 - 1

  @jax.jit
  def generate(latent):
    module = algorithm.generator((SIZE, SIZE))
    options = {"num_frames": FRAMES, "train": True, "mutable": [BATCH_STATS, "spectral_stats"]}
    return module.apply(nets[GENERATOR].collections, latent, label, **options)[0]

  def logits(name, inputs, nets):
    module = algorithm.discriminators()[name]
    scores, _ = jax.jit(functools.partial(module.apply, train=True, mutable=["spectral_stats"]))(
      nets[name].collections, inputs, label
    )
    return np.asarray(scores if name == VIDEO else scores.unconditional + scores.conditional, np.float64)

  keys = jax.random.split(step.loss_key("disc"), 3)
  fake = generate(_latent(keys[0]))
  inputs = {IMAGE: (drawn_frames(real, keys[1], 2), drawn_frames(fake, keys[2], 2)), VIDEO: (real, fake)}
  expected = {"disc/loss": 0.0}
  for name, clips in inputs.items():
    on_real, on_fake = (logits(name, x, nets) for x in clips)
    assert on_real.shape == ((BATCH, 2) if name == IMAGE else (BATCH,))
    loss = np.maximum(1 - on_real, 0).mean() + np.maximum(1 + on_fake, 0).mean()
    expected["disc/loss"] += loss
    expected |= {f"disc/{name}/loss": loss}
    expected |= {f"disc/{name}/real": on_real.mean(), f"disc/{name}/fake": on_fake.mean()}

  keys = jax.random.split(step.loss_key("gen"))
  fake = generate(_latent(keys[0]))
  # The discriminators' update has advanced their power iterations.
  parts = {
    name: -logits(name, x, unchanged[0]).mean() for name, x in ((IMAGE, drawn_frames(fake, keys[1], 2)), (VIDEO, fake))
  }
  flows = [np.asarray(flow_of_clips(LucasKanade(), x), np.float64).reshape(BATCH, -1) for x in (real, fake)]
  pairs = [(i, j) for i, j in np.ndindex(BATCH, BATCH) if label[i] == label[j]]
  cosines = [flows[0][i] @ flows[1][j] / np.linalg.norm(flows[0][i]) / np.linalg.norm(flows[1][j]) for i, j in pairs]
  expected |= {f"gen/{name}/loss": value for name, value in parts.items()}
  expected |= {"gen/motion_similarity": np.mean(cosines), "gen/motion_pairs": 6.0}
  expected["gen/loss"] = sum(parts.values()) + 0.7 * (1 - np.mean(cosines))

  found = {name: value for name, value in unchanged[1].items() if "grad_norm" not in name}
  assert len(pairs) == 6
  assert found == pytest.approx(expected, rel=5e-3, abs=2e-3)


@pytest.mark.parametrize(("rates", "trained"), [({"disc": 1e-3}, {IMAGE, VIDEO}), ({"gen": 1e-3}, {GENERATOR})])
def test_each_update_trains_its_own_nets(rates, trained, step, unchanged, nets):
  updated, _ = step(nets, _batch(), **rates)
  assert changed_nets(nets, updated) == trained
  for name, net in updated.items():
    jax.tree.map(np.testing.assert_array_equal, net.variables, unchanged[0][name].variables)


def test_latents_are_standard_normal_and_scaled_by_part_in_predict(algorithm, nets):
  latent, known = algorithm.latent(KEY, BATCH), _known(_batch())
  np.testing.assert_array_equal(latent, jax.random.normal(KEY, (BATCH, 6)))
  assert np.abs(algorithm.latent(KEY, 2_000, truncation=0.5)).max() <= 0.5
  shifted = Mvt(dataclasses.replace(CONFIG, sampling_means=(4.0, 2.0, 0.0)))
  np.testing.assert_array_equal(shifted.training_latent(KEY, BATCH), latent)
  expected = _latent(KEY) + np.array([4, 4, 2, 0, 0, 0])
  np.testing.assert_allclose(shifted._scaled(shifted.latent(KEY, BATCH)), expected, atol=1e-5)
  options = {"num_frames": FRAMES, "train": False}
  apply = jax.jit(functools.partial(algorithm.generator((SIZE, SIZE)).apply, nets[GENERATOR].collections, **options))
  expected = apply(_latent(KEY).astype(np.float32), known["label"])
  clips = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))(nets, known, latent)
  np.testing.assert_allclose(clips, expected, atol=1e-4)


def test_clips_depend_on_their_own_latent_and_class_only(algorithm, nets):
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=FRAMES))
  latent, known = algorithm.latent(KEY, BATCH), _known(_batch())
  clips = predict(nets, known, latent)
  assert (clips.shape, clips.dtype) == ((BATCH, FRAMES, SIZE, SIZE, 3), jnp.float32)
  assert algorithm.conditioning_indices(FRAMES) == ()
  for other in (known | {"label": known["label"].at[1].set(2)}, known):
    new_latent = latent.at[1].add(0.0 if other is not known else 1.0)
    after = predict(nets, other, new_latent)
    np.testing.assert_array_equal(np.delete(after, 1, axis=0), np.delete(clips, 1, axis=0))
    assert np.abs(after - clips)[1].max() > 1e-3
  options = SampleOptions(num_frames=FRAMES, truncation=0.5)
  sampled = jax.jit(functools.partial(algorithm.sample, options=options))(nets, known, KEY)
  np.testing.assert_allclose(sampled, predict(nets, known, algorithm.latent(KEY, BATCH, truncation=0.5)), atol=1e-5)


def test_batch_moments_of_clips_of_another_length(algorithm, nets):
  options = SampleOptions(num_frames=6)
  moments = jax.jit(functools.partial(algorithm.batch_moments, options=options))(nets, _known(_batch()), KEY)
  assert moments[GENERATOR].variables[BATCH_STATS]["sequence"]["norm"]["mean"].shape == (6, 6)
  predict = jax.jit(functools.partial(algorithm.predict, num_frames=6))
  clips = predict(moments, _known(_batch()), algorithm.latent(KEY, BATCH))
  assert clips.shape == (BATCH, 6, SIZE, SIZE, 3)
  assert np.isfinite(clips).all()


def test_without_motion_constraint_and_without_classes():
  algorithm = Mvt(dataclasses.replace(CONFIG, motion_constraint=0.0, num_classes=1, generator_attention=-1))
  shapes = jax.eval_shape(algorithm.init, jax.random.key(0), _batch())
  assert "attention" not in shapes[GENERATOR].params["frames"]
  loss = functools.partial(algorithm.generator_loss, frozen={}, key=KEY, step=0)
  _, output = jax.eval_shape(lambda nets, batch: loss(nets, batch=batch), shapes, _batch())
  assert set(output.metrics) == {f"{IMAGE}/loss", f"{VIDEO}/loss"}
  label = jnp.array([5, 0, 7, 1])  # Labels of the data set are ignored.
  np.testing.assert_array_equal(algorithm._label(label), np.zeros(4))


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((4, 8, 8, 1), "data.channels=1 and algorithm.channels=3"),
    ((1, 8, 8, 3), r"frames_per_clip=2 must be in 1\.\.1"),
    ((4, 10, 8, 3), "frames of 10x8, but the 3 entries of algorithm.generator_multipliers need multiples of 4"),
    ((6, 8, 8, 3), "data.num_frames=6 must be a multiple of 4 for the 2 entries"),
  ],
)
def test_unsuitable_clips(algorithm, shape, message):
  batch = {"video": jnp.zeros((1, *shape), jnp.uint8), "label": jnp.zeros(1, jnp.int32)}
  with pytest.raises(UserError, match=message):
    algorithm.init(KEY, batch)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"latent_scales": (1.0, 2.0)}, "same number of entries"),
    ({"latent_sizes": (0, 1, 2)}, "latent_sizes=.* must be positive"),
    ({"sampling_means": (4.0,)}, "sampling_means=.* must have the same number of entries"),
    ({"sampling_means": (float("nan"), 0.0, 0.0)}, "sampling_means=.* must be finite"),
    ({"shift_divisor": 1}, "shift_divisor=1 must be at least 2"),
    ({"generator_attention": 2}, r"generator_attention=2 must be in -1\.\.1"),
    ({"shifted_blocks": 3}, r"shifted_blocks=3 must be in 0\.\.2"),
    ({"image_discriminator_attention": -2}, r"must be in -1\.\.1"),
    ({"motion_constraint": -1.0}, "must be 0 or more"),
    ({"frames_per_clip": 0}, "must be positive"),
    ({"num_classes": 0}, "num_classes=0 must be positive"),
  ],
)
def test_invalid_settings(changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **changes)
