"""Checkpoints: the only module that knows orbax."""

import contextlib
import gc
import logging as stdlib_logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from vidgen_jax.buckets import is_bucket, user_path
from vidgen_jax.errors import UserError

STATE, DATA, META = "state", "data", "meta"


@dataclass(frozen=True)
class Restored:
  """What came back from a checkpoint."""

  step: int
  state: Any
  meta: Mapping[str, Any]


class Checkpointer:
  """Saves and restores train states beside the position of the data iterator.

  Saving is asynchronous and atomic: a checkpoint that was cut off is never seen. A checkpoint that cannot be read is
  passed over for the one before it, with a warning.
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
    self._manager = ocp.CheckpointManager(
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
      item_handlers={
        STATE: ocp.StandardCheckpointHandler(),
        DATA: ocp.JsonCheckpointHandler(),
        META: ocp.JsonCheckpointHandler(),
      },
    )

  def __enter__(self) -> "Checkpointer":
    """For `with`: waits for pending saves at the end."""
    return self

  def __exit__(self, *unused: object) -> None:
    """See `close`."""
    self.close()

  def due(self, step: int) -> bool:
    """Whether a periodic (or preemption) save is due after `step` completed steps; every process must ask."""
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
    """
    if step in self._manager.all_steps():
      return
    items = {STATE: ocp.args.StandardSave(state), META: ocp.args.JsonSave(dict(meta))}
    if iterator is not None:
      items[DATA] = ocp.args.JsonSave(iterator.get_state())
    self._manager.save(step, args=ocp.args.Composite(**items), force=True)

  def steps(self) -> list[int]:
    """Steps that have a complete checkpoint, in ascending order."""
    return sorted(self._manager.all_steps())

  def latest_meta(self) -> Mapping[str, Any] | None:
    """The latest readable meta data; None if there is no checkpoint."""
    for step in reversed(self.steps()):
      restored = self._try(
        step, lambda step: self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
      )
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

    def read(candidate: int) -> Any:
      restored = self._manager.restore(candidate, args=ocp.args.Composite(**items))
      if iterator is not None:
        iterator.set_state(restored[DATA])
      return restored

    tried = [step] if step is not None else steps[::-1]
    for candidate in tried:
      restored = self._try(candidate, read)
      if restored is not None:
        return Restored(step=candidate, state=restored[STATE], meta=restored[META])
    raise UserError(f"no checkpoint in {self._folder} can be read (tried {tried}); start with another --workdir")

  def discard_after(self, step: int) -> None:
    """Deletes checkpoints later than `step`: those that were passed over on restoring."""
    for later in [candidate for candidate in self.steps() if candidate > step]:
      self._manager.delete(later)

  def wait(self) -> None:
    """Blocks until pending saves are complete; raises what went wrong in them."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for pending saves and releases the folder."""
    self._manager.close()

  def _try(self, step: int, read: Callable[[int], Any]) -> Any | None:
    with _quiet_stragglers():
      try:
        return read(step)
      except Exception as error:  # orbax, tensorstore and json raise many kinds on damaged files
        if jax.process_count() > 1:
          raise
        message = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    logging.warning("checkpoint of step %d cannot be read and is passed over: %s", step, message)
    return None


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
