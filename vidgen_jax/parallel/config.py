"""Settings of the device mesh. Imports no JAX, so that mistakes are reported at once."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Device mesh.

  Attributes:
    fsdp: number of devices over which parameters, optimizer state and averages are sharded; 1 replicates them.
    fsdp_min_size: number of elements below which an array stays replicated.
    repeat_clips: whether a batch may have fewer clips than there are devices, or a number that they do not divide: as
      many devices as possible share it and the others repeat their clips, which changes nothing and gains nothing.
      False makes such a batch an error.
  """

  fsdp: int = 1
  fsdp_min_size: int = 65_536
  repeat_clips: bool = False
