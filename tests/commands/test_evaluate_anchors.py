"""`vidgen evaluate` of a model that takes frames at any times."""

import json

import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.sampling.anchors import with_given_frames
from vidgen_jax.scores.metrics.psnr import frame_psnr

pytest_plugins = ("tests.trained_runs",)


def _rows(folder):
  lines = (folder / "scores.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return {(row["subject"], row["metric"], row["protocol"]): row for row in rows}


@pytest.fixture(scope="module")
def predicted(anchors_folder):
  """Scores of two samples from the first frame."""
  flags = [f"--workdir={anchors_folder}", "--task=predict", "--samples=2", "--num_clips=8"]
  assert cli.dispatch(["evaluate", *flags]) == 0
  return _rows(anchors_folder)


def test_a_task_chooses_the_frames_and_is_told_with_the_scores(predicted):
  assert {row["conditioning_indices"] for row in predicted.values()} == {"0"}
  frames = {metric for _, metric, _ in predicted if metric.startswith("psnr_frame")}
  assert frames == {f"psnr_frame_{i}" for i in (1, 2, 3, 4)}
  best = predicted["model", "psnr", "frame_mean, best of 2 samples"]["value"]
  assert best >= predicted["model", "psnr", "frame_mean, mean of 2 samples"]["value"]


def test_anchors_and_naive_interpolation_are_scored_as_made(predicted, anchors_folder):
  config = with_given_frames(workdir.load_config(str(anchors_folder)), (0,))
  trained = workdir.load_trained(str(anchors_folder), config=config)
  experiment, options = trained.experiment, trained.experiment.options()
  key, passes = generation.standing_statistics_key(experiment), config.evaluation.standing_batches
  nets = generation.prepare_nets(experiment, trained.nets, key, options=options, num_batches=passes)
  truth = next(generation.evaluation_batches(experiment, num_frames=5, num_clips=8))["video"]
  batch = {"conditioning": truth[:, :1], "label": np.zeros(len(truth), np.int32)}
  made = np.asarray(generation.interpolate(experiment, nets, batch, options=options))
  values = np.asarray(frame_psnr(made, truth, data_range=255))
  known = predicted["naive_interpolation", "psnr", "frame_mean"]["value"]
  assert known == pytest.approx(values[:, 1:].mean(), rel=1e-3)
  known = predicted["naive_interpolation", "anchor_psnr", "conditioning frames as the model makes them"]["value"]
  assert known == pytest.approx(values[:, 0].mean(), rel=1e-3)
  ((_, _, protocol),) = [key for key in predicted if key[:2] == ("model", "anchor_psnr")]
  assert protocol == "conditioning frames as the model makes them, mean of 2 samples"
  # Nothing else makes something of its own of the conditioning frames.
  assert {subject for subject, metric, _ in predicted if metric == "anchor_psnr"} == {"model", "naive_interpolation"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--task=predict", "--conditioning_indices=0"], "--task and --conditioning_indices exclude each other"),
    (["--conditioning_indices=0,1,2,3,4"], "all frames are given"),
    (["--conditioning_indices=0,five"], "'five' is no number"),
    (["--conditioning_indices=7"], "frame 7 is not in clips of 5 frames"),
  ],
)
def test_frames_that_cannot_be_given_are_named(flags, message, anchors_folder, capsys):
  assert cli.dispatch(["evaluate", f"--workdir={anchors_folder}", *flags]) == 2
  assert message in capsys.readouterr().err


def test_models_that_are_always_given_the_same_frames_refuse_a_task(run_folder, capsys):
  assert cli.dispatch(["evaluate", f"--workdir={run_folder}", "--task=predict"]) == 2
  assert "are always given the same frames" in capsys.readouterr().err
