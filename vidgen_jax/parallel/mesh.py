"""Device mesh, and the shardings of state and batches."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vidgen_jax.errors import UserError

DATA, FSDP = "data", "fsdp"


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Device mesh.

  Attributes:
    fsdp: number of devices over which parameters, optimizer state and averages are sharded; 1 replicates them.
    fsdp_min_size: number of elements below which an array stays replicated.
  """

  fsdp: int = 1
  fsdp_min_size: int = 65_536


def make_mesh(config: MeshConfig, *, devices: list[jax.Device] | None = None) -> Mesh:
  """A ('data', 'fsdp') mesh over all devices; batches are sharded over both axes.

  Raises:
    UserError: if `fsdp` does not divide the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  if config.fsdp < 1 or len(devices) % config.fsdp:
    raise UserError(f"mesh.fsdp={config.fsdp} does not divide the {len(devices)} devices")
  shape = (len(devices) // config.fsdp, config.fsdp)
  # Explicit axes reject reshapes of a sharded batch, such as folding frames into it.
  axis_types = (AxisType.Auto, AxisType.Auto)
  try:
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=axis_types, devices=devices)
  except NotImplementedError:
    # JAX does not split the axes of a TPU torus unless allowed: no axes of 4 x 4 x 4 chips multiply to 8.
    split = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(split, (DATA, FSDP), axis_types=axis_types)


def replicated(mesh: Mesh) -> NamedSharding:
  """One copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, microbatches: bool) -> NamedSharding:
  """Shards the batch axis over all devices: axis 1 if micro-batches are stacked on axis 0, else axis 0."""
  axes = (DATA, FSDP)
  return NamedSharding(mesh, PartitionSpec(None, axes) if microbatches else PartitionSpec(axes))


def state_sharding(abstract_state: Any, mesh: Mesh, config: MeshConfig) -> Any:
  """Shards the largest axis of each leaf that `fsdp` divides; small arrays stay replicated.

  Equal shapes get equal shardings, so parameters, Adam's moments and averages are sharded alike.

  Args:
    abstract_state: pytree of arrays or ShapeDtypeStructs.
    mesh: mesh from `make_mesh`.
    config: settings of the mesh.
  """
  size = mesh.shape[FSDP]

  def leaf_sharding(leaf: Any) -> NamedSharding:
    splittable = [axis for axis, length in enumerate(leaf.shape) if length % size == 0]
    if size == 1 or not splittable or np.prod(leaf.shape) < config.fsdp_min_size:
      return replicated(mesh)
    axis = max(splittable, key=lambda axis: leaf.shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(FSDP if i == axis else None for i in range(len(leaf.shape)))))

  return jax.tree.map(leaf_sharding, abstract_state)


def global_batch(local_batch: Any, sharding: NamedSharding) -> Any:
  """Moves this process's part of a batch (host arrays) to its devices, as part of one global array."""
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), local_batch)


def local_batch_indices(batch_size: int, mesh: Mesh) -> tuple[int, ...]:
  """Indices of the clips of a global batch that this process holds, ascending, in the order of `global_batch`."""
  slices: Any = batch_sharding(mesh, microbatches=False).addressable_devices_indices_map((batch_size,)).values()
  return tuple(sorted({index for (part,) in slices for index in range(batch_size)[part]}))


def local_batch_size(batch_size: int, mesh: Mesh, *, name: str) -> int:
  """Number of clips of a global batch that this process holds.

  Raises:
    UserError: if the number of devices does not divide the batch; names the config field `name`.
  """
  if batch_size < 1 or batch_size % mesh.size:
    raise UserError(
      f"{name}={batch_size} is not divisible by the {mesh.size} devices; choose a multiple of {mesh.size}"
    )
  return batch_size // jax.process_count()
