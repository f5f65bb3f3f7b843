"""Flags of commands that run on several processes, and the end of such commands after an error."""

import functools
import os
import sys
import traceback
from collections.abc import Callable

import jax
from absl import flags, logging

from vidgen_jax.errors import UserError
from vidgen_jax.parallel import startup
from vidgen_jax.parallel.agreement import peer_failure
from vidgen_jax.parallel.preemption import PREEMPTED_EXIT_CODE

Run = Callable[[flags.FlagValues, list[str]], int | None]


def define(flag_values: flags.FlagValues) -> None:
  """Defines --distributed, and the flags that identify a process where JAX cannot detect it."""
  flags.DEFINE_bool("distributed", False, "join the other processes of a multi-host job", flag_values=flag_values)
  flags.DEFINE_string(
    "coordinator", None, "--distributed: HOST:PORT of process 0; detected on pods", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "num_processes", None, "--distributed: number of processes; detected on pods", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "process_id", None, "--distributed: number of this process; detected on pods", flag_values=flag_values
  )


def join(flag_values: flags.FlagValues) -> None:
  """Joins the other processes if --distributed is set; must be called before any use of a device.

  Raises:
    UserError: if they cannot be found or reached, or the flags are inconsistent.
  """
  group = startup.ProcessGroup(
    coordinator=flag_values.coordinator, num_processes=flag_values.num_processes, process_id=flag_values.process_id
  )
  if flag_values.distributed:
    startup.initialize_distributed(group=group)
  elif group.coordinator is not None:
    raise UserError("--coordinator, --num_processes and --process_id belong to --distributed")


def fail_fast(run: Run) -> Run:
  """Makes a command of several processes exit at once on the process that fails.

  A normal exit would first wait for the other processes, which wait for this one. The others exit as soon as a
  computation needs the lost process, or after `startup.HEARTBEAT_SECONDS`: with `PREEMPTED_EXIT_CODE`, so that a
  launcher starts the job again, unless JAX ends them first.

  Args:
    run: function of the command line.
  """

  @functools.wraps(run)
  def wrapped(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
    try:
      return run(flag_values, arguments)
    except BaseException as error:
      if not jax.distributed.is_initialized() or jax.process_count() == 1:
        raise
      _exit_at_once(error)

  return wrapped


def _exit_at_once(error: BaseException) -> None:
  lost = None if isinstance(error, UserError) else peer_failure(error)
  status = error.exit_status if isinstance(error, UserError) else 1 if lost is None else PREEMPTED_EXIT_CODE
  try:
    _report(error, lost)
  finally:  # Also if the log is on a full disk.
    os._exit(status)


def _report(error: BaseException, lost: BaseException | None) -> None:
  if lost is not None:
    reason = (str(lost).strip() or "unknown").splitlines()[0][:300]
    logging.error(
      "another process of the job ended, or cannot be reached: %s; start the job again, it resumes from its last "
      "checkpoint",
      reason,
    )
  elif isinstance(error, UserError):
    sys.stderr.write(f"vidgen: error: {' '.join(str(error).split())}\n")
  else:
    traceback.print_exception(error)
  logging.flush()
  sys.stdout.flush()
  sys.stderr.flush()
