"""Flags of commands that several processes run together."""

from absl import flags

from vidgen_jax.errors import UserError
from vidgen_jax.parallel import startup


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
    startup.initialize_distributed(group)
  elif group.coordinator is not None:
    raise UserError("--coordinator, --num_processes and --process_id belong to --distributed")
