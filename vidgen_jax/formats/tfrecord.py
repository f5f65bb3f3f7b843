"""TFRecord files and the `tf.train.Example`s in them, read without TensorFlow.

A record is its length (uint64, little endian), the masked CRC-32C of the length, the data, and the masked CRC-32C of
the data (tensorflow.org, "TFRecord and tf.train.Example").
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from vidgen_jax.formats.crc32c import crc32c, mask
from vidgen_jax.formats.protobuf import read_fields
from vidgen_jax.formats.varint import read_varint

_LONGEST = 1 << 31
"""Bytes: the size that a protocol buffer stays below."""

Feature = list[bytes] | np.ndarray
"""Values of a feature: bytes, or float32 or int64 [N]."""


class DamagedRecordError(ValueError):
  """A file that is not made of whole records; the message says where."""


def read_records(file: BinaryIO) -> Iterator[bytes]:
  """Reads the records of a file, checking each.

  Args:
    file: opened for reading bytes, at the start of a record.

  Yields:
    The data of each record.

  Raises:
    DamagedRecordError: where a record is cut off, or a checksum is wrong; those before have been given.
  """
  number, offset = 0, 0

  def checked(size: int, what: str) -> bytes:
    data = file.read(size + 4)
    if len(data) < size + 4:
      raise DamagedRecordError(f"record {number} at byte {offset} is cut off in its {what}")
    if struct.unpack("<I", data[size:])[0] != mask(crc32c(data[:size])):
      raise DamagedRecordError(f"record {number} at byte {offset}: the checksum of its {what} is wrong")
    return data[:size]

  while (first := file.read(1)) != b"":
    rest = file.read(11)
    if len(rest) < 11:
      raise DamagedRecordError(f"record {number} at byte {offset} is cut off in its length")
    head = first + rest
    (length,) = struct.unpack("<Q", head[:8])
    if struct.unpack("<I", head[8:])[0] != mask(crc32c(head[:8])) or length >= _LONGEST:
      raise DamagedRecordError(f"record {number} at byte {offset}: the checksum of its length is wrong")
    yield checked(length, "data")
    number, offset = number + 1, offset + length + 16


def parse_example(record: bytes) -> dict[str, Feature]:
  """Reads a `tf.train.Example`.

  Args:
    record: its bytes.

  Returns:
    The features by name.

  Raises:
    ValueError: if it is no such message.
  """
  # Example.features (1) is a map: entries (1) of a name (1) and a feature (2).
  features: dict[str, Feature] = {}
  for _, feature_map in _of(record, 1):
    for _, entry in _of(feature_map, 1):
      fields = dict(read_fields(entry))
      name = fields.get(1, b"")
      if not isinstance(name, bytes):
        raise ValueError("a feature has no name")
      features[name.decode()] = _feature(fields.get(2, b""))
  return features


def _feature(message: bytes | int) -> Feature:
  """bytes_list (1), float_list (2) or int64_list (3), whose values (1) are packed or not; none of them is no bytes."""
  for kind, values in read_fields(message):
    if kind == 1:
      return [value for _, value in _of(values, 1)]
    if kind == 2:
      parts = [value if isinstance(value, bytes) else struct.pack("<I", value) for _, value in _of(values, 1)]
      return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)
    if kind == 3:
      numbers = [n for _, value in _of(values, 1) for n in (_unpacked(value) if isinstance(value, bytes) else [value])]
      return np.array(numbers, np.uint64).astype(np.int64)
  return []


def _of(message: bytes | int, number: int) -> Iterator[tuple[int, int | bytes]]:
  return (field for field in read_fields(message) if field[0] == number)


def _unpacked(data: bytes) -> Iterator[int]:
  position = 0
  while position < len(data):
    value, position = read_varint(data, position)
    yield value
