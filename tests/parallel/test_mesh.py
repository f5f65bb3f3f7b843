"""Shardings by hand, on eight devices."""

import dataclasses
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vidgen_jax.errors import UserError
from vidgen_jax.parallel import mesh as meshes


def test_mesh_has_data_and_fsdp_axes():
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=2))
  assert dict(mesh.shape) == {"data": 4, "fsdp": 2}


def test_fsdp_must_divide_the_devices():
  with pytest.raises(UserError, match=r"mesh\.fsdp=3 does not divide the 8 devices"):
    meshes.make_mesh(meshes.MeshConfig(fsdp=3))


@pytest.mark.parametrize(
  ("devices", "batch_size", "fsdp", "shape"),
  [
    (8, 16, 2, {"data": 4, "fsdp": 2}),
    (8, 0, 1, {"data": 8, "fsdp": 1}),
    (64, 32, 1, {"repeat": 2, "data": 32, "fsdp": 1}),
    # 8 divides both 40 and 64.
    (64, 40, 4, {"repeat": 8, "data": 2, "fsdp": 4}),
    (6, 35, 1, {"repeat": 6, "data": 1, "fsdp": 1}),
  ],
)
def test_devices_that_a_batch_cannot_occupy_repeat_its_clips(devices, batch_size, fsdp, shape):
  config = meshes.MeshConfig(fsdp=fsdp, repeat_clips=True)
  assert list(meshes.mesh_shape(config, devices, batch_size=batch_size).items()) == list(shape.items())


def test_devices_must_divide_the_batch_unless_clips_may_be_repeated(caplog):
  with pytest.raises(UserError) as error:
    meshes.make_mesh(meshes.MeshConfig(), batch_size=12)
  assert str(error.value) == (
    "config.train.batch_size=12 is not divisible by the 8 devices; choose a multiple of 8, or 4 devices, or "
    "--config.mesh.repeat_clips=True, with which the other 4 repeat their work"
  )
  with pytest.raises(UserError, match=r"by the 8 devices, and mesh\.fsdp=8 does not divide the 4 devices that can"):
    meshes.make_mesh(meshes.MeshConfig(fsdp=8, repeat_clips=True), batch_size=12)
  mesh = meshes.make_mesh(meshes.MeshConfig(repeat_clips=True), batch_size=12)
  assert "the batch occupies 4 of 8 devices; the others repeat their work" in caplog.text
  placed = meshes.global_batch(np.arange(12)[None], meshes.batch_sharding(mesh, microbatches=True))
  shards = [shard.data.ravel().tolist() for shard in placed.addressable_shards]
  assert shards == 2 * [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
  assert meshes.local_batch_indices(12, mesh, microbatches=True) == tuple(range(12))
  # Sampling uses all devices.
  assert meshes.batch_sharding(mesh, microbatches=False).shard_shape((16,)) == (2,)


@dataclasses.dataclass(frozen=True)
class _Chip:
  """What JAX asks a TPU when it lays out a mesh."""

  id: int
  coords: tuple[int, int, int]
  platform: str = "tpu"
  device_kind: str = "TPU v5"
  core_on_chip: int = 0
  process_index: int = 0
  slice_index: int = 0


def test_axes_of_a_torus_are_split_if_necessary():
  chips = [_Chip(i, place) for i, place in enumerate(itertools.product(range(4), repeat=3))]
  # 4 x 4 x 4: no axes together have 8 chips.
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=8), devices=chips)
  assert dict(mesh.shape) == {"data": 8, "fsdp": 8}
  assert sorted(chip.id for chip in mesh.devices.flat) == list(range(64))


def test_the_largest_divisible_axis_is_sharded_and_small_arrays_are_not():
  config = meshes.MeshConfig(fsdp=2, fsdp_min_size=100)
  leaves = {
    "kernel": jax.ShapeDtypeStruct((3, 3, 16, 64), jnp.float32),
    "odd": jax.ShapeDtypeStruct((15, 31), jnp.float32),
    "small": jax.ShapeDtypeStruct((8,), jnp.float32),
    "scalar": jax.ShapeDtypeStruct((), jnp.int32),
  }
  shardings = meshes.state_sharding(leaves, meshes.make_mesh(config), config)
  assert shardings["kernel"].spec == PartitionSpec(None, None, None, "fsdp")
  assert shardings["odd"].spec == shardings["small"].spec == shardings["scalar"].spec == PartitionSpec()


def test_batches_are_sharded_over_all_devices_in_order():
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=2))
  local = {"label": np.arange(16).reshape(1, 16)}
  batch = meshes.global_batch(local, meshes.batch_sharding(mesh, microbatches=True))
  shards = sorted(batch["label"].addressable_shards, key=lambda shard: shard.index[1].start)
  assert [shard.data.ravel().tolist() for shard in shards] == [[2 * i, 2 * i + 1] for i in range(8)]


def test_batch_must_be_divisible_by_the_devices():
  mesh = meshes.make_mesh(meshes.MeshConfig())
  meshes.check_batch_size(16, mesh, name="config.train.batch_size")
  with pytest.raises(UserError, match=r"config\.train\.batch_size=12 is not divisible by the 8 devices"):
    meshes.check_batch_size(12, mesh, name="config.train.batch_size")


@pytest.mark.parametrize("fsdp", [1, 2])
def test_one_process_holds_every_index_of_a_batch_once(fsdp):
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=fsdp))
  assert meshes.local_batch_indices(24, mesh, microbatches=True) == tuple(range(24))


def test_indices_are_those_of_the_local_devices(monkeypatch):
  # Two processes of two devices each, whose devices take turns along the batch: as TPU slices may order them.
  class Sharding:
    def addressable_devices_indices_map(self, shape):
      assert shape == (8,)
      return {"first": (slice(2, 4),), "second": (slice(6, None),)}

  monkeypatch.setattr(meshes, "batch_sharding", lambda mesh, microbatches: Sharding())
  assert meshes.local_batch_indices(8, None, microbatches=False) == (2, 3, 6, 7)


@pytest.mark.parametrize(
  ("processes", "fits"),
  [
    # Two repeats of two devices. Each process has the same two places, or each a place of its own.
    ([[0, 0], [1, 1]], True),
    ([[0, 1], [0, 1]], True),
    # Three processes of four devices, two repeats of six: parts overlap.
    ([[0, 0, 0, 0, 1, 1], [1, 1, 2, 2, 2, 2]], False),
  ],
)
def test_processes_with_repeated_clips_share_a_batch_evenly(processes, fits):
  devices = np.vectorize(lambda index: types.SimpleNamespace(process_index=index))(np.array(processes)[:, :, None])
  if fits:
    meshes.check_shares(devices)
  else:
    with pytest.raises(UserError, match="6 of 12 devices, which 3 processes cannot share"):
      meshes.check_shares(devices)
