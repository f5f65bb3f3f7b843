"""Protocols of evaluations: their fields, repetitions, and clips from noise."""

import dataclasses
import json
import logging
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.data import records
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs import evaluation, generation, scoring, workdir
from vidgen_jax.runs.config import with_data
from vidgen_jax.runs.scoring import Evaluation
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.metrics.best_of import BestOf
from vidgen_jax.scores.report import COMPARED
from vidgen_jax.scores.set_metrics import SetOptions

pytest_plugins = ("tests.trained_runs",)

OPTIONS = SampleOptions(num_frames=5)


def experiment_of(config, conditioning_indices=(0, 1), **changes):
  config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, **changes))
  algorithm = SimpleNamespace(conditioning_indices=lambda num_frames: conditioning_indices)
  return SimpleNamespace(config=config, algorithm=algorithm)


def fields_of(experiment, *, batch_norm="standing"):
  return evaluation.protocol_fields(experiment, OPTIONS, num_windows=8, weights="ema", batch_norm=batch_norm, seed=7)


def test_protocol_is_known_before_sampling(run_config):
  fields = fields_of(experiment_of(run_config, num_clips=3, repeats=10, pool_samples=True))
  assert fields == {
    "data": "shape_motion", "split": "test", "window": "random, smallest side 16, centre crop",
    "lossy": fields["lossy"], "num_clips": 3,
    "clip": "5x16x16x3", "conditioning_indices": "0 1", "pooled": True, "repeats": 10,
    "truncation": None, "sampling_means": None, "weights": "ema", "batch_norm": "standing",
    "standing_data": "shape_motion", "seed": 7,
  }  # fmt: skip
  plain = fields_of(experiment_of(run_config), batch_norm="batch")
  assert (plain["num_clips"], plain["repeats"], plain["pooled"], plain["standing_data"]) == (8, None, None, None)
  noise = fields_of(experiment_of(run_config, (), num_generated=50, samples=3))
  assert (noise["num_generated"], noise["conditioning_indices"]) == (150, None)
  with pytest.raises(UserError, match=r"evaluation\.num_generated=50: the model continues given frames"):
    fields_of(experiment_of(run_config, num_generated=50))


@pytest.mark.parametrize(("means", "shown"), [((4.0, 2.5, 0.0), "4,2.5,0"), ((0.0, 0.0, 0.0), None)])
def test_the_means_of_the_latents_are_part_of_the_protocol(means, shown, run_config):
  experiment = experiment_of(run_config)
  experiment.config = dataclasses.replace(run_config, algorithm=SimpleNamespace(sampling_means=means))
  assert fields_of(experiment)["sampling_means"] == shown
  assert "sampling_means" in COMPARED


@pytest.mark.parametrize("lossy", [True, False])
def test_lossy_clips_cause_a_warning(lossy, run_config, monkeypatch, caplog):
  monkeypatch.setattr(evaluation.records.DatasetInfo, "is_lossy", lossy)
  with caplog.at_level(logging.WARNING):
    assert fields_of(experiment_of(run_config))["lossy"] == (lossy or None)
  assert ("'shape_motion' is stored as JPEG, which changes scores" in caplog.text) == lossy


def test_each_repetition_has_its_own_statistics_and_seed(run_config, monkeypatch, tmp_path):
  experiment = experiment_of(run_config, repeats=3, samples=1, num_clips=2)
  trained = SimpleNamespace(
    experiment=experiment, nets={}, step=4, weights="ema", is_conditional=False, data_hash="", workdir=""
  )
  prepared, drawn, scored = [], [], []

  def prepare_nets(experiment, nets, *, options, repeat):
    prepared.append(repeat)
    return {"repeat": repeat}

  def evaluate(experiment, nets, key, *, with_baselines, **options):
    scored.append((nets["repeat"], with_baselines, jax.random.key_data(key).tolist()))
    psnr = {"psnr": np.full((2, 3), 20.0 + nets["repeat"])}
    baselines = {"black": {"psnr": np.full((2, 3), 9.0)}} if with_baselines else {}
    return Evaluation(model=BestOf(best=psnr, mean=psnr, num_samples=1), baselines=baselines, frames=(2, 3, 4))

  monkeypatch.setattr(generation, "prepare_nets", prepare_nets)
  monkeypatch.setattr(scoring, "evaluate", evaluate)
  monkeypatch.setattr(scoring, "draw_images", lambda *arguments, **options: drawn.append(arguments[1]))
  collector = SimpleNamespace(scores=lambda **options: [])
  fields = fields_of(experiment)
  scores, curves = evaluation.score_run(trained, fields, options=OPTIONS, folder=tmp_path, collector=collector)
  assert prepared == [0, 1, 2]
  assert scored == [(r, r == 0, jax.random.key_data(jax.random.key(7 + r)).tolist()) for r in range(3)]
  assert drawn == [4]
  found = {(score.subject, score.protocol): score for score in scores}
  model, black = found["model", "frame_mean"], found["black", "frame_mean"]
  assert (model.value, model.deviation, model.repeats, model.seed, model.step) == (21.0, 1.0, 3, 7, 4)
  assert (black.value, black.deviation, black.repeats, black.data) == (9.0, None, None, "shape_motion")
  assert [curve.value for curve in curves if curve.subject == "model"] == [21.0] * 3


def test_repetitions_take_other_training_clips_and_latents(run_config, monkeypatch):
  seeds, keys = [], []
  monkeypatch.setattr(generation.pipeline, "train_batches", lambda data, **options: seeds.append(options["seed"]) or [])
  experiment = experiment_of(run_config)
  experiment.mesh = make_mesh(MeshConfig())
  experiment.with_standing_statistics = lambda nets, batches, key, **options: keys.append(jax.random.key_data(key))
  for repeat in range(3):
    generation.prepare_nets(experiment, {}, options=OPTIONS, num_batches=1, repeat=repeat)
  seed = run_config.train.seed
  assert seeds == [seed + 1, seed + 2, seed + 3]
  assert len({tuple(key.tolist()) for key in keys}) == 3


def test_clips_from_noise_have_random_classes(run_config):
  experiment = experiment_of(run_config, (), batch_size=64)
  batches = list(generation.noise_batches(experiment, jax.random.key(0), num_clips=1000))
  assert [len(batch["label"]) for batch in batches] == [64] * 15 + [40]
  assert batches[-1]["conditioning"].shape == (40, 0, 16, 16, 3)
  labels = np.concatenate([batch["label"] for batch in batches])
  assert set(labels) == {0, 1} and abs(labels.mean() - 0.5) < 0.05
  again = np.concatenate([b["label"] for b in generation.noise_batches(experiment, jax.random.key(0), num_clips=1000)])
  other = np.concatenate([b["label"] for b in generation.noise_batches(experiment, jax.random.key(1), num_clips=1000)])
  np.testing.assert_array_equal(labels, again)
  assert not np.array_equal(labels, other)


@pytest.mark.parametrize("with_baselines", [True, False])
def test_only_clips_from_noise_are_scored_as_the_models(with_baselines, run_config, monkeypatch):
  """Two samples of five clips in batches of two; the six real clips belong to the baselines alone."""
  drawn, real, added = [], [{"video": np.zeros((6, 5, 16, 16, 3), np.uint8), "label": np.zeros(6, np.int32)}], []

  def predict(experiment, nets, inputs, key, **options):
    drawn.append((len(inputs["label"]), tuple(jax.random.key_data(key).tolist())))
    clips = np.zeros((len(inputs["label"]), 5, 16, 16, 3), np.uint8)
    clips[:, : 2 + len(drawn) % 2, 4:8, 4:8] = 200  # An object in three frames of first samples, in two of second ones.
    return clips

  monkeypatch.setattr(generation, "predict", predict)
  monkeypatch.setattr(generation, "evaluation_batches", lambda *_, **options: real if with_baselines else None)
  experiment = experiment_of(run_config, (), batch_size=2, object_tracking=True)
  collector = SimpleNamespace(add=lambda name, sample, clips: added.append((name, sample, len(clips))))
  found = scoring.evaluate(
    experiment, {}, jax.random.key(7), options=OPTIONS, num_clips=6, samples=2, num_generated=5,
    collector=collector, with_baselines=with_baselines,
  )  # fmt: skip
  assert [count for count, _ in drawn] == [2, 2, 2, 2, 1, 1] and len({key for _, key in drawn}) == 6
  assert [entry for entry in added if entry[0] == "model"] == [
    ("model", sample, count) for count in (2, 2, 1) for sample in (0, 1)
  ]
  others = {name for name, *_ in added} - {"model"}
  assert others == ({"real", "black", "noise"} if with_baselines else set()) == set(found.baselines)
  np.testing.assert_allclose(found.model.mean["presence"], [0.5] * 5)
  np.testing.assert_allclose(found.model.best["presence"], [0.6] * 5)
  assert all(len(scores["presence"]) == 6 for scores in found.baselines.values())


def test_clips_of_the_model_are_dropped_after_an_evaluation():
  collector = FeatureCollector([], options=SetOptions())
  fields = {"split": "test", "num_clips": 2}

  def contents(brightness, *, baselines=True):
    clips = np.zeros((2, 3, 4, 4, 3), np.uint8)
    clips[:, 1:] = brightness  # a content distance that grows with the brightness
    for subject in ("real", "naive_interpolation") if baselines else ():
      collector.add(subject, 0, clips)
    collector.add("model", 0, clips)
    scores = collector.scores(model_fields=fields, plain_fields=fields, baselines=baselines)
    return {score.subject: score.value for score in scores}

  first, second, third = contents(50), contents(100), contents(150, baselines=False)
  assert first.keys() == second.keys() == {"real", "naive_interpolation", "model"}
  assert second["real"] == first["real"] < second["model"] == second["naive_interpolation"]
  assert third.keys() == {"model"} and third["model"] > second["model"]


def test_conditional_model_needs_its_classes_in_all_data_sets(run_config):
  config = with_data(run_config, standing_statistics_data="other")
  facts = {"class_names": ("up", "left"), "data_hash": "", "workdir": "runs/a"}
  trained = SimpleNamespace(experiment=SimpleNamespace(config=config), is_conditional=True, **facts)
  with pytest.raises(UserError, match="data set 'other' is not in"):
    workdir.check_data(trained)
  trained.is_conditional = False
  workdir.check_data(trained)


def test_other_clips_than_those_of_the_training_are_reported(run_config, caplog):
  info = records.load_info(run_config.data.name, run_config.data.data_dir)
  facts = {"is_conditional": True, "class_names": info.class_names, "workdir": "runs/a"}
  trained = SimpleNamespace(experiment=SimpleNamespace(config=run_config), data_hash=info.content_hash, **facts)
  workdir.check_data(trained, strict=True)
  assert not caplog.records
  trained.data_hash = "0123456789abcdef"
  workdir.check_data(trained)
  names = f"{info.content_hash[:12]}.* --workdir=runs/a was trained with .hash 0123456789ab.; restore it"
  assert re.search(names, caplog.text)
  with pytest.raises(UserError, match=f"--strict_data: .*{names}"):
    workdir.check_data(trained, strict=True)
  # Another data set has other clips by intention.
  others = with_data(run_config, data="other", standing_statistics_data="another")
  trained.experiment.config, trained.is_conditional = others, False
  workdir.check_data(trained, strict=True)


@pytest.mark.slow
def test_command_repeats_evaluations_of_clips_from_noise(noise_folder):
  words = ["--num_generated=6", "--repeats=2", "--samples=1", "--num_clips=4"]
  assert cli.dispatch(["evaluate", f"--workdir={noise_folder}", *words]) == 0
  rows = [json.loads(line) for line in (noise_folder / "scores.jsonl").read_text().splitlines()]
  (row,) = (row for row in rows if (row["subject"], row["metric"]) == ("model", "content_distance"))
  assert (row["repeats"], row["num_generated"], row["num_clips"]) == (2, 6, 4)
  assert row["deviation"] > 0
