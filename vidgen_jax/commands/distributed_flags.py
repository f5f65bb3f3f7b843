"""Flags of commands that several processes run together, and how these end."""

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
  """Defines --distributed, and which process this is where JAX does not find it out."""
  values = {"flag_values": flag_values}
  flags.DEFINE_bool("distributed", False, "joins the other processes of a multi-host job", **values)
  flags.DEFINE_string("coordinator", None, "--distributed: HOST:PORT of process 0; found out on pods", **values)
  flags.DEFINE_integer("num_processes", None, "--distributed: processes of the job; likewise", **values)
  flags.DEFINE_integer("process_id", None, "--distributed: number of this process; likewise", **values)


def join(flag_values: flags.FlagValues) -> None:
  """Joins the other processes if --distributed is given; to be called before anything touches a device.

  Raises:
    UserError: if they cannot be found or reached, or flags do not go together.
  """
  group = startup.ProcessGroup(
    coordinator=flag_values.coordinator, num_processes=flag_values.num_processes, process_id=flag_values.process_id
  )
  if flag_values.distributed:
    startup.initialize_distributed(group=group)
  elif group.coordinator is not None:
    raise UserError("--coordinator, --num_processes and --process_id belong to --distributed")


def fail_fast(run: Run) -> Run:
  """Makes a command that fails on one process of a job end there at once, so that the others notice.

  Left to itself it would wait for the others first, which wait for it. Those end as soon as a computation that needs it
  fails, or it was not heard of for `startup.HEARTBEAT_SECONDS`: with `PREEMPTED_EXIT_CODE`, since it is not their
  fault and the job can be started again, unless JAX ends them first.

  Args:
    run: as the command line calls it.
  """

  @functools.wraps(run)
  def wrapped(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
    try:
      return run(flag_values, arguments)
    except BaseException as error:
      if not jax.distributed.is_initialized() or jax.process_count() == 1:
        raise
      _end(error)

  return wrapped


def _end(error: BaseException) -> None:
  """Says why, and ends the process without waiting for anything."""
  lost = None if isinstance(error, UserError) else peer_failure(error)
  status = error.exit_status if isinstance(error, UserError) else 1 if lost is None else PREEMPTED_EXIT_CODE
  try:
    _say(error, lost)
  finally:  # The log may lie on the disk that is full.
    os._exit(status)


def _say(error: BaseException, lost: BaseException | None) -> None:
  if lost is not None:
    reason = (str(lost).strip() or "unknown").splitlines()[0][:300]
    logging.error(
      "another process of the job ended, or cannot be reached: %s; start the job again, it continues from its last "
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
