"""Scores over several runs: by hand, and refusals of runs that were scored differently."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.scores.report import COMPARED, Score, append_scores
from vidgen_jax.scores.run_comparison import read_rows, scores_over_runs

pytest_plugins = ("tests.trained_runs",)

FVD = Score(
  metric="fvd", value=0.0, subject="model", protocol="logits", split="test", num_clips=256, step=500, seed=0,
  extractor="i3d, 400 classes", extractor_hash="abc", interval=(0.0, 1.0), samples=100,
)  # fmt: skip


@pytest.fixture
def save(tmp_path):
  """A function that appends scores to a run and returns its folder."""

  def append(name, *scores):
    append_scores(tmp_path / name / "scores.jsonl", scores)
    return str(tmp_path / name)

  return append


def with_value(value, **changes):
  return dataclasses.replace(FVD, value=value, **changes)


def test_mean_deviation_and_interval_over_runs(save):
  values = [150.0, 160.0, 155.0]
  # Checkpoint and seed may differ; the latest score counts.
  runs = [
    save(f"run{index}", with_value(999.0, step=10), with_value(1.0, subject="copy_last"), with_value(value, seed=index))
    for index, value in enumerate(values)
  ]
  with Path(runs[0], "scores.jsonl").open("a") as file:
    file.write('5\n{"subject": "model", "metric": "fvd"}\n{"cut off')
  (score,) = scores_over_runs({run: read_rows(run) for run in runs})
  assert (score.subject, score.metric, score.value, score.deviation) == ("3 runs", "fvd", 155.0, 5.0)
  # Student's t with 2 degrees of freedom: 155 +- 4.3027 * 5 / sqrt(3).
  assert score.interval == pytest.approx((142.579, 167.421), abs=1e-3)
  assert (score.split, score.samples, score.extractor_hash, score.step, score.seed) == ("test", 100, "abc", None, None)
  assert score.protocol == "logits; mean, deviation and t interval over 3 runs"


def test_the_latest_score_counts_even_if_it_is_not_finite(save, caplog):
  runs = [save("one", with_value(1.0)), save("other", with_value(3.0), with_value(math.nan))]
  (score,) = scores_over_runs({run: read_rows(run) for run in runs})
  assert math.isnan(score.value) and score.interval is None
  assert f"fvd is NaN: the latest score of {runs[1]} is not finite" in caplog.text


def test_scores_that_only_some_runs_have_are_logged(save, caplog):
  one = save("one", with_value(1.0), with_value(5.0, split="validation"))
  other = save("other", with_value(3.0), dataclasses.replace(FVD, metric="kvd"))
  (score,) = scores_over_runs({run: read_rows(run) for run in (one, other)})
  assert (score.split, score.value) == ("test", 2.0)
  assert [row["value"] for row in read_rows(one, split="validation").values()] == [5.0]
  assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
    f"{one}: the score of fvd with split='validation' is left out: not all runs have it",
    f"kvd is left out: {one} has no scores of it",
  ]


OTHERS = {
  "protocol": "features", "split": "validation", "num_clips": 512, "data": "kinetics", "window": "all", "lossy": True,
  "standing_data": "kinetics", "num_generated": 2048, "samples": 10, "pooled": True, "repeats": 10, "weights": "raw",
  "batch_norm": "batch", "truncation": 0.5, "sampling_means": "4,2,0", "clip": "16x64x64x3",
  "conditioning_indices": "0", "extractor_hash": "def",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_different_protocols_are_refused_with_the_difference(name, save):
  one, other = save("one", with_value(1.0)), save("other", with_value(3.0, **{name: OTHERS[name]}))
  message = (
    f"fvd was scored by different protocols: {name}={getattr(FVD, name)!r} in {one}, {OTHERS[name]!r} in {other}"
  )
  with pytest.raises(UserError, match=re.escape(message)):
    scores_over_runs({run: read_rows(run) for run in (one, other)})


def test_all_fields_of_a_protocol_are_tested():
  assert set(OTHERS) == set(COMPARED) - {"metric", "seed"}


def test_runs_without_a_common_metric_are_refused(save):
  one, other = save("one", with_value(1.0)), save("other", dataclasses.replace(FVD, metric="kvd"))
  with pytest.raises(UserError, match=r"one has scores of fvd, \S+other has not"):
    scores_over_runs({run: read_rows(run) for run in (one, other)})


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("{run}", "needs the folders of two or more runs, got 1"),
    ("{run} {run}/", "is listed twice"),
    ("{run} {run}/nothing", "nothing has no scores; run `vidgen evaluate --workdir="),
    ("{run} {run}/nothing --metrics=fvd --split=train", "run has no scores of split 'train', fvd;"),
    ("{run} {run}/nothing --metrics=fud", "--metrics: 'fud' must be one of "),
  ],
)
def test_user_errors_are_one_line(words, message, save, vidgen):
  assert message in vidgen("compare-runs", *words.format(run=save("run", with_value(1.0))).split())


def test_command_prints_and_appends(save, tmp_path, capsys):
  runs = [save(f"run{index}", with_value(float(index))) for index in range(2)]
  assert cli.dispatch(["compare-runs", *runs, f"--out={tmp_path / 'over.jsonl'}"]) == 0
  assert "2 runs   fvd       0.5" in capsys.readouterr().out
  assert json.loads((tmp_path / "over.jsonl").read_text())["value"] == 0.5
