"""Checkpoints of training runs. The only module that uses orbax."""

import contextlib
import gc
import json
import logging as stdlib_logging
import re
import sys
import time
import zlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from vidgen_jax.buckets import is_bucket, user_path
from vidgen_jax.core.checksums import checksums
from vidgen_jax.errors import RetryableError, UserError
from vidgen_jax.parallel.processes import all_processes, peer_failure

STATE, DATA, META = "state", "data", "meta"
_CHECKSUMS = "checksums"


class _FailFastManager(ocp.CheckpointManager):
  """Reports a failed background save of this process at once.

  Orbax 0.12.8 first waits at a barrier for the other processes, which wait for this one until they time out, and no
  public method returns the error meanwhile.
  """

  failure: Exception | None = None

  def check(self) -> None:
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


class Restored(NamedTuple):
  """Contents of a checkpoint: the arguments of `Checkpointer.save`."""

  step: int
  state: Any
  data_state: Mapping[str, Any]
  meta: Mapping[str, Any]


class Checkpointer:
  """Saves and restores train states with the data iterator state.

  Saves are asynchronous and atomic: an interrupted save leaves no checkpoint. A checkpoint that cannot be read, or
  whose checksums differ, is skipped with a warning, and the previous one is restored.

  All processes of a job must call every method. Each reads on its own; a checkpoint is readable if all can read it.
  A failed background save is raised by the next call of `due`, `save`, `wait` or the end of the context: a UserError,
  or a RetryableError if it took too long.
  """

  def __init__(
    self,
    workdir: str,
    *,
    every: int = 1,
    keep: int | None = None,
    keep_every: int = 0,
    keep_steps: Sequence[int] = (),
    read_only: bool = False,
  ) -> None:
    """Opens `workdir/checkpoints`, and creates it unless `read_only`.

    Args:
      workdir: folder of the run.
      every: number of steps between periodic saves.
      keep: number of latest checkpoints that are kept; None for all.
      keep_every: distance in steps of checkpoints that are saved and kept in addition; 0 for none.
      keep_steps: steps that are saved and kept in addition.
      read_only: whether nothing will be saved.

    Raises:
      UserError: if `keep` or `keep_every` would delete every checkpoint.
    """
    if (keep is not None and keep < 1) or keep_every < 0:
      raise UserError(f"checkpoints_to_keep={keep} must be at least 1, and keep_every={keep_every} at least 0")
    folder = user_path(workdir)
    # `resolve` would turn the URL of a bucket into a local path.
    self._folder = epath.Path(folder if is_bucket(folder) else folder.resolve()) / "checkpoints"
    policies = ocp.checkpoint_managers
    kept: list[Any] = [policies.LatestN(keep), policies.CustomSteps(keep_steps)]
    kept += [policies.EveryNSteps(keep_every)] if keep_every else []
    self._manager = _FailFastManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        save_decision_policy=policies.AnySavePolicy(
          [
            *map(policies.FixedIntervalPolicy, {every, keep_every or every}),
            policies.SpecificStepsPolicy(keep_steps),
            policies.PreemptionCheckpointingPolicy(),
          ]
        ),
        preservation_policy=policies.AnyPreservationPolicy(kept),
        step_prefix="step",
        create=not read_only,
        enable_async_checkpointing=True,
      ),
      item_handlers=_handlers(ocp.options.MultiprocessingOptions()),
    )
    self._saving: int | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, error: type[BaseException] | None, *unused: object) -> None:
    # A process of several that fails must not wait for the others, which may wait for it.
    if error is None or jax.process_count() == 1:
      self.wait()
      with self._save_errors():
        self._manager.close()

  def due(self, step: int) -> bool:
    """Whether a periodic or preemption save is due after `step` completed steps."""
    with self._save_errors():
      self._manager.check()
    return self._manager.should_save(step)

  def preempted(self, step: int) -> bool:
    """Whether the platform asked this job to stop; all processes get the same answer for a step."""
    return self._manager.reached_preemption(step)

  def save(self, step: int, state: Any, data_state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Starts to save in the background; does nothing if the step is saved already.

    Args:
      step: number of completed train steps.
      state: pytree of arrays; may be donated once this returns.
      data_state: JSON-compatible data iterator state, equal on all processes.
      meta: JSON-compatible meta data.
    """
    if step in self._manager.all_steps():
      return
    sums = {"arrays": checksums(state), "data": _json_checksum(data_state), "meta": _json_checksum(meta)}
    self.wait()
    self._saving = step
    items = {
      STATE: ocp.args.StandardSave(state),
      DATA: ocp.args.JsonSave(dict(data_state)),
      META: ocp.args.JsonSave({**meta, _CHECKSUMS: sums}),
    }
    with self._save_errors():
      self._manager.save(step, args=ocp.args.Composite(**items), force=True)

  def steps(self) -> list[int]:
    """Steps with a complete checkpoint, in ascending order."""
    return sorted(self._manager.all_steps())

  def latest_meta(self) -> Mapping[str, Any] | None:
    """Meta data of the latest checkpoint whose meta data is readable; None if there is none."""
    found = (self._read(step, {META: ocp.args.JsonRestore()}) for step in reversed(self.steps()))
    return next((restored[META] for restored in found if restored is not None), None)

  def restore(self, abstract_state: Any, *, step: int | None = None) -> Restored | None:
    """Reads the checkpoint of `step`, by default the latest readable one; returns None if the folder has none.

    Args:
      abstract_state: pytree of jax.ShapeDtypeStruct with shardings.
      step: number of completed train steps.

    Raises:
      UserError: if `step` does not exist, or checkpoints exist and none can be read.
    """
    steps = self.steps()
    if step is not None and step not in steps:
      raise UserError(f"{self._folder} has no checkpoint of step {step}; it has {steps or 'none'}")
    if not steps:
      return None
    items = {
      STATE: ocp.args.StandardRestore(abstract_state),
      DATA: ocp.args.JsonRestore(),
      META: ocp.args.JsonRestore(),
    }
    tried = [step] if step is not None else steps[::-1]
    for candidate in tried:
      restored = self._read(candidate, items)
      if restored is not None:
        return Restored(step=candidate, state=restored[STATE], data_state=restored[DATA], meta=restored[META])
    raise UserError(f"no checkpoint in {self._folder} can be read (tried {tried}); start with another --workdir")

  def discard_after(self, step: int) -> None:
    """Deletes all checkpoints later than `step`."""
    for later in [candidate for candidate in self.steps() if candidate > step]:
      self._manager.delete(later)

  def wait(self) -> None:
    """Blocks until pending saves are complete."""
    with self._save_errors():
      while self._manager.is_saving_in_progress():
        self._manager.check()
        time.sleep(0.02)
      self._manager.wait_until_finished()

  def _read(self, step: int, items: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Items of one checkpoint; None, with a warning, if any process cannot read it."""
    restored: Mapping[str, Any] | None = None
    problem = ""
    with _muted_asyncio():
      try:
        restored = self._read_alone(step, items)
      except Exception as error:  # noqa: BLE001 - orbax, tensorstore and json raise many kinds on damaged files
        problem = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if all_processes(restored is not None) and restored is not None:
      # All processes compute the checksums of sharded arrays together.
      problem = _damage(restored)
      if all_processes(not problem):
        return restored
    problem = problem or "another process cannot read it"
    logging.warning("checkpoint of step %d cannot be read and is skipped: %s", step, problem)
    return None

  def _read_alone(self, step: int, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Reads this process's part of a checkpoint without barriers: other processes may have failed to read theirs."""
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
  def _save_errors(self) -> Generator[None]:
    try:
      yield
    except (OSError, ValueError) as error:
      if (lost := peer_failure(error)) is not None:
        raise lost from None
      last = max((step for step in self.steps() if step != self._saving), default=0)
      resume = f"run the same command: it resumes from step {last}"
      # Orbax measures its time limit by the wall clock.
      if isinstance(error, TimeoutError):
        raise RetryableError(f"saving to {self._folder} took too long, or the clock has jumped; {resume}") from error
      raise UserError(
        f"a checkpoint cannot be written to {self._folder}: {_reason(error)}; free space there, then {resume}"
      ) from error


def _handlers(processes: ocp.options.MultiprocessingOptions) -> dict[str, Any]:
  return {
    STATE: ocp.StandardCheckpointHandler(multiprocessing_options=processes),
    DATA: ocp.JsonCheckpointHandler(multiprocessing_options=processes),
    META: ocp.JsonCheckpointHandler(multiprocessing_options=processes),
  }


def _reason(error: Exception) -> str:
  """The system's message: 'File too large' in '... writing file: ...: File too large [code]'."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = (str(error).strip() or type(error).__name__).splitlines()[0]
  return re.sub(r" *\[[^\]]*\]", "", text.rsplit(": ", 1)[-1])[:300]


def _json_checksum(value: Any) -> int:
  as_read = json.loads(json.dumps(value))  # Tuples become lists and numeric keys strings, as on reading.
  return zlib.crc32(json.dumps(as_read, sort_keys=True).encode())


def _damage(restored: Mapping[str, Any]) -> str:
  """Description of the differences from the saved checksums; '' if there are none."""
  meta = dict(restored[META])
  sums = meta.pop(_CHECKSUMS, {})
  damaged = []
  if _json_checksum(meta) != sums.get("meta"):
    damaged.append("meta data")
  if DATA in restored and _json_checksum(restored[DATA]) != sums.get("data"):
    damaged.append("data iterator state")
  if STATE in restored:
    found = checksums(restored[STATE])
    damaged += [name for name, value in sums.get("arrays", {}).items() if found.get(name) != value]
  return f"{len(damaged)} checksums differ, the first one in {damaged[0]}" if damaged else ""


@contextlib.contextmanager
def _muted_asyncio() -> Generator[None]:
  """Hides errors of arrays that orbax is still reading after the first failure.

  Orbax closes its event loop after the failure, and each pending read would then print an error.
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
