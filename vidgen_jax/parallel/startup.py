"""Set-up of a process before its first computation."""

import dataclasses
import os

import jax
from absl import logging
from etils import epath

from vidgen_jax.errors import UserError

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def enable_compilation_cache() -> None:
  """Caches compiled programs on disk, in `JAX_COMPILATION_CACHE_DIR` or ~/.cache/vidgen_jax/xla."""
  folder = os.environ.get(CACHE_VARIABLE) or str(epath.Path("~/.cache/vidgen_jax/xla").expanduser())
  jax.config.update("jax_compilation_cache_dir", folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessGroup:
  """Identity of this process within a job; JAX detects it where all fields are None.

  Attributes:
    coordinator: HOST:PORT of process 0.
    num_processes: number of processes of the job.
    process_id: index of this process, from 0.
  """

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None

  def __post_init__(self) -> None:
    values = {"coordinator": self.coordinator, "num_processes": self.num_processes, "process_id": self.process_id}
    missing = [name for name, value in values.items() if value is None]
    if len(missing) not in (0, 3):
      raise UserError(f"--{', --'.join(missing)} is missing: --coordinator, --num_processes, --process_id go together")
    if self.process_id is None or self.num_processes is None:
      return
    if not 0 <= self.process_id < self.num_processes:
      raise UserError(f"--process_id={self.process_id} must be in 0..{self.num_processes - 1}")


HEARTBEAT_SECONDS = 60
"""Time without a heartbeat after which a process counts as dead and all others exit."""


def initialize_distributed(*, group: ProcessGroup = ProcessGroup()) -> None:
  """Joins the other processes of this job, which JAX detects on TPU pods, SLURM, Open MPI and Kubernetes.

  Must be called before anything uses a device.

  Args:
    group: identity of this process where JAX does not detect it.

  Raises:
    UserError: if the other processes cannot be detected or reached.
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
        "detected; elsewhere set --coordinator=HOST:PORT --num_processes=N --process_id=I"
      ) from error
  logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
