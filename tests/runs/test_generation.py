"""Samples and standing statistics on devices that do not divide the batches: those of one device, up to rounding."""

import dataclasses
import itertools
import types

import jax
import numpy as np
import pytest

from vidgen_jax.data import pipeline
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import build_experiment

pytest_plugins = ("tests.tiny_experiment",)

CLIPS = 6
VIDEO = np.random.default_rng(0).integers(0, 256, (2 * CLIPS, 1, 8, 8, 3), np.uint8)
LABEL = np.array([0, 0, 0, 0, 0, 1] * 2, np.int32)


@pytest.fixture
def experiments(tiny, monkeypatch):
  """The tiny experiment on one device and on eight; its training clips are two batches of `CLIPS`."""

  def train_batches(data, *, batch_size, microbatches, seed, batch_indices):
    del data, seed
    assert (batch_size, microbatches) == (CLIPS, 1)
    for start in itertools.count(step=CLIPS):
      taken = start + np.array(batch_indices)
      yield {"video": VIDEO[taken][None], "label": LABEL[taken][None]}

  monkeypatch.setattr(pipeline, "train_batches", train_batches)
  one = tiny(evaluation__batch_size=CLIPS, evaluation__standing_batch_size=CLIPS)
  return one, dataclasses.replace(one, mesh=make_mesh(MeshConfig()))


def test_six_clips_on_eight_devices_are_those_of_one_device(experiments):
  results = []
  start = jax.tree.map(np.asarray, experiments[0].init_state().ema)
  known = {"conditioning": VIDEO[:4], "label": LABEL[:4]}
  for experiment in experiments:
    options, key = experiment.options(), jax.random.key(1)
    nets = generation.prepare_nets(experiment, start, options=options, num_batches=2)
    samples = {
      batch_norm: generation.predict(experiment, nets, known, key, options=options, batch_norm=batch_norm)
      for batch_norm in ("standing", "batch")
    }
    results.append((jax.device_get(nets["generator"].variables["batch_stats"]), samples))
  (one, drawn), (eight, drawn_on_eight) = results
  # 24 rows on eight devices: each of the six clips, with its latent, four times.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), eight, one)
  assert any(np.ptp(leaf) > 1e-3 for leaf in jax.tree.leaves(one))
  for name, video in drawn.items():
    assert video.shape == (4, 3, 8, 8, 3)
    np.testing.assert_allclose(drawn_on_eight[name].astype(int), video, atol=1)
  assert np.any(drawn["standing"] != drawn["batch"])


def test_training_needs_devices_that_divide_the_batch_and_sampling_does_not(tiny):
  config = tiny(train__batch_size=12, step__accumulate=2).config
  with pytest.raises(
    UserError, match=r"config\.train\.batch_size / config\.step\.accumulate=6 is not divisible by the 8 devices"
  ):
    build_experiment(config)
  assert dict(build_experiment(config, trains=False).mesh.shape) == {"data": 8, "fsdp": 1}


def test_other_devices_repeat_whole_batches(experiments):
  _, eight = experiments
  batch = {"conditioning": VIDEO[:4], "label": np.arange(4, dtype=np.int32)}
  # A short batch is filled up to six clips, and those to the eight devices or to whole repeats.
  assert generation.place_batch(eight, batch)["label"].tolist() == [0, 1, 2, 3, 0, 1, 0, 1]
  repeated = generation.place_batch(eight, batch, whole_repeats=True)["label"]
  assert repeated.tolist() == 4 * [0, 1, 2, 3, 0, 1]


def test_interpolations_have_the_statistics_of_whole_batches(experiments):
  """The naive baseline normalises by its own batch, which devices must not change."""
  batch = {"conditioning": VIDEO[:CLIPS], "label": LABEL[:CLIPS]}

  def without_mean(nets, placed, *, options):
    del nets, options
    return placed["label"] - jax.numpy.mean(placed["label"])

  found = []
  for experiment in experiments:
    parts = {name: getattr(experiment, name) for name in ("config", "mesh", "put_batch")}
    stub = types.SimpleNamespace(interpolate=without_mean, **parts)
    found.append(generation.interpolate(stub, {}, batch, options=experiment.options()))
  np.testing.assert_allclose(found[0], LABEL[:CLIPS] - np.mean(LABEL[:CLIPS]), atol=1e-6)
  np.testing.assert_allclose(found[1], found[0], atol=1e-6)
