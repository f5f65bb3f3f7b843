"""`vidgen evaluate`: scores against numpy, their protocols, and the checkpoints that they are computed from."""

import dataclasses
import json
import logging
import math
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.lpips_files import replace_lpips
from vidgen_jax import cli
from vidgen_jax.commands import evaluate, metric_flags
from vidgen_jax.data import pipeline
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs import generation, scoring, workdir
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.scoring import Evaluation
from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.flow_baseline import FlowBaseline
from vidgen_jax.scores.metrics.best_of import BestOf
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.psnr import frame_psnr
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.registry import METRICS

pytest_plugins = ("tests.trained_runs", "tests.classifier_files")

COMMON = {
  "split": "test",
  "num_clips": 2,
  "step": 4,
  "weights": "ema",
  "batch_norm": "standing",
  "truncation": None,
  "seed": 0,
}


def decibels(error):
  return 10 * np.log10(255.0**2 / error)


def squared_error(prediction, truth):
  return np.square(prediction.astype(np.float64) - truth)


@pytest.fixture(scope="module")
def scored(run_folder, classifier_file, tmp_path_factory):
  """The lines of scores.jsonl by subject, metric and protocol; LPIPS is twice the mean absolute error on [-1, 1]."""
  path = run_folder / "scores.jsonl"
  path.write_text('{"metric": "earlier"}\n')
  words = ["--samples=2", "--num_clips=6", "--seed=3", f"--networks={classifier_file}"]
  with pytest.MonkeyPatch.context() as patch:
    words.append(f"--lpips={replace_lpips(patch, tmp_path_factory.mktemp('lpips'))}")
    assert cli.dispatch(["evaluate", f"--workdir={run_folder}", *words]) == 0
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines.pop(0) == {"metric": "earlier"}  # scores are appended
  found = {(line["subject"], line["metric"], line["protocol"]): line for line in lines}
  assert len(found) == len(lines)
  return found


@pytest.fixture(scope="module")
def predictions(run_folder):
  """(truth [6, 5, ...], two predictions of it [2, 6, 5, ...]), drawn without `scoring.evaluate`."""
  trained = workdir.load_trained(str(run_folder))
  experiment = trained.experiment
  options = experiment.options()
  nets = generation.prepare_nets(experiment, trained.nets, options=options, num_batches=2)
  (batch,) = pipeline.eval_batches(experiment.config.data, "test", batch_size=8, num_clips=6)
  known = {"conditioning": batch["video"][:, :2], "label": batch["label"]}
  filled = {name: np.concatenate([value, value[:2]]) for name, value in known.items()}
  placed = experiment.put_batch(filled, microbatches=False)
  key = jax.random.fold_in(jax.random.key(3), 0)
  drawn = [experiment.sample(nets, placed, jax.random.fold_in(key, j), options=options)[:6] for j in range(2)]
  return batch["video"], np.stack(drawn)


def test_psnr_of_the_samples_equals_numpy(scored, predictions):
  video, drawn = predictions
  for clips in drawn:
    np.testing.assert_array_equal(clips[:, :2], video[:, :2])
  error = squared_error(drawn[:, :, 2:], video[None, :, 2:])
  frames = decibels(error.mean(axis=(3, 4, 5)))
  pooled = decibels(error.mean(axis=(2, 3, 4, 5)))
  expected = {
    "frame_mean, mean of 2 samples": frames.mean(),
    "frame_mean, best of 2 samples": frames.mean(axis=2).max(axis=0).mean(),
    "clip_mse, mean of 2 samples": pooled.mean(),
    "clip_mse, best of 2 samples": pooled.max(axis=0).mean(),
  }
  for protocol, value in expected.items():
    assert scored["model", "psnr", protocol]["value"] == pytest.approx(value, abs=1e-3), protocol
  by_frame = [scored["model", f"psnr_frame_{t}", "one frame, mean of 2 samples"]["value"] for t in (2, 3, 4)]
  np.testing.assert_allclose(by_frame, frames.mean(axis=(0, 1)), atol=1e-3)


def test_lpips_of_the_samples_and_baselines(scored, predictions):
  video, drawn = predictions
  distance = lambda guess: 4 / 255 * np.abs(guess.astype(float) - video[:, 2:]).mean(axis=(-4, -3, -2, -1))
  for aggregate, combine in {"mean": np.mean, "best": np.min}.items():
    line = scored["model", "lpips", f"frame_mean, {aggregate} of 2 samples"]
    assert line["value"] == pytest.approx(combine(distance(drawn[:, :, 2:]), axis=0).mean(), rel=1e-4)
    assert line["extractor"] == "lpips, alexnet"
  assert scored["copy_last", "lpips", "frame_mean"]["value"] == pytest.approx(distance(video[:, 1:2]).mean(), rel=1e-4)


def test_baselines_are_scored_on_the_same_clips(scored, predictions):
  video, _ = predictions
  conditioning, truth = video[:, :2], video[:, 2:]
  for subject, guess in {"copy_last": conditioning[:, -1:], "black": np.zeros_like(conditioning[:, -1:])}.items():
    frames = decibels(squared_error(guess, truth).mean(axis=(2, 3, 4)))
    assert scored[subject, "psnr", "frame_mean"]["value"] == pytest.approx(frames.mean(), abs=1e-3)
    by_frame = [scored[subject, f"psnr_frame_{t}", "one frame"]["value"] for t in (2, 3, 4)]
    np.testing.assert_allclose(by_frame, frames.mean(axis=0), atol=1e-3)
  black = scored["black", "centroid_error", "frames with both objects"]
  assert black["value"] is None  # JSON has no NaN
  assert scored["black", "presence", "share of frames with an object"]["value"] == 0
  assert scored["linear_extrapolation", "centroid_error", "frames with both objects"]["value"] > 0
  assert ("linear_extrapolation", "psnr", "frame_mean") not in scored


def test_each_score_records_its_settings(scored):
  for (subject, metric, _), line in scored.items():
    assert (line["split"], line["num_clips"]) == ("test", 3 if subject == "real, other half" else 6)
    assert set(line["inputs"]["real"]) == {"encoding", "fps"} and "ffmpeg" in line["inputs"]["versions"]
    if metric != "content_distance":  # of frames
      assert line["clip"] == "5x16x16x3"
    settings = {name: line[name] for name in ("weights", "batch_norm", "seed", "step", "samples")}
    if subject == "model":
      assert settings == {"weights": "ema", "batch_norm": "standing", "seed": 3, "step": 4, "samples": 2}
    else:
      assert settings == {"weights": None, "batch_norm": None, "seed": None, "step": None, "samples": 1}


def test_scores_of_sets_equal_those_of_their_features(scored, predictions, classifier):
  video, drawn = predictions
  extractor = FeatureExtractor(classifier, mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]))
  real = extractor.extract(video).features
  features = [extractor.extract(clips).features for clips in drawn]
  found = {(subject, metric): line for (subject, metric, _), line in scored.items()}
  expected = {
    "clip_frechet": np.mean([frechet_distance(real, sample) for sample in features]),
    "diversity": pairwise_cosine_distance(np.stack(features, axis=1)).mean(),
    "content_distance": np.mean([average_content_distance(clips) for clips in drawn]),
  }
  for metric, value in expected.items():
    line = found["model", metric]
    assert line["value"] == pytest.approx(value, rel=1e-3), metric
    assert (line["samples"], line["weights"], line["step"], line["num_clips"]) == (2, "ema", 4, 6)
  copied = np.concatenate([video[:, :2], np.repeat(video[:, 1:2], 3, axis=1)], axis=1)
  distance = frechet_distance(real, extractor.extract(copied).features)
  assert found["copy_last", "clip_frechet"]["value"] == pytest.approx(distance, rel=1e-3)
  assert found["copy_last", "clip_frechet"]["weights"] is None
  subjects = {subject for subject, metric in found if metric == "clip_frechet"}
  assert subjects == {"model", "real, other half", "copy_last", "black", "cross_fade", "noise"}


def test_images_are_written(scored, run_folder):
  names = {path.name for path in (run_folder / "evaluation").iterdir()}
  assert names == {"contact_sheet_00000004.png", "prediction_00000004.gif"}


def test_batch_statistics_equal_a_forward_pass_in_train_mode(run_folder):
  trained = workdir.load_trained(str(run_folder))
  experiment, algorithm = trained.experiment, trained.experiment.algorithm
  options = experiment.options()
  (batch,) = pipeline.eval_batches(experiment.config.data, "test", batch_size=8, num_clips=8)
  key, known = jax.random.key(1), generation.conditioning_batch(batch, (0, 1))
  found = generation.predict(experiment, trained.nets, known, key, options=options, batch_norm="batch")

  def train_mode(nets, video, label):
    conditioning = video[:, :2].astype(np.float32) / 127.5 - 1
    latent = algorithm.latent(key, 8)
    output, _ = algorithm.generator().apply(
      nets["generator"].collections,
      conditioning,
      latent,
      label,
      num_frames=3,
      train=True,
      mutable=["batch_stats", "spectral_stats"],
    )
    return to_uint8(output)

  expected = np.asarray(jax.jit(train_mode)(trained.nets, batch["video"], batch["label"]))
  np.testing.assert_allclose(found[:, 2:].astype(int), expected, atol=1)
  # The running statistics after four steps differ from those of the batch.
  running = generation.predict(experiment, trained.nets, known, key, options=options)
  assert np.abs(running[:, 2:] - expected.astype(int)).max() > 1


def evaluation_of(best, mean, baseline):
  return Evaluation(model=BestOf(best=best, mean=mean, num_samples=3), baselines={"copy_last": baseline}, frames=(3, 7))


def test_scores_and_curves_by_hand():
  nan = math.nan
  evaluation = evaluation_of(
    best={"psnr": np.array([[30.0, 20.0], [22.0, 12.0]]), "presence": np.array([1.0, 1.0])},
    mean={"psnr": np.array([[20.0, 10.0], [12.0, 6.0]]), "presence": np.array([0.5, nan])},
    baseline={"centroid_error": np.array([nan, nan])},
  )
  scores = list(scoring.clip_scores(evaluation, COMMON))
  rows = [(score.subject, score.metric, score.protocol, score.value, score.samples) for score in scores]
  assert rows[:3] == [
    ("model", "psnr", "frame_mean, mean of 3 samples", 12.0, 3),  # (15 + 9) / 2
    ("model", "presence", "share of frames with an object, mean of 3 samples", 0.5, 3),
    ("model", "psnr", "frame_mean, best of 3 samples", 21.0, 3),  # (25 + 17) / 2
  ]
  assert [row[:3] for row in rows[3:]] == [("copy_last", "centroid_error", "frames with both objects")]
  assert math.isnan(rows[3][3])
  # Clips 15 and 9: standard error 3, and t is 12.706 for two values.
  assert scores[0].interval == pytest.approx((12 - 38.119, 12 + 38.119), abs=1e-3)
  assert scores[1].interval is None  # a single clip has a score
  curves = list(scoring.frame_scores(evaluation, COMMON))
  assert [(score.metric, score.protocol, score.value) for score in curves] == [
    ("psnr_frame_3", "one frame, mean of 3 samples", 16.0),
    ("psnr_frame_7", "one frame, mean of 3 samples", 8.0),
    ("psnr_frame_3", "one frame, best of 3 samples", 26.0),
    ("psnr_frame_7", "one frame, best of 3 samples", 16.0),
  ]
  assert [line.split() for line in scoring.curve_text(curves).splitlines()] == [
    ["by", "frame", "t=3", "t=7"],
    ["psnr", "model", "(mean", "of", "3", "samples)", "16", "8"],
    ["psnr", "model", "(best", "of", "3", "samples)", "26", "16"],
  ]


def experiment_with(run_config, conditioning_indices):
  """A fake experiment, whose nets with standing statistics are the batches of these statistics."""
  return SimpleNamespace(
    config=run_config,
    mesh=make_mesh(MeshConfig()),
    algorithm=SimpleNamespace(conditioning_indices=lambda num_frames: conditioning_indices),
    put_batch=lambda batch, microbatches: batch,
    with_standing_statistics=lambda nets, batches, key, options, num_clips: list(batches),
  )


def test_standing_statistics_use_the_same_clips_for_any_number_of_processes(run_config, monkeypatch):
  experiment = experiment_with(run_config, (0, 1))

  def clips_of(index, count):
    share = lambda size, mesh, microbatches: range(index * size // count, (index + 1) * size // count)
    monkeypatch.setattr(generation, "local_batch_indices", share)
    return generation.prepare_nets(experiment, {}, options=SampleOptions(num_frames=5), num_batches=2)

  whole, parts = clips_of(0, 1), [clips_of(index, 2) for index in range(2)]
  for batch, *shares in zip(whole, *parts, strict=True):
    assert batch.keys() == {"conditioning", "label"}
    for name in batch:
      np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), batch[name])
    assert shares[0]["label"].shape == (4,)


@pytest.mark.parametrize(("conditioning_indices", "read"), [((0, 1), 2), ((0, 4), 5), ((), 1)])
def test_standing_statistics_stop_at_the_last_conditioning_frame(conditioning_indices, read, run_config, monkeypatch):
  lengths, original = [], pipeline.train_batches

  def train_batches(data, **options):
    lengths.append(data.num_frames)
    return original(data, **options)

  monkeypatch.setattr(pipeline, "train_batches", train_batches)
  experiment = experiment_with(run_config, conditioning_indices)
  (batch,) = generation.prepare_nets(experiment, {}, options=SampleOptions(num_frames=5), num_batches=1)
  assert lengths == [read]
  assert batch["conditioning"].shape == (8, len(conditioning_indices), 16, 16, 3)


@pytest.mark.parametrize(
  ("conditioning_indices", "names"),
  [
    ((0, 1), {"black", "noise", "copy_last", "cross_fade", "linear_extrapolation"}),
    ((0, 4), {"black", "noise", "copy_last", "cross_fade", "flow_none", "linear_interpolation"}),
    ((0,), {"black", "noise", "copy_last", "cross_fade"}),
  ],
)
def test_suitable_baselines_are_scored_on_generated_frames(conditioning_indices, names):
  # Every pixel of frame t is t + 1: black has the squared error (t + 1)^2 in generated frames.
  truth = np.broadcast_to(np.arange(1, 6, dtype=np.uint8).reshape(1, 5, 1, 1, 1), (2, 5, 16, 16, 3))
  flow = FlowBaseline("flow_none", lambda first, last: np.zeros((*first.shape[:3], 2), np.float32))
  guesses = scoring.baseline_predictions(truth, conditioning_indices, key=jax.random.key(0), flow=flow)
  scores = scoring.score_baselines(guesses, truth, conditioning_indices, tracking=True)
  assert scores.keys() == names
  generated = np.array([t for t in range(5) if t not in conditioning_indices])
  expected = np.broadcast_to(decibels((generated + 1.0) ** 2), (2, len(generated)))
  np.testing.assert_allclose(scores["black"]["psnr"], expected, rtol=1e-5)
  for clips in guesses.values():
    np.testing.assert_array_equal(clips[:, list(conditioning_indices)], truth[:, list(conditioning_indices)])
  other = scoring.baseline_predictions(truth, conditioning_indices, key=jax.random.key(1))
  assert not np.array_equal(guesses["noise"], other["noise"])


def test_clips_from_noise_are_scored_by_presence_only():
  clips = np.random.default_rng(0).integers(256, size=(2, 2, 5, 16, 16, 3), dtype=np.uint8)
  clips[0] = 0
  clips[0, 0, 1:3, 4:8, 4:8] = 200  # one clip shows an object in two of its five frames, the other in none
  assert scoring.metric_names((), tracking=False) == () and scoring.score(*clips, (), tracking=False) == {}
  assert scoring.metric_names((), tracking=True) == ("presence",)
  np.testing.assert_allclose(scoring.score(*clips, (), tracking=True)["presence"], [0.4, 0.0])
  for tracking in (False, True):
    names = set(scoring.metric_names((0,), tracking=tracking))
    assert names == set(scoring.score(*clips, (0,), tracking=tracking)) <= set(METRICS)
    assert ("presence" in names) == tracking
    inferred = scoring.score(*clips, (0,), tracking=tracking, infers=True)
    assert set(inferred) == names | {"anchor_psnr"} == set(scoring.metric_names((0,), tracking=tracking, infers=True))
    np.testing.assert_allclose(inferred["anchor_psnr"][:, 0], frame_psnr(*clips[:, :, 0:1])[:, 0])
  assert scoring.curve_text([]) == ""


def test_clips_without_conditioning_frames_can_be_placed_on_devices(run_config):
  experiment = build_experiment(run_config)
  batch = generation.conditioning_batch(
    {"video": np.zeros((8, 5, 16, 16, 3), np.uint8), "label": np.zeros(8, np.int32)}, ()
  )
  placed = experiment.put_batch(batch, microbatches=False)
  assert placed["conditioning"].shape == (8, 0, 16, 16, 3)


def test_mean_without_nan_does_not_warn():
  assert math.isnan(scoring.mean_without_nan(np.array([math.nan, math.nan])))
  assert scoring.mean_without_nan(np.array([1.0, math.nan, 3.0])) == 2.0


@pytest.mark.parametrize(
  ("words", "expected"),
  [([], ("tgan1", True)), (["--nopool_samples"], ("tgan1", False)), (["--c3d_protocol=tgan2"], ("tgan2", True))],
)
def test_settings_of_the_run_reach_the_scores_of_sets(words, expected, run_folder, monkeypatch, tmp_path):
  config = json.loads((run_folder / "config.json").read_text())
  config["evaluation"] |= {"c3d_protocol": "tgan1", "pool_samples": True, "samples": 2}
  (tmp_path / "config.json").write_text(json.dumps(config))

  class Reached(Exception):
    pass

  def collect(extractors, *, options, **unused):
    raise Reached(extractors[0].c3d_protocol, options.pool_samples)

  load = lambda path, **options: SimpleNamespace(network=path, c3d_protocol=options["c3d_protocol"])
  monkeypatch.setattr(metric_flags, "load_extractor", load)
  monkeypatch.setattr(evaluate, "FeatureCollector", collect)
  with pytest.raises(Reached) as found:
    cli.dispatch(["evaluate", f"--workdir={tmp_path}", "--networks=c3d", *words])
  assert found.value.args == expected


def test_frames_smaller_than_the_window_of_ssim_are_one_line(run_folder, vidgen, monkeypatch):
  video = np.zeros((1, 3, 10, 32, 3), np.uint8)
  with pytest.raises(UserError, match="SSIM needs frames of at least 11x11 pixels, got 10x32"):
    scoring.score(video, video, (0,), tracking=False)
  large = METRICS | {"ssim": dataclasses.replace(METRICS["ssim"], min_side=17)}
  monkeypatch.setattr(scoring, "METRICS", large)
  assert "SSIM needs frames of at least 17x17 pixels, got 16x16" in vidgen("evaluate", f"--workdir={run_folder}")


def test_damaged_checkpoint_is_skipped_for_the_previous_one(run_folder, tmp_path, caplog):
  copy = tmp_path / "run"
  shutil.copytree(run_folder, copy)
  chunks = [path for path in (copy / "checkpoints" / "step_4" / "state").rglob("d/*") if path.is_file()]
  assert chunks
  for path in chunks:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with caplog.at_level(logging.WARNING):
    trained = workdir.load_trained(str(copy))
  assert trained.step == 2
  assert "checkpoint of step 4 cannot be read and is skipped: " in caplog.text
  kernel = np.asarray(trained.nets["generator"].params["output"]["kernel"])
  expected = workdir.load_trained(str(run_folder), step=2).nets["generator"].params["output"]["kernel"]
  np.testing.assert_array_equal(kernel, expected)
  with pytest.raises(UserError, match=r"can be read \(tried \[4\]\)"):
    workdir.load_trained(str(copy), step=4)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--workdir={run}/nothing", "has no config.json: no run was started there"),
    ("--workdir={run} --networks={run}/nothing.safetensors", "nothing.safetensors"),
    ("--workdir={run} --networks={weights} --num_clips=1", "--num_clips=1 is too few for the scores of --networks"),
    ("--workdir={run} --networks={weights} --splits=5 --num_clips=4", "give 5 or more"),
    ("--workdir={run} --truncation=nan", "truncation is not a number"),
    ("--workdir={run} --splits=5", "--splits needs --networks"),
    ("--workdir={run} --pool_samples", "--pool_samples needs --networks"),
    ("--workdir={run} --networks={weights} --pool_samples --samples=1", "but evaluation.samples is 1"),
    ("--workdir={run} --batch_norm=batch --standing_statistics_data=a", "exclude each other"),
    ("--workdir={run} --flow_weights=a", "--flow_weights needs a model with frames between conditioning frames"),
    (
      "--workdir={run} --config={experiment}:smoke --config.algorithm.num_classes=data --data_dir={run}",
      "data set 'shape_motion' is not in {run}",
    ),
    ("--workdir={run} --step=7", "has no checkpoint of step 7; it has [2, 4]"),
    ("--workdir={run} --split=held_out", "has no split 'held_out', only test, train"),
    ("--workdir={run} --num_frames=40", "has no clip of 40 frames in split 'test' (the longest has 32)"),
    (
      "--workdir={run} --config={experiment}:cpu",
      "has another model than --config: config.algorithm.class_features was 4, is 32",
    ),
  ],
)
def test_user_errors_are_one_line(words, message, run_folder, repository, vidgen, classifier_file):
  experiment = repository / "experiments" / "trivd_shape_motion.py"
  assert message.format(run=run_folder) in vidgen(
    "evaluate", *words.format(run=run_folder, experiment=experiment, weights=classifier_file).split()
  )
