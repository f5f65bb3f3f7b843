"""What the processes of a job tell each other on the host."""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_MESSAGE_BYTES = 65_536


def all_processes(flag: bool) -> bool:
  """Whether a flag is set on every process; to be called by all of them, and waits for all."""
  if jax.process_count() == 1:
    return flag
  return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


def peer_failure(error: BaseException | None) -> BaseException | None:
  """The error, or one behind it, that tells that another process of the job has ended or cannot be reached.

  JAX raises a JaxRuntimeError where a computation fails once it runs, but a ValueError where it fails at its start, as
  the CPU's collectives (Gloo) may; orbax turns either into a TimeoutError.

  Returns:
    None if no error of the chain tells so.
  """
  while error is not None:
    if isinstance(error, jax.errors.JaxRuntimeError) or (isinstance(error, ValueError) and "Gloo" in str(error)):
      return error
    error = error.__cause__
  return None


def broadcast_from_process_0(value: Any) -> Any:
  """What the first process holds, on every process: others could see another state of the disk, and wait for ever.

  Args:
    value: JSON-compatible, of at most 64 KiB as text. Only the first process's counts.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode().ljust(_MESSAGE_BYTES), np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes().decode())
