"""What a process does before its first computation."""

import os

import jax
from absl import logging
from etils import epath

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def enable_compilation_cache() -> None:
  """Keeps compiled programs on disk: `JAX_COMPILATION_CACHE_DIR`, or ~/.cache/vidgen_jax/xla."""
  folder = os.environ.get(CACHE_VARIABLE) or str(epath.Path("~/.cache/vidgen_jax/xla").expanduser())
  jax.config.update("jax_compilation_cache_dir", folder)


def initialize_distributed() -> None:
  """Joins the other processes of this job; finds them by itself on TPU pods, SLURM, Open MPI and Kubernetes.

  To be called before anything touches a device.
  """
  if not jax.distributed.is_initialized():
    jax.distributed.initialize()
  logging.info("process %d of %d, %d devices", jax.process_index(), jax.process_count(), jax.device_count())
