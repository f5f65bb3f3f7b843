"""What a process does before its first computation."""

import dataclasses
import os

import jax
from absl import logging
from etils import epath

from vidgen_jax.errors import UserError

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def enable_compilation_cache() -> None:
  """Keeps compiled programs on disk: `JAX_COMPILATION_CACHE_DIR`, or ~/.cache/vidgen_jax/xla."""
  folder = os.environ.get(CACHE_VARIABLE) or str(epath.Path("~/.cache/vidgen_jax/xla").expanduser())
  jax.config.update("jax_compilation_cache_dir", folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessGroup:
  """Which of a job's processes this one is; what is None is found out by JAX.

  Attributes:
    coordinator: HOST:PORT of process 0.
    num_processes: of the job.
    process_id: of this process, from 0.
  """

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None

  def __post_init__(self) -> None:
    """Raises UserError if only a part is given, or it does not fit."""
    conditioning = {"coordinator": self.coordinator, "num_processes": self.num_processes, "process_id": self.process_id}
    missing = [name for name, value in conditioning.items() if value is None]
    if len(missing) not in (0, 3):
      raise UserError(f"--{', --'.join(missing)} is missing: --coordinator, --num_processes, --process_id go together")
    if not missing and not 0 <= self.process_id < self.num_processes:
      raise UserError(f"--process_id={self.process_id} must lie in 0..{self.num_processes - 1}")


HEARTBEAT_SECONDS = 60
"""A process that was not heard of for so long counts as dead, and all others end."""


def initialize_distributed(*, group: ProcessGroup = ProcessGroup()) -> None:
  """Joins the other processes of this job; finds them by itself on TPU pods, SLURM, Open MPI and Kubernetes.

  To be called before anything touches a device.

  Args:
    group: says which process this is where it is not found out.

  Raises:
    UserError: if the others cannot be found or reached.
  """
  if not jax.distributed.is_initialized():
    try:
      jax.distributed.initialize(
        group.coordinator, group.num_processes, group.process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
      )
    except (ValueError, RuntimeError) as error:
      reason = str(error).strip().splitlines()[0][:300]
      raise UserError(
        f"--distributed: cannot join the other processes: {reason}; TPU pods, SLURM, Open MPI and Kubernetes are "
        "recognised, elsewhere give --coordinator=HOST:PORT --num_processes=N --process_id=I"
      ) from error
  logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
