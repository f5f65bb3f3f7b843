"""Checkpoints: the only module that knows orbax."""

import contextlib
import gc
import json
import logging as stdlib_logging
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from vidgen_jax.buckets import is_bucket, user_path
from vidgen_jax.core.checksums import checksums
from vidgen_jax.errors import RetryableError, UserError
from vidgen_jax.parallel.agreement import all_processes, peer_failure

STATE, DATA, META = "state", "data", "meta"
_CHECKSUMS = "checksums"


class _WatchedManager(ocp.CheckpointManager):
  """Tells at once that saving in the background has failed on this process.

  Orbax would first wait for the other processes, which wait for this one.
  """

  failure: Exception | None = None

  def check(self) -> None:
    """Raises what went wrong in the background."""
    if self.failure is not None:
      raise self.failure
    if not self.is_saving_in_progress():
      self.wait_until_finished()

  def _wait_for_checkpointers(self) -> None:
    try:
      super()._wait_for_checkpointers()
    except Exception as error:
      self.failure = error
      raise


@dataclass(frozen=True)
class Restored:
  """What came back from a checkpoint."""

  step: int
  state: Any
  meta: Mapping[str, Any]


class Checkpointer:
  """Saves and restores train states beside the position of the data iterator.

  Saving is asynchronous and atomic: a checkpoint that was cut off is never seen. A checkpoint that cannot be read, or
  whose values are not those that were saved, is passed over for the one before it, with a warning.

  All processes of a job call every method, and come to the same result: each reads by itself, and a checkpoint counts
  as readable if all can read it.
  """

  def __init__(
    self, workdir: str, *, every: int = 1, keep: int | None = None, keep_every: int = 0, read_only: bool = False
  ) -> None:
    """Opens `workdir/checkpoints`, and makes the folder if need be, unless it is only read.

    Args:
      workdir: of the run.
      every: steps between periodic saves.
      keep: number of latest checkpoints that stay; None for all.
      keep_every: those of steps that are a multiple of it stay as well; 0 for none.
      read_only: nothing will be saved: no folder is made, for a run that another process may be training.
    """
    folder = user_path(workdir)
    # `resolve` would take a bucket for a folder beside this process.
    self._folder = epath.Path(folder if is_bucket(folder) else folder.resolve()) / "checkpoints"
    policies = ocp.checkpoint_managers
    kept = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
    self._manager = _WatchedManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        save_decision_policy=policies.AnySavePolicy(
          [policies.FixedIntervalPolicy(every), policies.PreemptionCheckpointingPolicy()]
        ),
        preservation_policy=policies.AnyPreservationPolicy(kept),
        step_prefix="step",
        create=not read_only,
        enable_async_checkpointing=True,
      ),
      item_handlers=_handlers(ocp.options.MultiprocessingOptions()),
    )
    self._saving: int | None = None

  def __enter__(self) -> "Checkpointer":
    """For `with`: waits for pending saves at the end."""
    return self

  def __exit__(self, error: type[BaseException] | None, *unused: object) -> None:
    """See `close`; but of several processes, one that fails does not wait for the others, which may wait for it."""
    if error is None or jax.process_count() == 1:
      self.close()

  def due(self, step: int) -> bool:
    """Whether a periodic (or preemption) save is due after `step` completed steps; every process must ask.

    Raises:
      UserError: if a save that was begun before has failed; RetryableError if it took too long.
    """
    with self._told():
      self._manager.check()
    return self._manager.should_save(step)

  def preempted(self, step: int) -> bool:
    """Whether the platform asked this job to stop, agreed upon by all processes."""
    return self._manager.reached_preemption(step)

  def save(self, step: int, state: Any, iterator: Any, meta: Mapping[str, Any]) -> None:
    """Starts saving in the background; does nothing if this step is saved already.

    Args:
      step: completed train steps.
      state: pytree of arrays; may be donated as soon as this returns.
      iterator: of the data; its place, `get_state`, is the same for all processes and JSON-compatible.
      meta: JSON-compatible.

    Raises:
      UserError: if the save before has failed.
    """
    if step in self._manager.all_steps():
      return
    items = {STATE: ocp.args.StandardSave(state)}
    sums: dict[str, Any] = {"arrays": checksums(state), "meta": _json_checksum(dict(meta))}
    if iterator is not None:
      place = iterator.get_state()
      items[DATA] = ocp.args.JsonSave(place)
      sums["place"] = _json_checksum(place)
    items[META] = ocp.args.JsonSave({**meta, _CHECKSUMS: sums})
    self.wait()
    self._saving = step
    with self._told():
      self._manager.save(step, args=ocp.args.Composite(**items), force=True)

  def steps(self) -> list[int]:
    """Steps that have a complete checkpoint, in ascending order."""
    return sorted(self._manager.all_steps())

  def latest_meta(self) -> Mapping[str, Any] | None:
    """The latest readable meta data; None if there is no checkpoint."""
    for step in reversed(self.steps()):
      restored = self._read(step, {META: ocp.args.JsonRestore()})
      if restored is not None:
        return restored[META]
    return None

  def restore(self, abstract_state: Any, *, step: int | None = None, iterator: Any = None) -> Restored | None:
    """Reads the latest readable checkpoint.

    Args:
      abstract_state: pytree of jax.ShapeDtypeStruct with shardings.
      step: only this one; None for the latest that can be read.
      iterator: set to the saved place, if given.

    Returns:
      None if there is no checkpoint at all.

    Raises:
      UserError: if `step` does not exist, or checkpoints exist and none can be read.
    """
    steps = self.steps()
    if step is not None and step not in steps:
      raise UserError(f"{self._folder} has no checkpoint of step {step}; it has {steps or 'none'}")
    if not steps:
      return None
    items: dict[str, Any] = {STATE: ocp.args.StandardRestore(abstract_state), META: ocp.args.JsonRestore()}
    if iterator is not None:
      items[DATA] = ocp.args.JsonRestore()

    tried = [step] if step is not None else steps[::-1]
    for candidate in tried:
      restored = self._read(candidate, items, iterator)
      if restored is not None:
        return Restored(step=candidate, state=restored[STATE], meta=restored[META])
    raise UserError(f"no checkpoint in {self._folder} can be read (tried {tried}); start with another --workdir")

  def discard_after(self, step: int) -> None:
    """Deletes checkpoints later than `step`: those that were passed over on restoring."""
    for later in [candidate for candidate in self.steps() if candidate > step]:
      self._manager.delete(later)

  def wait(self) -> None:
    """Blocks until pending saves are complete.

    Raises:
      UserError: if one has failed.
    """
    with self._told():
      while self._manager.is_saving_in_progress():
        self._manager.check()
        time.sleep(0.02)
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for pending saves and releases the folder; raises as `wait`."""
    self.wait()
    with self._told():
      self._manager.close()

  def _read(self, step: int, items: Mapping[str, Any], iterator: Any = None) -> Mapping[str, Any] | None:
    """One checkpoint, and sets the iterator; None, with a warning, if a process cannot read it."""
    restored, problem = None, ""
    with _quiet_stragglers():
      try:
        restored = self._read_alone(step, items)
      except Exception as error:  # noqa: BLE001 - orbax, tensorstore and json raise many kinds on damaged files
        problem = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if all_processes(restored is not None):
      problem = _damage(restored)  # A computation of all processes, where arrays are split between them.
      if not problem and iterator is not None:
        try:
          iterator.set_state(restored[DATA])
        except (AttributeError, TypeError, ValueError) as error:  # written by hand, or by another version
          problem = f"place of the data: {error}"
      if all_processes(not problem):
        return restored
    problem = problem or "another process cannot read it"
    logging.warning("checkpoint of step %d cannot be read and is passed over: %s", step, problem)
    return None

  def _read_alone(self, step: int, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Reads this process's part of a checkpoint, without waiting for other processes: they may have failed to."""
    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"reader_{index}"
    )
    options = ocp.CheckpointManagerOptions(
      step_prefix="step", create=False, enable_async_checkpointing=False, multiprocessing_options=alone
    )
    with ocp.CheckpointManager(self._folder, options=options, item_handlers=_handlers(alone)) as reader:
      return reader.restore(step, args=ocp.args.Composite(**items))

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    """Tells in one line why a checkpoint could not be written."""
    try:
      yield
    except (OSError, ValueError) as error:
      if (lost := peer_failure(error)) is not None:
        raise lost from None
      if not isinstance(error, TimeoutError):
        raise UserError(
          f"a checkpoint cannot be written to {self._folder}: {_reason(error)}; free space there, then run the same "
          f"command: it continues after step {self._last_complete()}"
        ) from error
      # Orbax measures by the clock on the wall.
      raise RetryableError(
        f"saving to {self._folder} took too long, or the clock has jumped; run the same command: it continues after "
        f"step {self._last_complete()}"
      ) from error

  def _last_complete(self) -> int:
    return max((step for step in self.steps() if step != self._saving), default=0)


def _handlers(processes: ocp.options.MultiprocessingOptions) -> dict[str, Any]:
  return {
    STATE: ocp.StandardCheckpointHandler(multiprocessing_options=processes),
    DATA: ocp.JsonCheckpointHandler(multiprocessing_options=processes),
    META: ocp.JsonCheckpointHandler(multiprocessing_options=processes),
  }


def _reason(error: Exception) -> str:
  """Tensorstore tells the system's own words last, behind all that it was doing: ...: File too large [code]."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = (str(error).strip() or type(error).__name__).splitlines()[0]
  return re.sub(r" *\[[^\]]*\]", "", text.rsplit(": ", 1)[-1])[:300]


def _json_checksum(value: Any) -> int:
  as_read = json.loads(json.dumps(value))  # Numbers as names, tuples: told apart before, not after.
  return zlib.crc32(json.dumps(as_read, sort_keys=True).encode())


def _damage(restored: Mapping[str, Any]) -> str:
  """What differs from what was saved; '' if nothing does, or checksums were not saved yet."""
  meta = dict(restored[META])
  sums = meta.pop(_CHECKSUMS, None)
  if sums is None:
    return ""
  damaged = []
  if _json_checksum(meta) != sums["meta"]:
    damaged.append("the config")
  if DATA in restored and _json_checksum(restored[DATA]) != sums["place"]:
    damaged.append("the place of the data")
  if STATE in restored:
    found = checksums(restored[STATE])
    damaged += [name for name, value in sums["arrays"].items() if found.get(name) != value]
  return f"{len(damaged)} values differ from what was saved, {damaged[0]} the first" if damaged else ""


@contextlib.contextmanager
def _quiet_stragglers() -> Iterator[None]:
  """Keeps quiet about the arrays that orbax was still reading when one of them failed.

  It closes its event loop over them; each would then print an error of its own, after the one that counts.
  """
  logger, hook = stdlib_logging.getLogger("asyncio"), sys.unraisablehook
  disabled = logger.disabled

  def ignore_closed_loop(unraisable: Any) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
      hook(unraisable)

  logger.disabled, sys.unraisablehook = True, ignore_closed_loop
  try:
    yield
  finally:
    gc.collect()
    logger.disabled, sys.unraisablehook = disabled, hook
