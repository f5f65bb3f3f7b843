"""The device mesh, and how state and batches lie on it."""

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
  """How devices are used.

  Attributes:
    fsdp: devices over which parameters, optimizer state and averages are split; 1 keeps them replicated.
    fsdp_min_size: arrays with fewer elements stay replicated.
  """

  fsdp: int = 1
  fsdp_min_size: int = 65_536


def make_mesh(config: MeshConfig, *, devices: list[jax.Device] | None = None) -> Mesh:
  """A ('data', 'fsdp') mesh over all devices; batches are split over both axes.

  Raises:
    UserError: if the number of devices is no multiple of `fsdp`.
  """
  devices = jax.devices() if devices is None else devices
  if config.fsdp < 1 or len(devices) % config.fsdp:
    raise UserError(f"mesh.fsdp={config.fsdp} does not divide the {len(devices)} devices")
  shape = (len(devices) // config.fsdp, config.fsdp)
  # Auto axes: under Explicit ones, reshapes of a sharded batch (frames folded into it) are refused.
  axis_types = (AxisType.Auto, AxisType.Auto)
  try:
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=axis_types, devices=devices)
  except NotImplementedError:
    # TPUs form a torus, and JAX would not cut its axes: of 4 x 4 x 4 chips no axes make 8.
    cut = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(cut, (DATA, FSDP), axis_types=axis_types)


def replicated(mesh: Mesh) -> NamedSharding:
  """One copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, microbatches: bool) -> NamedSharding:
  """Splits the batch axis over all devices; it is axis 1 behind a leading axis of micro-batches, else axis 0."""
  axes = (DATA, FSDP)
  return NamedSharding(mesh, PartitionSpec(None, axes) if microbatches else PartitionSpec(axes))


def state_sharding(abstract_state: Any, mesh: Mesh, config: MeshConfig) -> Any:
  """A sharding for every leaf of a state: the largest axis that `fsdp` divides is split, small arrays are not.

  Args:
    abstract_state: pytree of arrays or ShapeDtypeStructs; equal shapes get equal shardings, so parameters, Adam's
      moments and averages lie alike.
    mesh: from `make_mesh`.
    config: of the mesh.
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
  """Puts this process's share of a batch (host arrays) onto its devices, as part of one global array."""
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), local_batch)


def local_batch_indices(batch_size: int, mesh: Mesh) -> tuple[int, ...]:
  """Which clips of a global batch this process holds, ascending: the order in which `global_batch` takes them."""
  slices = batch_sharding(mesh, microbatches=False).addressable_devices_indices_map((batch_size,)).values()
  return tuple(sorted({place for (part,) in slices for place in range(batch_size)[part]}))


def local_batch_size(batch_size: int, mesh: Mesh, *, name: str) -> int:
  """This process's share of a global batch.

  Raises:
    UserError: naming the config field `name`, if the devices do not divide the batch.
  """
  if batch_size < 1 or batch_size % mesh.size:
    raise UserError(
      f"{name}={batch_size} is not divisible by the {mesh.size} devices; choose a multiple of {mesh.size}"
    )
  return batch_size // jax.process_count()
