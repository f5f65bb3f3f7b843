"""Sharding-independent checksums of arrays: detect a restored state that differs from the saved one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
_ODD = 2_654_435_761  # Knuth's multiplicative hash: 2^32 over the golden ratio.


def checksums(tree: jax.Array | object) -> dict[str, int]:
  """A 32-bit checksum of every array, computed on the devices that hold it.

  The checksum is the sum modulo 2^32 of each value's bits times an odd number derived from its index. A single flipped
  bit always changes it; swapped values go unnoticed once in about 2^32. All processes that hold the arrays must call
  this function.

  Args:
    tree: pytree of arrays with 1, 2 or 4 bytes per value, or of PRNG keys.

  Returns:
    {path in the tree: checksum}, equal for every sharding.
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  shardings = [x.sharding for _, x in leaves if isinstance(x, jax.Array)]
  meshes = [sharding.mesh for sharding in shardings if isinstance(sharding, NamedSharding)]
  # Replicated, so that every process can read the result.
  replicated = NamedSharding(meshes[0], PartitionSpec()) if meshes else None
  values = jax.jit(_checksums, out_shardings=replicated)([x for _, x in leaves])
  names = [jax.tree_util.keystr(path) for path, _ in leaves]
  return dict(zip(names, np.asarray(values).tolist(), strict=True))


def _checksums(leaves: list[jax.Array]) -> jax.Array:
  return jnp.stack([_checksum(x) for x in leaves]) if leaves else jnp.zeros((0,), jnp.uint32)


def _checksum(x: jax.Array) -> jax.Array:
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
  words = lax.bitcast_convert_type(x, _WORDS[x.dtype.itemsize]).astype(jnp.uint32)
  index = jnp.zeros(words.shape, jnp.uint32)
  for axis, length in enumerate(words.shape):
    index = index * jnp.uint32(length) + lax.broadcasted_iota(jnp.uint32, words.shape, axis)
  return jnp.sum(words * (index * jnp.uint32(_ODD) | jnp.uint32(1)), dtype=jnp.uint32)
