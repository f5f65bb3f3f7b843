"""Writes TensorFlow's tensor bundles from their description, independently of the reader."""

import struct
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57
TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}


def crc32c(data: bytes) -> int:
  """The masked checksum."""
  register = 0xFFFFFFFF
  for octet in data:
    register ^= octet
    for _ in range(8):
      register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
  crc = register ^ 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
  octets = []
  while value > 127:
    octets.append(value & 127 | 128)
    value >>= 7
  return bytes([*octets, value])


def message(*fields: tuple[int, int, object]) -> bytes:
  """A protocol buffer of (number, wire type, value)."""
  data = b""
  for number, wire_type, value in fields:
    data += varint(number << 3 | wire_type)
    if wire_type == 0:
      data += varint(value)
    elif wire_type == 2:
      data += varint(len(value)) + value
    else:
      data += struct.pack("<I", value)
  return data


def block(entries: list[tuple[bytes, bytes]], restart_interval: int = 4) -> bytes:
  """Entries with prefix compression; every fourth key is whole."""
  data, restarts, last = b"", [], b""
  for i, (key, value) in enumerate(entries):
    if i % restart_interval == 0:
      restarts.append(len(data))
      last = b""
    shared = 0
    while shared < min(len(key), len(last)) and key[shared] == last[shared]:
      shared += 1
    data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
    last = key
  return data + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(entries: list[tuple[bytes, bytes]], *, per_block: int = 5, compression: int = 0) -> bytes:
  """A LevelDB table with `per_block` entries a block."""
  data = b""

  def add(contents: bytes, kind: int = 0) -> bytes:
    nonlocal data
    handle = varint(len(data)) + varint(len(contents))
    data += contents + bytes([kind]) + struct.pack("<I", crc32c(contents + bytes([kind])))
    return handle

  index = []
  for start in range(0, len(entries), per_block):
    chosen = entries[start : start + per_block]
    index.append((chosen[-1][0], add(block(chosen), compression)))
  metaindex = add(block([]))
  handles = metaindex + add(block(index, 1))
  return data + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def entry(array: np.ndarray, *, shard: int, offset: int, data: bytes, extra: bytes = b"") -> bytes:
  dims = b"".join(message((2, 2, message((1, 0, size)))) for size in array.shape)
  return (
    message((1, 0, TYPES[array.dtype.name]), (2, 2, dims), (3, 0, shard), (4, 0, offset))
    + message((5, 0, len(data)), (6, 5, crc32c(data)))
    + extra
  )


def write(
  prefix: Path, arrays: dict[str, np.ndarray], *, shards: int = 1, extra: dict[str, bytes] | None = None
) -> None:
  """Writes PREFIX.index and PREFIX.data-...; arrays take turns on the shards.

  Args:
    prefix: of the files.
    arrays: by name.
    shards: number of data files.
    extra: further entries of the index.
  """
  contents = [b""] * shards
  entries = {b"": message((1, 0, shards), (3, 2, message((1, 0, 1))))}
  for i, (name, array) in enumerate(sorted(arrays.items())):
    data = array.tobytes()
    entries[name.encode()] = entry(array, shard=i % shards, offset=len(contents[i % shards]), data=data)
    contents[i % shards] += data
  entries |= {name.encode(): value for name, value in (extra or {}).items()}
  prefix.parent.mkdir(parents=True, exist_ok=True)
  prefix.with_name(f"{prefix.name}.index").write_bytes(table(sorted(entries.items())))
  for i, data in enumerate(contents):
    prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{shards:05d}").write_bytes(data)
