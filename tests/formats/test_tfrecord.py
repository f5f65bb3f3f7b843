"""TFRecords: bytes that TensorFlow wrote, what the writer of the tests writes, and damage."""

import base64
import io

import numpy as np
import pytest

from tests.tfrecords import example, feature, field, record, varint
from vidgen_jax.formats.tfrecord import (
  BytesFeature,
  DamagedRecordError,
  find_features,
  parse_example,
  parse_feature,
  read_records,
)

# tf.io.TFRecordWriter of tf.train.Example with b = [b'ab', b''], f = [1.5, -2], i = [3, -1, 2**40] (TensorFlow 2.21).
BY_TENSORFLOW = (
  "QAAAAAAAAAAoF/SVCj4KGgoBaRIVGhMKEQP///////////8BgICAgIAgCg0KAWISCAoGCgJhYgoAChEKAWYSDBIKCggAAMA/AAAAwDyIHqo="
)


def test_a_file_by_tensorflow():
  (data,) = read_records(io.BytesIO(base64.b64decode(BY_TENSORFLOW)))
  features = parse_example(data)
  assert features["b"] == [b"ab", b""]
  np.testing.assert_array_equal(features["f"], np.array([1.5, -2], np.float32))
  np.testing.assert_array_equal(features["i"], np.array([3, -1, 2**40]))
  assert {name: getattr(value, "dtype", None) for name, value in features.items()} == {
    "b": None,
    "f": np.float32,
    "i": np.int64,
  }


def test_records_follow_each_other_and_may_be_empty():
  payloads = [b"", b"x" * 1000, b"last"]
  assert list(read_records(io.BytesIO(b"".join(map(record, payloads))))) == payloads
  assert list(read_records(io.BytesIO())) == []


def test_values_need_not_be_packed():
  floats = b"".join(varint(1 << 3 | 5) + np.float32(value).tobytes() for value in (1, 2))
  numbers = b"".join(varint(1 << 3) + varint(value) for value in (7, -7))
  entries = [
    field(1, b"f") + field(2, field(2, floats)),
    field(1, b"i") + field(2, field(3, numbers)),
    field(1, b"nothing"),
  ]
  features = parse_example(field(1, b"".join(field(1, entry) for entry in entries)))
  np.testing.assert_array_equal(features["f"], [1, 2])
  np.testing.assert_array_equal(features["i"], [7, -7])
  assert features["nothing"] == []


def test_damage_is_told_after_the_records_before_it():
  whole = record(b"first") + record(b"second")
  start = len(record(b"first"))

  def read(data):
    found = []
    with pytest.raises(DamagedRecordError) as error:
      for payload in read_records(io.BytesIO(data)):
        found.append(payload)
    return found, str(error.value)

  for size in range(start + 1, len(whole)):
    found, message = read(whole[:size])
    assert found == [b"first"]
    assert message.startswith(f"record 1 at byte {start} is cut off in its ")
  for index in range(len(whole)):
    damaged = bytearray(whole)
    damaged[index] ^= 0x10
    found, message = read(bytes(damaged))
    assert len(found) == (index >= start)
    assert "is wrong" in message


@pytest.mark.parametrize("data", [b"\xff" * 12, field(1, b"\x08\x01"), b"\x0a\x05ab", b"\x0b"])
def test_other_bytes_are_no_example(data):
  with pytest.raises(ValueError, match=r"entry|integer|feature"):
    parse_example(data + example({}))


def test_bytes_are_found_without_being_copied():
  # Lengths of one, two and three octets.
  values = [b"", b"a" * 127, b"b" * 128, b"c" * 20_000]
  data = bytearray(example({"frames": values, "n": np.array([5])}))
  features = find_features(memoryview(data))
  found = BytesFeature(features["frames"])
  assert (len(found), list(found), found[-1], found[1:3]) == (4, values, values[3], values[1:3])
  assert parse_feature(features["n"]).tolist() == [5]
  data[data.index(b"aaa")] = ord("z")
  assert found[1] == b"z" + b"a" * 126
  assert len(BytesFeature(feature([]))) == 0
  with pytest.raises(IndexError):
    found[4]


@pytest.mark.parametrize(
  "message",
  [
    b"",
    feature(np.array([1.0], np.float32)),
    field(1, field(2, b"another field")),
    field(1, field(1, b"cut off")[:-1]),
    field(1, varint(1 << 3 | 2) + b"\x80"),
  ],
)
def test_other_bytes_are_no_bytes_feature(message):
  with pytest.raises(ValueError, match=r"a feature (holds no bytes|is too short)"):
    BytesFeature(message)
