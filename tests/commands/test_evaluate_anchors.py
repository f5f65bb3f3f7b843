"""`vidgen evaluate` of a model with any conditioning frames."""

import json

import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.sampling.samplers import with_conditioning_indices
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


def test_task_sets_the_conditioning_frames_of_the_scores(predicted):
  assert {row["conditioning_indices"] for row in predicted.values()} == {"0"}
  frames = {metric for _, metric, _ in predicted if metric.startswith("psnr_frame")}
  assert frames == {f"psnr_frame_{i}" for i in (1, 2, 3, 4)}
  best = predicted["model", "psnr", "frame_mean, best of 2 samples"]["value"]
  assert best >= predicted["model", "psnr", "frame_mean, mean of 2 samples"]["value"]


def test_reconstructions_and_naive_interpolation_are_scored(predicted, anchors_folder):
  config = with_conditioning_indices(workdir.load_config(str(anchors_folder)), (0,))
  trained = workdir.load_trained(str(anchors_folder), config=config)
  experiment, options = trained.experiment, trained.experiment.options()
  nets = generation.prepare_nets(experiment, trained.nets, options=options)
  truth = next(generation.evaluation_batches(experiment, num_frames=5, num_clips=8))["video"]
  batch = {"conditioning": truth[:, :1], "label": np.zeros(len(truth), np.int32)}
  made = np.asarray(generation.interpolate(experiment, nets, batch, options=options))
  values = np.asarray(frame_psnr(made, truth))
  known = predicted["naive_interpolation", "psnr", "frame_mean"]["value"]
  assert known == pytest.approx(values[:, 1:].mean(), rel=1e-3)
  known = predicted["naive_interpolation", "anchor_psnr", "conditioning frames as the model makes them"]["value"]
  assert known == pytest.approx(values[:, 0].mean(), rel=1e-3)
  ((_, _, protocol),) = [key for key in predicted if key[:2] == ("model", "anchor_psnr")]
  assert protocol == "conditioning frames as the model makes them, mean of 2 samples"
  # No other subject reconstructs the conditioning frames.
  assert {subject for subject, metric, _ in predicted if metric == "anchor_psnr"} == {"model", "naive_interpolation"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--task=predict", "--conditioning_indices=0"], "--task and --conditioning_indices exclude each other"),
    (["--conditioning_indices=0,1,2,3,4"], "all frames are conditioning frames"),
    (["--conditioning_indices=0,five"], "'five' is not an integer"),
    (["--conditioning_indices=7"], "frame 7 is out of range: a clip has 5 frames"),
  ],
)
def test_impossible_conditioning_frames_are_one_line(flags, message, anchors_folder, capsys):
  assert cli.dispatch(["evaluate", f"--workdir={anchors_folder}", *flags]) == 2
  assert message in capsys.readouterr().err


def test_task_needs_a_model_with_any_conditioning_frames(run_folder, capsys):
  assert cli.dispatch(["evaluate", f"--workdir={run_folder}", "--task=predict"]) == 2
  assert "only sr_cgan accepts any frames" in capsys.readouterr().err
