"""The file format of a LevelDB table (doc/table_format.md of LevelDB): sorted pairs of keys and values.

File: data blocks, meta blocks, index block, footer. Footer: the places of the metaindex and the index block, padded to
40 bytes, and the magic number. Block: entries, the restarts' offsets, their number; then one byte for the compression
and the masked CRC-32C of all before. Entry: bytes shared with the key before, further bytes of the key, bytes of the
value, and the two themselves. The values of the index block are the places of the data blocks.
"""

from collections.abc import Iterator

from vidgen_jax.formats import crc32c
from vidgen_jax.formats.varint import read_varint

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last eight bytes of a table: 0xdb4775248b80fb57."""

_FOOTER_SIZE = 48
_TRAILER_SIZE = 5
_COMPRESSIONS = {1: "snappy", 2: "zstd"}


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Reads a whole table.

  Args:
    data: the file's bytes.

  Yields:
    Keys and values, in the order of the keys.

  Raises:
    ValueError: if it is no table, is damaged or compressed; the message says which.
  """
  if len(data) < _FOOTER_SIZE or not data.endswith(MAGIC):
    raise ValueError("it does not end as a table does")
  footer = data[-_FOOTER_SIZE:]
  _, position = _read_handle(footer, 0)
  index, _ = _read_handle(footer, position)
  for _, value in _entries(_block(data, index)):
    handle, _ = _read_handle(value, 0)
    yield from _entries(_block(data, handle))


Handle = tuple[int, int]
"""Offset and size of a block, without its trailer."""


def _read_handle(data: bytes, position: int) -> tuple[Handle, int]:
  offset, position = read_varint(data, position)
  size, position = read_varint(data, position)
  return (offset, size), position


def _block(data: bytes, handle: Handle) -> bytes:
  """The contents of a block, checked."""
  offset, size = handle
  end = offset + size + _TRAILER_SIZE
  if end > len(data) - _FOOTER_SIZE:
    raise ValueError(f"the block at {offset} reaches past the end")
  stored = int.from_bytes(data[end - 4 : end], "little")
  if crc32c.crc32c(data[offset : end - 4]) != crc32c.unmask(stored):
    raise ValueError(f"the block at {offset} has a wrong checksum")
  compression = data[offset + size]
  if compression:
    raise ValueError(f"the block at {offset} is compressed ({_COMPRESSIONS.get(compression, compression)})")
  return data[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
  """Keys and values of a block. The restarts only serve a search and are skipped."""
  num_restarts = int.from_bytes(block[-4:], "little")
  end = len(block) - 4 * (num_restarts + 1)
  if end < 0:
    raise ValueError("a block is shorter than its restarts")
  key = b""
  position = 0
  while position < end:
    shared, position = read_varint(block, position)
    unshared, position = read_varint(block, position)
    size, position = read_varint(block, position)
    if shared > len(key) or position + unshared + size > end:
      raise ValueError("an entry reaches past its block")
    key = key[:shared] + block[position : position + unshared]
    position += unshared
    yield key, block[position : position + size]
    position += size
