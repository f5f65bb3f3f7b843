"""Writes TFRecord files, for tests of what reads them."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vidgen_jax.formats.crc32c import crc32c, mask


def varint(value: int) -> bytes:
  """Seven bits a byte, the lowest first."""
  value, octets = value % 2**64, []
  while value >= 0x80:
    octets.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*octets, value])


def field(number: int, value: bytes) -> bytes:
  """A field of bytes."""
  return varint(number << 3 | 2) + varint(len(value)) + value


def feature(values: Sequence[bytes] | np.ndarray) -> bytes:
  """A `tf.train.Feature` of bytes, or of an array of float32 or int64, packed as TensorFlow packs them."""
  if not isinstance(values, np.ndarray):
    return field(1, b"".join(field(1, value) for value in values))
  if values.dtype == np.float32:
    return field(2, field(1, values.astype("<f4").tobytes()))
  return field(3, field(1, b"".join(varint(int(value)) for value in values)))


def example(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
  """A `tf.train.Example`."""
  entries = (field(1, name.encode()) + field(2, feature(values)) for name, values in features.items())
  return field(1, b"".join(field(1, entry) for entry in entries))


def record(data: bytes) -> bytes:
  """A record with its length and checksums."""
  length = struct.pack("<Q", len(data))
  return b"".join([length, struct.pack("<I", mask(crc32c(length))), data, struct.pack("<I", mask(crc32c(data)))])


def write_tfrecord(path: Path, examples: Sequence[Mapping[str, Sequence[bytes] | np.ndarray]]) -> None:
  """Writes a file of examples."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b"".join(record(example(features)) for features in examples))
