"""Settings of the device mesh. Imports no JAX, so that mistakes are reported at once."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Device mesh.

  Attributes:
    fsdp: number of devices over which parameters, optimizer state and averages are sharded; 1 replicates them.
    fsdp_min_size: number of elements below which an array stays replicated.
  """

  fsdp: int = 1
  fsdp_min_size: int = 65_536
