"""Scoring a run while it is trained elsewhere: every new checkpoint once, and the best one kept."""

import contextlib
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
from absl import logging

from vidgen_jax import buckets
from vidgen_jax.buckets import AnyPath, is_bucket, read_text, user_path
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.scores.metrics.report import Score
from vidgen_jax.parallel.agreement import broadcast_from_process_0
from vidgen_jax.runs.workdir import CONFIG_FILE

BEST_FOLDER, BEST_FILE = "best", "best.json"

_REPLACED = ".best_replaced"

_TERMS = (
  *("metric", "protocol", "split", "num_clips", "samples", "clip", "conditioning_indices"),
  *("weights", "batch_norm", "truncation", "seed", "extractor_hash"),
)
"""Fields of a score that must be equal for two checkpoints to be compared by it."""

HIGHER_IS_BETTER = {
  "psnr": True,
  "ssim": True,
  "inception_score": True,
  "diversity": True,
  "fvd": False,
  "kvd": False,
  "fid": False,
  "clip_frechet": False,
  "clip_kernel": False,
  "fvd_infinity": False,
  "fid_infinity": False,
  "clip_frechet_infinity": False,
  "centroid_error": False,
}
"""Metrics by which the best checkpoint may be chosen. The content distance is not one: a black clip's is best."""


@dataclass(frozen=True, kw_only=True)
class FollowOptions:
  """How a run is followed.

  Attributes:
    last_step: of the run; following ends once it was scored.
    metric: by which the best checkpoint is kept, in `workdir/best`, itself a run's folder; '' keeps none.
    poll: seconds between two looks.
    patience: seconds without a new checkpoint after which following ends.
  """

  last_step: int
  metric: str = ""
  poll: float = 10.0
  patience: float = 3600.0

  def __post_init__(self):
    if self.metric and self.metric not in HIGHER_IS_BETTER:
      raise UserError(f"--best_metric={self.metric} must be one of {', '.join(HIGHER_IS_BETTER)}")
    if not (self.poll > 0 and self.patience >= 0):
      raise UserError(f"--poll={self.poll:g} must be above 0 and --patience={self.patience:g} not below")


def follow(
  workdir: str,
  score: Callable[[str, int], Sequence[Score]],
  *,
  scored: Sequence[int],
  options: FollowOptions,
  terms: Mapping[str, Any] = MappingProxyType({}),
) -> list[int]:
  """Scores every checkpoint that is there or appears, in the order of steps.

  Training may delete a checkpoint at any time, so each is first linked into a folder of our own; in a bucket it is
  copied there.

  Args:
    workdir: of the run.
    score: from (a folder that holds the run's config and the checkpoint, its step) to scores.
    scored: steps that were scored before on the same terms. Where the best checkpoint is kept, those that were not
      compared with it are scored again.
    options: when to end, what to keep.
    terms: fields of the scores to come, as far as they are known.

  Returns:
    The steps that were scored now.

  Raises:
    UserError: if `options.metric` is not among the scores.
  """
  run_folder = user_path(workdir)
  _restore_best(run_folder)
  skipped = set(scored) & _compared_steps(run_folder, options.metric, terms) if options.metric else set(scored)
  done, now, waited_since = set(broadcast_from_process_0(sorted(skipped))), [], time.monotonic()
  while True:
    fresh = [step for step in _steps(workdir) if step not in done]
    for step in fresh:
      with _snapshot(run_folder, step) as folder:
        if folder is not None:
          _keep_best(run_folder, folder, step, score(str(folder), step), options.metric)
          now.append(step)
      done.add(step)
    if options.last_step in done:
      break
    if fresh:
      waited_since = time.monotonic()
    elif broadcast_from_process_0(time.monotonic() - waited_since > options.patience):
      logging.info("no new checkpoint for %g s; the run is at step %s", options.patience, max(done, default="none"))
      break
    else:
      time.sleep(options.poll)
  return now


def best_step(workdir: str | os.PathLike[str]) -> int | None:
  """The step of the best checkpoint so far; None if none is kept."""
  best = _read_best(user_path(workdir) / BEST_FOLDER / BEST_FILE)
  return None if best is None else best["step"]


def _read_best(path: AnyPath) -> dict[str, Any] | None:
  if (text := read_text(path)) is None:
    return None
  try:
    best = json.loads(text)
    return {name: best[name] for name in ("value", "step", "terms", "compared")}
  except (ValueError, KeyError, TypeError):
    logging.warning("%s is damaged; the best checkpoint is chosen anew", path)
    return None


def _compared_steps(workdir: AnyPath, metric: str, terms: Mapping[str, Any]) -> set[int]:
  """The steps that the best checkpoint was chosen from, if it was by this metric and on these terms."""
  best = _read_best(workdir / BEST_FOLDER / BEST_FILE)
  if best is None or any(best["terms"].get(name) != value for name, value in {**terms, "metric": metric}.items()):
    return set()
  return set(best["compared"])


def _steps(workdir: str) -> list[int]:
  steps = []
  if jax.process_index() == 0:
    with Checkpointer(workdir, read_only=True) as checkpointer:
      steps = checkpointer.steps()
  return broadcast_from_process_0(steps)


@contextlib.contextmanager
def _snapshot(workdir: AnyPath, step: int) -> Iterator[AnyPath | None]:
  """A folder of our own with the config and one checkpoint; None if training has deleted that in the meantime."""
  lead = jax.process_index() == 0
  # Two followers of a run must not meet.
  folder = workdir / f".following_{broadcast_from_process_0(f'{socket.gethostname()}_{os.getpid()}')}"
  take = _copy_checkpoint if is_bucket(workdir) else _link_checkpoint
  found = broadcast_from_process_0(take(workdir, folder, step) if lead else None)
  if not found:
    logging.warning("the checkpoint of step %d was deleted before it could be scored", step)
  try:
    yield folder if found else None
  finally:
    if lead:
      _remove(folder)


def _remove(folder: AnyPath) -> None:
  if is_bucket(folder):
    buckets.delete_folder(folder)
  else:
    shutil.rmtree(folder, ignore_errors=True)


def _copy_checkpoint(workdir: AnyPath, folder: AnyPath, step: int) -> bool:
  """As `_link_checkpoint`, in a bucket."""
  _remove(folder)
  source = workdir / "checkpoints" / f"step_{step}"
  target = folder / "checkpoints" / source.name
  before = buckets.names(source)
  complete = bool(before) and buckets.copy_folder(source, target)
  complete = complete and before == buckets.names(source) == buckets.names(target)
  return complete and buckets.copy_file(workdir / CONFIG_FILE, folder / CONFIG_FILE)


def _link_checkpoint(workdir: AnyPath, folder: AnyPath, step: int) -> bool:
  """Whether the whole checkpoint was still there."""
  shutil.rmtree(folder, ignore_errors=True)
  source = workdir / "checkpoints" / f"step_{step}"
  try:
    before = _files(source)
    shutil.copytree(source, folder / "checkpoints" / source.name, copy_function=_link)
    # Training deletes file by file: half a checkpoint may have been linked without an error.
    complete = before == _files(source) == _files(folder / "checkpoints" / source.name)
  except (FileNotFoundError, shutil.Error):
    complete = False
  if complete:
    shutil.copy2(workdir / CONFIG_FILE, folder / CONFIG_FILE)
  return complete


def _files(folder: AnyPath) -> set[str]:
  return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _link(source: str, target: str) -> None:
  """A second name for the same bytes, which stay when the first is deleted; a copy where the disk has no links."""
  try:
    os.link(source, target)
  except FileNotFoundError:
    raise
  except OSError:
    shutil.copy2(source, target)


def _keep_best(workdir: AnyPath, folder: AnyPath, step: int, scores: Sequence[Score], metric: str) -> None:
  if not metric:
    return
  found = [score for score in scores if score.subject == "model" and score.metric == metric]
  if not found:
    known = dict.fromkeys(score.metric for score in scores if score.metric in HIGHER_IS_BETTER)
    raise UserError(f"--best_metric={metric} is not among the scores, which have {', '.join(known)}; see --networks")
  value = found[0].value
  if jax.process_index() != 0 or math.isnan(value):
    return
  path = workdir / BEST_FOLDER / BEST_FILE
  before = _read_best(path)
  terms = {name: getattr(found[0], name) for name in _TERMS}
  compared = [step]
  # A best checkpoint by another metric, network or set of clips says nothing of this one.
  if before is not None and before["terms"] == terms:
    compared = sorted({*before["compared"], step})
    gain = value - before["value"] if HIGHER_IS_BETTER[metric] else before["value"] - value
    if not gain > 0:
      _write_best(path, before | {"compared": compared})
      return
  logging.info("step %d is the best so far: %s %.5g", step, metric, value)
  _write_best(folder / BEST_FILE, {"value": value, "step": step, "terms": terms, "compared": compared})
  _put_into_place(workdir, folder)


def _put_into_place(workdir: AnyPath, folder: AnyPath) -> None:
  """Makes the folder the best one."""
  best, replaced = workdir / BEST_FOLDER, workdir / _REPLACED
  if is_bucket(workdir):
    # Without that file, nothing counts as being there: it goes first and comes last.
    buckets.delete_folder(best / BEST_FILE)
    buckets.delete_folder(best)
    buckets.copy_folder(folder, best, last=BEST_FILE)
    return
  shutil.rmtree(replaced, ignore_errors=True)
  if best.exists():
    best.rename(replaced)
  folder.rename(best)
  shutil.rmtree(replaced, ignore_errors=True)


def _write_best(path: AnyPath, best: Mapping[str, Any]) -> None:
  with atomic_write(path) as temporary:
    temporary.write_text(json.dumps(best) + "\n")


def _restore_best(workdir: AnyPath) -> None:
  """Takes back the best checkpoint that a process had put aside when it was killed."""
  best, replaced = workdir / BEST_FOLDER, workdir / _REPLACED
  if jax.process_index() == 0 and not is_bucket(workdir) and replaced.exists() and not best.exists():
    replaced.rename(best)
