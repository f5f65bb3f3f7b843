"""Roll backs: after a collapse, training goes on from a checkpoint from before it, with another seed."""

import json
import math
import time
from typing import Any

import jax
from absl import logging

from vidgen_jax.buckets import read_text, user_path
from vidgen_jax.runs.checkpoint import Checkpointer, Restored
from vidgen_jax.core.state import TrainState
from vidgen_jax.data.training_stream import TrainingStream
from vidgen_jax.errors import UserError
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.files import atomic_write
from vidgen_jax.runs.loop import CollapseError

ROLLBACKS_FILE = "rollbacks.jsonl"


class Rollbacks:
  """The roll backs of a run, one JSON line each in `workdir/rollbacks.jsonl`.

  A roll back is a line in this file, and then a start like that after a kill. Every start looks whether its checkpoint
  counts as many roll backs as the file: if not, it goes on with the key folded with the file's number, and with the
  clips behind those of the collapse (as Chowdhery et al. 2022, section 5.1, skip the batches of a spike). So a kill at
  any moment loses neither a roll back nor its seed.
  """

  def __init__(self, workdir: str) -> None:
    """Reads the file, if there is one.

    Raises:
      UserError: if it is damaged.
    """
    self._path = user_path(workdir) / ROLLBACKS_FILE
    self._records: list[dict[str, Any]] = []
    try:
      self._records = [json.loads(line) for line in (read_text(self._path) or "").splitlines()]
    except ValueError as error:
      raise UserError(f"{self._path} is damaged: {error}") from error

  def __len__(self) -> int:
    return len(self._records)

  def add(self, error: CollapseError, checkpointer: Checkpointer, *, limit: int) -> None:
    """Notes that the run goes back to the last checkpoint of a step at which all was well; `start` does it.

    Args:
      error: why.
      checkpointer: of the run.
      limit: of the number of roll backs.

    Raises:
      CollapseError: if there have been so many already, or there is no such checkpoint.
    """
    collapse = error.collapse
    checkpointer.wait()
    good = [step for step in checkpointer.steps() if step <= collapse.good_step]
    reason = ""
    if len(self) >= limit:
      reason = (
        f"the run was rolled back {len(self)} times already; raise config.health.max_rollbacks={limit} to try again"
      )
    elif not good:
      reason = f"there is no checkpoint up to step {collapse.good_step}, the last good one, to roll back to"
    if reason:
      raise type(error)(f"{error}; {reason}", collapse, error.place) from error
    value = collapse.value if math.isfinite(collapse.value) else None
    record = {"count": len(self) + 1, "checkpoint": good[-1], "time": round(time.time(), 3)}
    record |= {"step": collapse.step, "metric": collapse.metric, "value": value, "limit": collapse.limit}
    self._records.append(record | {"good_step": collapse.good_step, "place": error.place})
    logging.warning("%s; roll back %d of at most %d, to step %d", error, len(self), limit, good[-1])
    self._write()

  def start(
    self, experiment: Experiment, checkpointer: Checkpointer, iterator: TrainingStream
  ) -> tuple[TrainState, Restored | None]:
    """The state from which the run goes on, its checkpoint, if it has one, and the iterator at its place.

    Later checkpoints are discarded.
    """
    if self._records:
      meta = checkpointer.latest_meta()
      if meta is not None and meta.get("rollbacks", 0) < len(self):
        checkpointer.discard_after(self._records[-1]["checkpoint"])
    restored = checkpointer.restore(experiment.abstract_state, iterator=iterator)
    if restored is None:
      self._records = []
      self._write()
      return experiment.init_state(), None
    checkpointer.discard_after(restored.step)
    state = restored.state
    if restored.meta.get("rollbacks", 0) < len(self):
      fold = jax.jit(jax.random.fold_in, out_shardings=state.key.sharding)
      state = state.replace(key=fold(state.key, len(self)))
      iterator.set_state(self._records[-1]["place"])
    return state, restored

  def _write(self) -> None:
    if jax.process_index() != 0 or (not self._records and read_text(self._path) is None):
      return
    with atomic_write(self._path) as temporary:
      temporary.write_text("".join(f"{json.dumps(record)}\n" for record in self._records), encoding="utf-8")
