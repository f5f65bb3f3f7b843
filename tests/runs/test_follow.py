"""`vidgen evaluate --follow`: each checkpoint is scored once and the best is kept, whatever training deletes."""

import dataclasses
import json
import logging
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.runs import follow as following
from vidgen_jax.runs import workdir
from vidgen_jax.runs.follow import follow
from vidgen_jax.scores.report import Score

pytest_plugins = ("tests.trained_runs",)


def best_step(folder) -> int:
  return json.loads((folder / "best" / "best.json").read_text())["step"]


def score_of(value, *, metric="psnr", subject="model"):
  return Score(metric=metric, value=value, subject=subject, protocol="", split="test", num_clips=1)


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A folder with checkpoints of files only, and a function that adds one as a training process would."""
  (tmp_path / "config.json").write_text("{}")

  def save(step):
    staged = tmp_path / "staged"
    (staged / "state").mkdir(parents=True)
    (staged / "state" / "weights").write_text(str(step))
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    staged.rename(tmp_path / "checkpoints" / f"step_{step}")

  def steps(folder):
    return sorted(int(path.name.removeprefix("step_")) for path in (tmp_path / "checkpoints").glob("step_*"))

  monkeypatch.setattr(following, "_steps", steps)
  return SimpleNamespace(folder=tmp_path, save=save)


def test_every_process_opens_the_checkpoints(monkeypatch):
  """Opening them waits for all processes, so process 0 must not do it alone."""
  opened = MagicMock()
  opened.return_value.__enter__.return_value.steps.return_value = [2, 4]
  monkeypatch.setattr(following, "Checkpointer", opened)
  monkeypatch.setattr(following.jax, "process_index", lambda: 1)
  assert following._steps("run") == [2, 4]
  opened.assert_called_once()
  # A process that lists the folder later may find more.
  monkeypatch.setattr(following, "broadcast_from_process_0", lambda steps: steps[:1])
  assert following._steps("run") == [2]


def test_each_new_checkpoint_is_scored_once_and_the_best_is_kept(run):
  values, seen = {1: 3.0, 2: 5.0, 3: 4.0, 4: 1.0}, []

  def score(folder, step):
    assert Path(folder, "checkpoints", f"step_{step}", "state", "weights").read_text() == str(step)
    shutil.rmtree(run.folder / "checkpoints" / f"step_{step}")  # training deletes it while it is scored
    seen.append(step)
    return [score_of(99.0, subject="copy_last"), score_of(values[step])]

  def train():
    for step in values:
      run.save(step)
      time.sleep(0.05)

  thread = threading.Thread(target=train)
  thread.start()
  assert follow(str(run.folder), score, scored=[], last_step=4, metric="psnr", poll=0.01) == [1, 2, 3, 4]
  thread.join()
  assert seen == [1, 2, 3, 4]
  assert best_step(run.folder) == 2
  assert (run.folder / "best" / "checkpoints" / "step_2" / "state" / "weights").read_text() == "2"
  kept = json.loads((run.folder / "best" / "best.json").read_text())
  assert (kept["value"], kept["step"], kept["terms"]["metric"], kept["terms"]["num_clips"]) == (5.0, 2, "psnr", 1)
  assert {path.name for path in run.folder.iterdir()} == {"config.json", "checkpoints", "best"}


def test_lower_is_better_for_distances_and_ties_keep_the_first(run):
  values = {1: 9.0, 2: 7.0, 3: 7.0}
  for step in values:
    run.save(step)
  options = {"last_step": 3, "metric": "fvd", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(values[step], metric="fvd")], scored=[], **options)
  assert best_step(run.folder) == 2
  # A second follower reads what was kept and scored.
  run.save(4)
  options = {"last_step": 4, "metric": "fvd", "poll": 0.01}
  assert follow(str(run.folder), lambda _, step: [score_of(8.0, metric="fvd")], scored=[1, 2, 3], **options) == [4]
  assert best_step(run.folder) == 2


def test_earlier_checkpoints_are_scored_although_the_last_one_was(run):
  for step in (1, 2, 3):
    run.save(step)
  options = {"last_step": 3, "poll": 0.01}
  assert follow(str(run.folder), lambda _, step: [score_of(step)], scored=[3], **options) == [1, 2]


def test_checkpoint_scored_without_follow_competes_for_the_best(run):
  for step in (1, 2, 3):
    run.save(step)
  options = {"last_step": 3, "metric": "psnr", "poll": 0.01}
  assert follow(str(run.folder), lambda _, step: [score_of(step)], scored=[3], **options) == [1, 2, 3]
  assert best_step(run.folder) == 3
  # All of them have been compared on these terms, none on other terms.
  again = {"scored": [1, 2, 3], **options}
  assert follow(str(run.folder), lambda _, step: [score_of(step)], **again, terms={"num_clips": 1}) == []
  assert follow(str(run.folder), lambda _, step: [score_of(step)], **again, terms={"num_clips": 9}) == [1, 2, 3]


def test_scores_on_other_terms_do_not_compete(run, caplog):
  run.save(1)
  run.save(2)
  options = {"last_step": 1, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(30.0)], scored=[2], **options)
  other = dataclasses.replace(score_of(20.0), num_clips=500)
  follow(str(run.folder), lambda _, step: [other], scored=[1], last_step=2, metric="psnr")
  assert best_step(run.folder) == 2
  assert "best is replaced with its scores: step 1 was the best by psnr" in caplog.text


def test_best_moved_by_a_killed_process_is_restored(run):
  run.save(1)
  options = {"last_step": 1, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(30.0)], scored=[], **options)
  (run.folder / "best").rename(run.folder / ".best_replaced")
  run.save(2)
  options = {"last_step": 2, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(20.0)], scored=[1], **options)
  assert best_step(run.folder) == 1


def test_damaged_record_of_the_best_is_replaced(run, caplog):
  run.save(1)
  (run.folder / "best").mkdir()
  (run.folder / "best" / "best.json").write_text('{"value": 99')
  options = {"last_step": 1, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(1.0)], scored=[], **options)
  assert best_step(run.folder) == 1
  assert "best.json is damaged" in caplog.text


def test_partly_deleted_checkpoint_is_skipped(run, monkeypatch):
  # Training deletes files one by one: one is gone while the folder is still there.
  run.save(1)
  run.save(2)
  (run.folder / "checkpoints" / "step_1" / "state" / "more").write_text("1")
  link = following._link

  def delete_one(source, target):
    link(source, target)
    if "step_1" in source:
      (run.folder / "checkpoints" / "step_1" / "state" / "more").unlink(missing_ok=True)

  monkeypatch.setattr(following, "_link", delete_one)
  assert follow(str(run.folder), lambda _, step: [], scored=[], last_step=2, poll=0.01) == [2]


def test_nan_is_never_the_best(run):
  run.save(1)
  run.save(2)
  values = {1: 2.0, 2: float("nan")}
  options = {"last_step": 2, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(values[step])], scored=[], **options)
  assert best_step(run.folder) == 1


def test_checkpoint_deleted_before_it_is_read_is_skipped(run, monkeypatch, caplog):
  run.save(1)
  run.save(2)
  link = following._link

  def vanish(source, target):
    if "step_1" in source:
      shutil.rmtree(run.folder / "checkpoints" / "step_1", ignore_errors=True)
    link(source, target)

  monkeypatch.setattr(following, "_link", vanish)
  with caplog.at_level(logging.WARNING):
    scored = follow(str(run.folder), lambda _, step: [], scored=[], last_step=2, poll=0.01)
  assert scored == [2]
  assert "the checkpoint of step 1 was deleted before it could be scored" in caplog.text


def test_errors_of_scoring_propagate_and_leave_no_files(run):
  run.save(1)

  def fail(folder, step):
    raise FileNotFoundError("the data set")

  with pytest.raises(FileNotFoundError, match="the data set"):
    follow(str(run.folder), fail, scored=[], last_step=1, poll=0.01)
  assert not list(run.folder.glob(".following*"))


def test_following_ends_after_the_patience(run):
  run.save(1)
  options = {"last_step": 9, "poll": 0.01, "patience": 0.05}
  assert follow(str(run.folder), lambda _, step: [], scored=[], **options) == [1]


def test_existing_checkpoints_are_scored_without_waiting(run):
  with pytest.raises(UserError, match="has no checkpoint yet"):
    follow(str(run.folder), lambda _, step: [], scored=[], last_step=9, wait=False)
  run.save(1)
  run.save(2)
  options = {"last_step": 9, "metric": "psnr", "wait": False}
  assert follow(str(run.folder), lambda _, step: [score_of(3.0 - step)], scored=[], **options) == [1, 2]
  assert best_step(run.folder) == 1


def test_links_fall_back_to_copies(run, monkeypatch):
  run.save(1)

  def refuse(source, target):
    raise OSError("no links here")

  monkeypatch.setattr(following.os, "link", refuse)
  options = {"last_step": 1, "metric": "psnr", "poll": 0.01}
  follow(str(run.folder), lambda _, step: [score_of(1.0)], scored=[], **options)
  assert (run.folder / "best" / "checkpoints" / "step_1" / "state" / "weights").read_text() == "1"


def test_wrong_options_are_user_errors(run):
  with pytest.raises(UserError, match=r"--best_metric=beauty must be one of .*psnr"):
    follow(str(run.folder), lambda _, step: [], scored=[], last_step=1, metric="beauty")
  with pytest.raises(UserError, match="--poll=0"):
    follow(str(run.folder), lambda _, step: [], scored=[], last_step=1, poll=0)
  with pytest.raises(UserError, match="--patience=nan"):
    follow(str(run.folder), lambda _, step: [], scored=[], last_step=1, patience=float("nan"))
  run.save(1)
  with pytest.raises(UserError, match="--best_metric=fvd is not among the scores, which have psnr; see --networks"):
    follow(str(run.folder), lambda _, step: [score_of(1.0)], scored=[], last_step=1, metric="fvd")


def test_best_checkpoint_of_a_real_run_is_a_workdir(run_folder, tmp_path, capsys):
  copy = tmp_path / "run"
  shutil.copytree(run_folder, copy)
  (copy / "scores.jsonl").unlink(missing_ok=True)
  words = [f"--workdir={copy}", "--samples=1", "--num_clips=4", "--follow", "--best_metric=psnr", "--poll=0.1"]
  assert cli.dispatch(["evaluate", *words]) == 0
  rows = [json.loads(line) for line in (copy / "scores.jsonl").read_text().splitlines()]
  values = {row["step"]: row["value"] for row in rows if (row["subject"], row["metric"]) == ("model", "psnr")}
  assert set(values) == {2, 4}
  assert {row["split"] for row in rows} == {"train"}  # not that of results
  best = max(values, key=values.get)
  assert workdir.load_trained(str(copy / "best")).step == best == best_step(copy)
  capsys.readouterr()
  with (copy / "scores.jsonl").open("a") as file:
    file.write('{"cut off')  # by a killed process
  words[3] = "--all_checkpoints"
  assert cli.dispatch(["evaluate", *words[:-1]]) == 0  # nothing is left to score
  assert capsys.readouterr().out == ""
  assert cli.dispatch(["evaluate", *words[:-1], "--seed=7"]) == 0  # other terms: all are scored
  assert capsys.readouterr().out.count("subject") == 2


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--follow --step=2", "--step selects one checkpoint"),
    ("--best_metric=psnr", "--best_metric needs --follow or --all_checkpoints"),
    ("--follow --all_checkpoints", "--follow includes the checkpoints of --all_checkpoints"),
    ("--all_checkpoints --poll=1", "--poll needs --follow"),
    ("--follow --select_on_test", "--select_on_test needs --best_metric"),
    (
      "--follow --best_metric=psnr --split=test",
      "would select the checkpoint on split 'test' of data set 'shape_motion', on which results are reported",
    ),
    ("--follow --best_metric=fvd --num_clips=4 --samples=1", "--best_metric=fvd is not among the scores"),
  ],
)
def test_user_errors_are_one_line(words, message, run_folder, tmp_path, vidgen):
  shutil.copytree(run_folder, tmp_path / "run")
  (tmp_path / "run" / "scores.jsonl").unlink(missing_ok=True)
  assert message in vidgen("evaluate", f"--workdir={tmp_path / 'run'}", *words.split())
