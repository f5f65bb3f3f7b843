"""TensorFlow V2 checkpoints ("tensor bundles") without TensorFlow.

PREFIX.index is a LevelDB table from names to protocol buffers (tensor_bundle.proto), PREFIX.data-0000i-of-0000n hold
the values, little-endian, in C order. The entry of the empty name is the header.
"""

import dataclasses
import math
import pathlib
import re

import jax.numpy as jnp
import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.formats import crc32c
from vidgen_jax.formats.protobuf import read_fields
from vidgen_jax.scores.weights.leveldb_table import read_table

# types.proto
_STRING = 7
_DTYPES = {
  1: np.dtype(np.float32),
  2: np.dtype(np.float64),
  3: np.dtype(np.int32),
  4: np.dtype(np.uint8),
  5: np.dtype(np.int16),
  6: np.dtype(np.int8),
  9: np.dtype(np.int64),
  10: np.dtype(np.bool_),
  14: jnp.dtype(jnp.bfloat16),
  17: np.dtype(np.uint16),
  19: np.dtype(np.float16),
  22: np.dtype(np.uint32),
  23: np.dtype(np.uint64),
}
_DATA_NAME = re.compile(r"\.data-\d{5}-of-\d{5}$")


@dataclasses.dataclass(frozen=True)
class CheckpointFiles:
  """The files of one checkpoint.

  Attributes:
    index: PREFIX.index.
    shards: PREFIX.data-..., in their order.
  """

  index: pathlib.Path
  shards: tuple[pathlib.Path, ...]


def find_tf_checkpoint(path: str | pathlib.Path) -> CheckpointFiles | None:
  """The files of the checkpoint that `path` names, or None if it names none.

  Args:
    path: the prefix, the .index file, a .data-... file, or a folder with one .index file.

  Raises:
    UserError: if there are .data-... files and no .index, an .index and no .data-..., or several .index files.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    found = sorted(path.glob("*.index"))
    if len(found) > 1:
      raise UserError(f"{path} holds several checkpoints ({_listing(found)}); name one of them")
    return find_tf_checkpoint(found[0]) if found else None
  name = _DATA_NAME.sub("", path.name.removesuffix(".index"))
  index = path.with_name(f"{name}.index")
  if not index.is_file():
    if _DATA_NAME.search(path.name):
      raise UserError(f"{path} needs {index.name} beside it, which says what is where; copy it there")
    return None
  if path.exists() and path.name == name:
    return None
  shards = tuple(sorted(p for p in path.parent.iterdir() if p.name != name and _DATA_NAME.sub("", p.name) == name))
  if not shards:
    raise UserError(f"{index} needs {name}.data-00000-of-00001 beside it, which holds the values; copy it there")
  return CheckpointFiles(index, shards)


def read_tf_checkpoint(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint and checks all checksums.

  Args:
    path: see `find_tf_checkpoint`.

  Returns:
    Arrays by variable name, views of the files' contents. String tensors, such as the graph of objects, are left out.

  Raises:
    UserError: if there is no checkpoint, it is damaged, or it holds what cannot be read here.
  """
  files = find_tf_checkpoint(path)
  if files is None:
    raise UserError(f"{path} is no TensorFlow checkpoint; name its prefix or its .index file")
  try:
    table = dict(read_table(files.index.read_bytes()))
    entries = _read_entries(table, num_shards=len(files.shards))
    shards = [np.fromfile(shard, dtype=np.uint8) for shard in files.shards]
    return {name: _read_tensor(name, entry, shards) for name, entry in entries.items()}
  except ValueError as error:
    raise UserError(f"{files.index} cannot be read: {error}; fetch or write the checkpoint again") from error
  except OSError as error:
    raise UserError(f"{files.index} cannot be read: {error.strerror}; check the checkpoint's files") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
  """BundleEntryProto."""

  dtype: int = 0
  shape: tuple[int, ...] = ()
  shard: int = 0
  offset: int = 0
  size: int = 0
  checksum: int = 0


def _read_entries(table: dict[bytes, bytes], *, num_shards: int) -> dict[str, _Entry]:
  if b"" not in table:
    raise ValueError("it has no header")
  header = {number: value for number, value in read_fields(table.pop(b"")) if isinstance(value, int)}
  if header.get(1) != num_shards:
    raise ValueError(f"it has {header.get(1, 0)} data files, of which {num_shards} are here")
  if header.get(2, 0):
    raise ValueError("its values are big-endian")
  entries = {key.decode(): _read_entry(key.decode(), value) for key, value in table.items()}
  return {name: entry for name, entry in entries.items() if entry.dtype != _STRING}


def _read_entry(name: str, message: bytes) -> _Entry:
  names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "checksum"}
  values = {}
  for number, value in read_fields(message):
    if number == 7:
      raise ValueError(f"{name} is split into slices")
    if number == 2:
      values["shape"] = _read_shape(name, value)
    elif number in names and isinstance(value, int):
      values[names[number]] = value
  return _Entry(**values)


def _read_shape(name: str, message: bytes | int) -> tuple[int, ...]:
  """TensorShapeProto: dimensions (2) of a size (1), which is left out where it is zero."""
  dimensions = [value for number, value in read_fields(message) if number == 2]
  shape = tuple(dict(read_fields(dimension)).get(1, 0) for dimension in dimensions)
  if any(not isinstance(size, int) or size >= 2**63 for size in shape):
    raise ValueError(f"{name} has an unknown shape")
  return shape


def _read_tensor(name: str, entry: _Entry, shards: list[np.ndarray]) -> np.ndarray:
  if entry.dtype not in _DTYPES:
    raise ValueError(f"{name} is of type {entry.dtype} of types.proto, which is no plain number")
  dtype = _DTYPES[entry.dtype]
  if math.prod(entry.shape) * dtype.itemsize != entry.size:
    raise ValueError(f"{name} has {entry.size} bytes, which do not fit the shape {list(entry.shape)} of {dtype}")
  if entry.shard >= len(shards) or entry.offset + entry.size > shards[entry.shard].size:
    raise ValueError(f"{name} reaches past the end of its data file")
  data = shards[entry.shard][entry.offset : entry.offset + entry.size]
  if crc32c.crc32c(data) != crc32c.unmask(entry.checksum):
    raise ValueError(f"{name} has a wrong checksum")
  return data.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(entry.shape)


def _listing(paths: list[pathlib.Path]) -> str:
  return ", ".join(path.name for path in paths)
