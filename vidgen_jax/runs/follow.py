"""Scores the checkpoints of a run, also while it is trained elsewhere, and keeps the best one."""

import contextlib
import json
import math
import os
import pathlib
import shutil
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
from absl import logging
from etils import epath

from vidgen_jax import buckets
from vidgen_jax.buckets import AnyPath, read_text, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.parallel.processes import broadcast_from_process_0
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.workdir import CONFIG_FILE
from vidgen_jax.scores.registry import SELECTION_DIRECTIONS
from vidgen_jax.scores.report import COMPARED, Score

BEST_FOLDER, BEST_FILE = "best", "best.json"

_REPLACED = ".best_replaced"


def follow(
  workdir: str,
  score: Callable[[str, int], Sequence[Score]],
  *,
  scored: Sequence[int],
  last_step: int,
  metric: str = "",
  wait: bool = True,
  poll: float = 10.0,
  patience: float = 3600.0,
  terms: Mapping[str, Any] = MappingProxyType({}),
) -> list[int]:
  """Scores all checkpoints, existing and new ones, in the order of their steps; returns these steps.

  Args:
    workdir: folder of the run.
    score: function from (a folder with the run's config and one checkpoint, the step) to scores.
    scored: steps that were already scored on the same terms. If the best checkpoint is kept, those that were not
      compared with it are scored again.
    last_step: last step of the run; following ends when it is scored.
    wait: whether to wait for new checkpoints; False scores those that exist.
    metric: row name of the metric that selects the best checkpoint, which is kept in `workdir/best`, a workdir itself;
      '' keeps none.
    poll: seconds between two checks for new checkpoints.
    patience: seconds without a new checkpoint after which following ends.
    terms: fields of the scores that are known in advance.

  Raises:
    UserError: if an argument is out of range, `metric` is not among the scores, or without `wait` there is no
      checkpoint.
  """
  if metric and metric not in SELECTION_DIRECTIONS:
    raise UserError(f"--best_metric={metric} must be one of {', '.join(SELECTION_DIRECTIONS)}")
  if not (poll > 0 and patience >= 0):
    raise UserError(f"--poll={poll:g} must be above 0 and --patience={patience:g} at least 0")
  run_folder = user_path(workdir)
  _restore_best(run_folder)
  skipped = set(scored) & _compared_steps(run_folder, metric, terms) if metric else set(scored)
  if not (wait or _steps(workdir)):
    raise UserError(f"--workdir={workdir} has no checkpoint yet")
  done, now, waited_since = set(broadcast_from_process_0(sorted(skipped))), [], time.monotonic()
  while True:
    new = [step for step in _steps(workdir) if step not in done]
    for step in new:
      with _snapshot(run_folder, step) as folder:
        if folder is not None:
          _keep_best(run_folder, folder, step, score(str(folder), step), metric)
          now.append(step)
      done.add(step)
    if last_step in done or not wait:
      break
    if new:
      waited_since = time.monotonic()
    elif broadcast_from_process_0(time.monotonic() - waited_since > patience):
      logging.info("no new checkpoint for %g s; the run is at step %s", patience, max(done, default="none"))
      break
    else:
      time.sleep(poll)
  _log_best(run_folder, metric)
  return now


def _log_best(workdir: AnyPath, metric: str) -> None:
  if metric and jax.process_index() == 0 and (best := _read_best(workdir)) is not None:
    chosen = metric, best["value"], best["step"], len(best["compared"])
    logging.info("best %s: %.5g of step %d, out of %d checkpoints; see --workdir=%s", *chosen, workdir / BEST_FOLDER)


def _read_best(workdir: AnyPath) -> dict[str, Any] | None:
  path = workdir / BEST_FOLDER / BEST_FILE
  if (text := read_text(path)) is None:
    return None
  try:
    best = json.loads(text)
    return {name: best[name] for name in ("value", "step", "terms", "compared")}
  except (ValueError, KeyError, TypeError):
    logging.warning("%s is damaged; the best checkpoint is selected again", path)
    return None


def _compared_steps(workdir: AnyPath, metric: str, terms: Mapping[str, Any]) -> set[int]:
  """The steps among which the best checkpoint was selected by this metric and on these terms."""
  best = _read_best(workdir)
  if best is None or any(best["terms"].get(name) != value for name, value in {**terms, "metric": metric}.items()):
    return set()
  return set(best["compared"])


def _steps(workdir: str) -> list[int]:
  # On all processes, because opening the folder waits for all of them.
  with Checkpointer(workdir, read_only=True) as checkpointer:
    return broadcast_from_process_0(checkpointer.steps())


@contextlib.contextmanager
def _snapshot(workdir: AnyPath, step: int) -> Generator[AnyPath | None]:
  """A private folder with the config and one checkpoint; None if training has deleted the checkpoint meanwhile."""
  lead = jax.process_index() == 0
  # Host and process id, because several processes may follow one run.
  folder = workdir / f".following_{broadcast_from_process_0(f'{socket.gethostname()}_{os.getpid()}')}"
  found = broadcast_from_process_0(_take_checkpoint(workdir, folder, step) if lead else None)
  if not found:
    logging.warning("the checkpoint of step %d was deleted before it could be scored", step)
  try:
    yield folder if found else None
  finally:
    if lead:
      _remove(folder)


def _remove(folder: AnyPath) -> None:
  if isinstance(folder, epath.Path):
    buckets.delete_folder(folder)
  else:
    shutil.rmtree(folder, ignore_errors=True)


def _take_checkpoint(workdir: AnyPath, folder: AnyPath, step: int) -> bool:
  """Copies or links a checkpoint and the config; False if the checkpoint was not complete."""
  _remove(folder)
  source, target = (root / "checkpoints" / f"step_{step}" for root in (workdir, folder))
  # Training deletes file by file, so part of a checkpoint may be taken without an error.
  if isinstance(source, epath.Path) and isinstance(target, epath.Path):
    before = buckets.names(source)
    complete = bool(before) and buckets.copy_folder(source, target)
    complete = complete and before == buckets.names(source) == buckets.names(target)
    return complete and buckets.copy_file(epath.Path(workdir) / CONFIG_FILE, epath.Path(folder) / CONFIG_FILE)
  try:
    before = _files(source)
    shutil.copytree(source, target, copy_function=_link)
    complete = before == _files(source) == _files(target)
  except (FileNotFoundError, shutil.Error):
    complete = False
  if complete:
    shutil.copy2(workdir / CONFIG_FILE, folder / CONFIG_FILE)
  return complete


def _files(folder: AnyPath) -> set[str]:
  return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _link(source: str, target: str) -> None:
  """Makes a hard link, which keeps the data when training deletes the file; a copy if the disk has no links."""
  try:
    os.link(source, target)
  except OSError:
    shutil.copy2(source, target)


def _keep_best(workdir: AnyPath, folder: AnyPath, step: int, scores: Sequence[Score], metric: str) -> None:
  if not metric:
    return
  found = [score for score in scores if score.subject == "model" and score.metric == metric]
  if not found:
    known = dict.fromkeys(score.metric for score in scores if score.metric in SELECTION_DIRECTIONS)
    remedy = "see --networks and `vidgen weights list`"
    raise UserError(f"--best_metric={metric} is not among the scores, which have {', '.join(known)}; {remedy}")
  value = found[0].value
  if jax.process_index() != 0 or math.isnan(value):
    return
  best = _read_best(workdir)
  terms = {name: getattr(found[0], name) for name in COMPARED}
  new: dict[str, Any] = {"value": value, "step": step, "terms": terms, "compared": [step]}
  better = True
  # A best checkpoint by another metric, network or set of clips does not compare.
  if best is not None and best["terms"] == terms:
    better = value > best["value"] if SELECTION_DIRECTIONS[metric] else value < best["value"]
    new = (new if better else best) | {"compared": sorted({*best["compared"], step})}
  elif best is not None:
    replaced = workdir / BEST_FOLDER, best["step"], best["terms"].get("metric")
    logging.warning("%s is replaced with its scores: step %d was the best by %s on other terms", *replaced)
  with atomic_write((folder if better else workdir / BEST_FOLDER) / BEST_FILE) as temporary:
    temporary.write_text(json.dumps(new) + "\n")
  if better:
    logging.info("step %d is the best so far: %s %.5g", step, metric, value)
    _replace_best(workdir, folder)


def _replace_best(workdir: AnyPath, folder: AnyPath) -> None:
  best, replaced = workdir / BEST_FOLDER, workdir / _REPLACED
  if isinstance(folder, epath.Path) and isinstance(best, epath.Path):
    # A folder without BEST_FILE counts as missing, so this file is deleted first and copied last.
    buckets.delete_folder(best / BEST_FILE)
    buckets.delete_folder(best)
    buckets.copy_folder(folder, best, last=BEST_FILE)
    return
  shutil.rmtree(replaced, ignore_errors=True)
  if best.exists():
    best.rename(replaced)
  folder.rename(best)
  shutil.rmtree(replaced, ignore_errors=True)


def _restore_best(workdir: AnyPath) -> None:
  """Restores the best checkpoint if a process was killed in `_replace_best`."""
  best, replaced = workdir / BEST_FOLDER, workdir / _REPLACED
  if jax.process_index() == 0 and isinstance(workdir, pathlib.Path) and replaced.exists() and not best.exists():
    replaced.rename(best)
