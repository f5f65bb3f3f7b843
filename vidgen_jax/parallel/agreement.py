"""Communication between the processes of a job on the host."""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_MESSAGE_BYTES = 65_536


def all_processes(flag: bool) -> bool:
  """Whether a flag is set on every process. All processes must call this function; it blocks until they do."""
  if jax.process_count() == 1:
    return flag
  return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


def peer_failure(error: BaseException | None) -> BaseException | None:
  """The first error in the chain of causes which shows that another process exited or cannot be reached; else None."""
  # JAX raises a JaxRuntimeError for a computation that fails while it runs, but a ValueError for one that fails at its
  # start, as Gloo's CPU collectives do; orbax converts either into a TimeoutError.
  while error is not None:
    if isinstance(error, jax.errors.JaxRuntimeError) or (isinstance(error, ValueError) and "Gloo" in str(error)):
      return error
    error = error.__cause__
  return None


def broadcast_from_process_0(value: Any) -> Any:
  """Process 0's value, on every process.

  Used for decisions that depend on the disk: processes that see different files would wait for each other forever.

  Args:
    value: JSON-compatible value of at most 64 KiB as text; ignored on other processes.
  """
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode().ljust(_MESSAGE_BYTES), np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes().decode())
