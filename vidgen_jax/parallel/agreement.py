"""What the processes of a job tell each other on the host."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def everywhere(flag: bool) -> bool:
  """Whether a flag is set on every process; to be called by all of them, and waits for all."""
  if jax.process_count() == 1:
    return flag
  return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))
