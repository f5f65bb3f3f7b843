"""Checksums by hand; every flipped bit and every swap is detected for all dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vidgen_jax.core.checksums import checksums
from vidgen_jax.parallel import mesh as meshes

ODD = 2_654_435_761


def test_by_hand():
  # Weights: 0 * ODD | 1 = 1; ODD | 1 = ODD (it is odd); 2 * ODD | 1 = 2 * ODD + 1.
  x = jnp.array([[5, 7, 11]], jnp.uint32)
  assert checksums({"x": x}) == {"['x']": (5 + 7 * ODD + 11 * (2 * ODD + 1)) % 2**32}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.int8, jnp.float16])
def test_every_flipped_bit_is_detected(dtype):
  x = np.asarray(jnp.arange(6).reshape(2, 3).astype(dtype))
  (whole,) = checksums([jnp.asarray(x)]).values()
  for byte in range(x.nbytes):
    for bit in range(8):
      damaged = np.frombuffer(x.tobytes(), np.uint8).copy()
      damaged[byte] ^= 1 << bit
      (found,) = checksums([jnp.asarray(damaged.view(x.dtype).reshape(x.shape))]).values()
      assert found != whole


def test_swapped_values_are_detected():
  sums = {tuple(checksums([jnp.float32(x)]).values()) for x in ([[1, 2], [3, 4]], [[1, 3], [2, 4]], [[2, 1], [3, 4]])}
  assert len(sums) == 3


def test_keys_flags_and_scalars_have_a_checksum():
  first, second = ({"key": jax.random.key(i), "flag": jnp.array([i == 0]), "step": jnp.int32(i)} for i in range(2))
  assert all(checksums(first)[name] != value for name, value in checksums(second).items())
  assert checksums({}) == {}


def test_checksums_do_not_depend_on_the_sharding():
  mesh = meshes.make_mesh(meshes.MeshConfig(fsdp=4))
  x = jax.random.normal(jax.random.key(0), (8, 12))
  specs = [PartitionSpec(), PartitionSpec("fsdp"), PartitionSpec("data", "fsdp"), PartitionSpec(None, ("data",))]
  found = {checksums([jax.device_put(x, NamedSharding(mesh, spec))])["[0]"] for spec in specs}
  assert found == {checksums([x])["[0]"]}
