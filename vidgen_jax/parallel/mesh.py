"""Device mesh, shardings of state and batches, and transfer of batches to the devices."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import jax
import jaxlib.version
import numpy as np
from absl import logging
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vidgen_jax.errors import UserError
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.types import BATCH_AXES, Batch

DATA, FSDP = BATCH_AXES
REPEAT = "repeat"
"""Mesh axis of the devices that train with the same clips."""


def mesh_shape(
  config: MeshConfig, num_devices: int, *, batch_size: int = 0, name: str = "config.train.batch_size"
) -> dict[str, int]:
  """Lengths of the mesh axes: 'data' and 'fsdp', after 'repeat' if the devices do not divide the batch.

  Args:
    config: settings of the mesh.
    num_devices: number of devices of all processes.
    batch_size: number of clips that a train step computes at once, on all devices; 0 for any multiple of the devices.
    name: config field of the batch size, for messages.

  Raises:
    UserError: if `fsdp` does not divide the devices, or they do not divide the batch and may not repeat clips.
  """
  fsdp, used = config.fsdp, math.gcd(batch_size, num_devices)
  if fsdp < 1 or num_devices % fsdp:
    raise UserError(f"mesh.fsdp={fsdp} does not divide the {num_devices} devices")
  if used == num_devices:
    return {DATA: num_devices // fsdp, FSDP: fsdp}
  mismatch = f"{name}={batch_size} is not divisible by the {num_devices} devices"
  if not config.repeat_clips:
    raise UserError(
      f"{mismatch}; choose a multiple of {num_devices}, or {used} devices, or --config.mesh.repeat_clips=True, with "
      f"which the other {num_devices - used} repeat their work"
    )
  if used % fsdp:
    raise UserError(f"{mismatch}, and mesh.fsdp={fsdp} does not divide the {used} devices that can share it")
  return {REPEAT: num_devices // used, DATA: used // fsdp, FSDP: fsdp}


def make_mesh(config: MeshConfig, *, devices: list[jax.Device] | None = None, **batch: Any) -> Mesh:
  """A mesh over all devices of the shape that `mesh_shape` chooses for `batch`, its keyword arguments.

  Raises:
    UserError: raised by `mesh_shape`, or devices that repeat clips would split the batch differently on each process.
  """
  devices = jax.devices() if devices is None else devices
  axes = mesh_shape(config, len(devices), **batch)
  if REPEAT in axes:
    logging.warning(
      "the batch occupies %d of %d devices; the others repeat their work: use fewer, or raise config.train.batch_size",
      len(devices) // axes[REPEAT],
      len(devices),
    )
  names, shape = tuple(axes), tuple(axes.values())
  # Explicit axes reject reshapes of a sharded batch, such as folding frames into it.
  axis_types = (AxisType.Auto,) * len(axes)
  try:
    mesh = jax.make_mesh(shape, names, axis_types=axis_types, devices=devices)
  except NotImplementedError:
    # JAX does not split the axes of a TPU torus unless allowed: no axes of 4 x 4 x 4 chips multiply to 8.
    split = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    mesh = Mesh(split, names, axis_types=axis_types)
  if REPEAT in axes and jax.process_count() > 1:
    check_shares(mesh.devices)
  return mesh


def check_shares(devices: np.ndarray) -> None:
  """Raises a UserError if the parts of a batch of two processes overlap without being equal.

  JAX cannot build a global array from such parts. `devices` [repeat, data, fsdp] have a `process_index`.
  """
  parts: dict[int, set[tuple[int, ...]]] = {}
  for (_, *place), device in np.ndenumerate(devices):
    parts.setdefault(device.process_index, set()).add(tuple(place))
  distinct = set(map(frozenset, parts.values()))
  if sum(map(len, distinct)) != len(set().union(*distinct)):
    raise UserError(
      f"the batch occupies {devices[0].size} of {devices.size} devices, which {len(parts)} processes cannot share with "
      f"mesh.repeat_clips; choose a config.train.batch_size that is a multiple of {devices.size}, or fewer processes"
    )


def quick_options(mesh: Mesh) -> dict[str, Any]:
  """Compiler options for programs on CPUs that need not be fast; none for other platforms."""
  if mesh.devices.flat[0].platform != "cpu":
    return {}
  options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
  # Later versions have no other code generator than the slow one.
  return options if jaxlib.version.__version_info__ >= (0, 12) else options | {"xla_cpu_use_fusion_emitters": False}


def replicated(mesh: Mesh) -> NamedSharding:
  """One copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, *, microbatches: bool) -> NamedSharding:
  """Shards axis 1 of a train step's stacked micro-batches over `BATCH_AXES`; else axis 0, over all devices."""
  return NamedSharding(mesh, PartitionSpec(None, BATCH_AXES) if microbatches else PartitionSpec(mesh.axis_names))


def state_sharding(abstract_state: Any, mesh: Mesh, config: MeshConfig) -> Any:
  """Shards the largest axis of each leaf that `fsdp` divides; small arrays stay replicated.

  Equal shapes get equal shardings, so parameters, Adam's moments and averages are sharded alike.
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


def local_batch_indices(batch_size: int, mesh: Mesh, *, microbatches: bool) -> tuple[int, ...]:
  """Indices of this process's clips in a global batch or micro-batch, ascending, in the order of `global_batch`."""
  sharding = batch_sharding(mesh, microbatches=microbatches)
  parts: Any = sharding.addressable_devices_indices_map((1,) * microbatches + (batch_size,)).values()
  return tuple(sorted({index for part in parts for index in range(batch_size)[part[-1]]}))


def check_batch_size(batch_size: int, mesh: Mesh, *, name: str) -> None:
  """Raises a UserError about the config field `name` if the devices do not divide a global batch."""
  if batch_size < 1 or batch_size % mesh.size:
    raise UserError(
      f"{name}={batch_size} is not divisible by the {mesh.size} devices; choose a multiple of {mesh.size}"
    )


class DevicePrefetch:
  """Iterator that reads batches and transfers them to the devices in a thread, up to `depth` batches ahead.

  Transfers overlap with the running step, and a single slow read does not delay it. Processes do not communicate, so
  they may be ahead by different numbers of batches. The thread starts with the first `start_prefetch` or `next`.

  Args:
    iterator: iterator of host batches, optionally with `get_state`. Nothing else may use it until `close`; it is then
      ahead of the delivered batches.
    place: function that transfers a batch to the devices.
    depth: number of batches on the devices in addition to the last delivered one, at least 1.
  """

  def __init__(self, iterator: Iterator[Any], place: Callable[[Any], Batch], *, depth: int):
    self._iterator, self._place, self._depth = iterator, place, depth
    self._get_state: Callable[[], Any] = getattr(iterator, "get_state", lambda: None)
    self._ahead: deque[Future[tuple[Batch, Any]]] = deque()
    # A single thread keeps the order of the batches.
    self._thread = ThreadPoolExecutor(1, thread_name_prefix="device-prefetch")
    self._state = self._get_state()

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Batch:
    self.start_prefetch()
    batch, self._state = self._ahead[0].result()  # A failed read stays in the queue, so the next call raises again.
    self._ahead.popleft()
    self.start_prefetch()
    return batch

  def get_state(self) -> Any:
    """Data iterator state after the last delivered batch; None if the iterator has none."""
    return self._state

  def start_prefetch(self) -> None:
    """Starts to read up to `depth` batches."""
    while len(self._ahead) < self._depth:
      self._ahead.append(self._thread.submit(self._read))

  def close(self) -> None:
    """Ends the thread after its current batch; the iterator stays open."""
    self._thread.shutdown(cancel_futures=True)
    self._ahead.clear()

  def _read(self) -> tuple[Batch, Any]:
    return self._place(next(self._iterator)), self._get_state()
