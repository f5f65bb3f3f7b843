"""Flags of commands that run on several processes, and the end of such commands after an error."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags, logging

from vidgen_jax.commands.flag_parsing import values_of
from vidgen_jax.errors import UserError

Run = Callable[[flags.FlagValues, list[str]], int | None]


def define(flag_values: flags.FlagValues) -> None:
  """Defines --distributed, and the flags that identify a process where JAX cannot detect it."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_bool("distributed", False, "join the other processes of a multi-host job", **values)
  flags.DEFINE_string("coordinator", None, "--distributed: HOST:PORT of process 0; detected on pods", **values)
  flags.DEFINE_integer("num_processes", None, "--distributed: number of processes; detected on pods", **values)
  flags.DEFINE_integer("process_id", None, "--distributed: number of this process; detected on pods", **values)


_IDENTITY = ("coordinator", "num_processes", "process_id")


def check(flag_values: flags.FlagValues) -> None:
  """Raises a UserError if flags are missing, out of range, or without --distributed."""
  identity = values_of(flag_values, *_IDENTITY)
  missing = [name for name, value in identity.items() if value is None]
  if len(missing) not in (0, 3):
    raise UserError(f"--{', --'.join(missing)} is missing: --coordinator, --num_processes, --process_id go together")
  if not missing and not 0 <= flag_values.process_id < flag_values.num_processes:
    raise UserError(f"--process_id={flag_values.process_id} must be in 0..{flag_values.num_processes - 1}")
  if not flag_values.distributed and not missing:
    raise UserError("--coordinator, --num_processes and --process_id belong to --distributed")


def join(flag_values: flags.FlagValues) -> None:
  """Joins the other processes if --distributed is set; must be called before any use of a device.

  Raises:
    UserError: raised by `check`.
  """
  check(flag_values)
  if flag_values.distributed:
    from vidgen_jax.parallel.processes import initialize_distributed

    initialize_distributed(**values_of(flag_values, *_IDENTITY))


def fail_fast(run: Run) -> Run:
  """Makes a process of a distributed command exit at once when the command fails.

  A normal exit would first wait for the other processes, which wait for this one. The others exit as soon as a
  computation needs the lost process, or after `HEARTBEAT_SECONDS`: with `PREEMPTED_EXIT_CODE`, so that a launcher
  starts the job again, unless JAX ends them first.
  """

  @functools.wraps(run)
  def wrapped(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
    try:
      return run(flag_values, arguments)
    except BaseException as error:
      if "jax" not in sys.modules:
        raise
      import jax

      if not jax.distributed.is_initialized() or jax.process_count() == 1:
        raise
      _exit(error)

  return wrapped


def _exit(error: BaseException) -> NoReturn:
  from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE, peer_failure

  status = 1
  try:
    if isinstance(error, UserError):
      status = error.exit_status
      sys.stderr.write(f"vidgen: error: {' '.join(str(error).split())}\n")
    elif (lost := peer_failure(error)) is not None:
      status = PREEMPTED_EXIT_CODE
      reason = (str(lost).strip() or "unknown").splitlines()[0][:300]
      remedy = "start the job again, it resumes from its last checkpoint"
      logging.error("another process of the job ended, or cannot be reached: %s; %s", reason, remedy)
    else:
      traceback.print_exception(error)
    logging.flush()
    sys.stdout.flush()
    sys.stderr.flush()
  finally:  # Also if the log is on a full disk.
    os._exit(status)
