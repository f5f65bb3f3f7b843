"""Processes of a job: start-up, agreement on the host, and signals that stop a run."""

import json
import os
import signal
from types import FrameType
from typing import Any, Self

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from vidgen_jax.errors import UserError

PREEMPTED_EXIT_CODE = os.EX_TEMPFAIL
"""Exit status (75) of a run that was stopped before its last step and whose state is saved.

The scripts in launch/ restart the same command on this status and on no other.
"""

HEARTBEAT_SECONDS = 60
"""Time without a heartbeat after which a process counts as dead and all others exit."""

_MESSAGE_BYTES = 65_536


def enable_compilation_cache() -> None:
  """Caches compiled programs on disk, in `JAX_COMPILATION_CACHE_DIR` or ~/.cache/vidgen_jax/xla."""
  folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(epath.Path("~/.cache/vidgen_jax/xla").expanduser())
  jax.config.update("jax_compilation_cache_dir", folder)


def initialize_distributed(
  *, coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
  """Joins the other processes of this job; must be called before anything uses a device.

  `coordinator` is HOST:PORT of process 0. JAX detects all three arguments on TPU pods, SLURM, Open MPI and Kubernetes.

  Raises:
    UserError: if the other processes cannot be detected or reached.
  """
  if not jax.distributed.is_initialized():
    try:
      jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
      reason = str(error).strip().splitlines()[0][:300]
      raise UserError(
        f"--distributed: cannot join the other processes: {reason}; TPU pods, SLURM, Open MPI and Kubernetes are "
        "detected; elsewhere set --coordinator=HOST:PORT --num_processes=N --process_id=I"
      ) from error
  logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())


def all_processes(flag: bool) -> bool:
  """Whether a flag is set on every process. All processes must call this function; it blocks until they do."""
  if jax.process_count() == 1:
    return flag
  return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


def broadcast_from_process_0(value: Any) -> Any:
  """Process 0's value (JSON-compatible, at most 64 KiB as text), on every process.

  Used for decisions that depend on the disk: processes that see different files would wait for each other forever.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode().ljust(_MESSAGE_BYTES), np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes().decode())


def peer_failure(error: BaseException | None) -> BaseException | None:
  """The first error in the chain of causes which shows that another process exited or cannot be reached; else None."""
  # JAX raises a JaxRuntimeError for a computation that fails while it runs, but a ValueError for one that fails at its
  # start, as Gloo's CPU collectives do; orbax converts either into a TimeoutError.
  while error is not None:
    if isinstance(error, jax.errors.JaxRuntimeError):
      # A device without memory for the program is nobody else's failure, and a restart does not help.
      return None if "RESOURCE_EXHAUSTED" in str(error) else error
    if isinstance(error, ValueError) and "Gloo" in str(error):
      return error
    error = error.__cause__
  return None


class StopSignals:
  """A context in which SIGTERM and SIGINT are recorded instead of ending the process; a second SIGINT interrupts.

  In a job of several processes it records nothing: JAX handles SIGTERM there and lets the processes agree on a step
  (see `Checkpointer.preempted`).

  Attributes:
    received: first received signal; None if there was none.
  """

  def __init__(self) -> None:
    self.received: signal.Signals | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> Self:
    handled = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
    self._previous = {number: signal.signal(number, self._record) for number in handled}
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _record(self, number: int, frame: FrameType | None) -> None:
    del frame
    if self.received is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.received = self.received or signal.Signals(number)
