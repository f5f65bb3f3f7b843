"""CRC-32C against published answers, a bit-by-bit division, and itself in pieces."""

import time

import numpy as np
import pytest

from vidgen_jax.formats.crc32c import crc32c, mask, unmask

# RFC 3720, appendix B.4: the bytes there are in the order in which they are sent, lowest first.
ISCSI_READ = bytes.fromhex(
  "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)


def divided(data: bytes, value: int = 0) -> int:
  """The remainder of the polynomial division, one bit at a time."""
  register = value ^ 0xFFFFFFFF
  for octet in data:
    register ^= octet
    for _ in range(8):
      register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
  return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (ISCSI_READ, 0xD9963A56),
  ],
)
def test_known_answers(data, expected):
  assert crc32c(data) == divided(data) == expected


# Around the length from which rows are folded, and around whole rows: with 1024 bytes a row has 64 words (256 bytes),
# and a head of 0 to 3 bytes is one row longer.
@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 1027, 1028, 1279, 1280, 4096, 4099, 10_007])
def test_equals_the_division_at_every_kind_of_length(size):
  data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
  assert crc32c(data.tobytes()) == divided(data.tobytes())


@pytest.mark.parametrize("cut", [0, 1, 5, 1500, 262_145, 300_000])
def test_continues_from_a_value(cut):
  data = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8)
  assert crc32c(data[cut:], value=crc32c(data[:cut])) == crc32c(data)


def test_every_flipped_bit_is_noticed():
  data = bytearray(np.random.default_rng(1).integers(0, 256, 2048, dtype=np.uint8))
  whole = crc32c(bytes(data))
  for position in range(0, 2048, 37):
    data[position] ^= 1 << position % 8
    assert crc32c(bytes(data)) != whole
    data[position] ^= 1 << position % 8


def test_arrays_count_by_their_bytes():
  array = np.arange(3000, dtype=np.float32).reshape(30, 100)
  assert crc32c(array) == crc32c(array.tobytes()) == crc32c(memoryview(array.tobytes()))
  assert crc32c(array.T) == crc32c(np.ascontiguousarray(array.T).tobytes())
  assert crc32c(np.float32(1.5).reshape(())) == crc32c(np.float32(1.5).tobytes())
  # A slice of bytes starts at any address.
  octets = np.frombuffer(array.tobytes(), np.uint8)
  assert crc32c(octets[3:9003]) == divided(octets[3:9003].tobytes())


def test_masking():
  # As in LevelDB's own test: masking changes a value, twice changes it again, and is undone.
  crc = crc32c(b"foo")
  assert crc != mask(crc) != mask(mask(crc))
  assert unmask(mask(crc)) == crc == unmask(unmask(mask(mask(crc))))
  # By hand: 0x8001 turned right by 15 bits is 0x00020001: its highest bit ends up lowest, its lowest one is bit 17.
  # 0x00020001 + 0xa282ead8 = 0xa284ead9.
  assert mask(0x8001) == 0xA284EAD9
  # The sum goes past 32 bits: 0xffffffff turns into itself, and 0xffffffff + 0xa282ead8 = 0xa282ead7.
  assert mask(0xFFFFFFFF) == 0xA282EAD7


def test_is_fast_enough_for_checkpoints():
  data = np.zeros(50_000_000, dtype=np.uint8)
  crc32c(data[:1_000_000])
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    crc32c(data)
    seconds.append(time.perf_counter() - start)
  # 500 MB/s on one core; a machine that does other things still does a tenth of it. A loop over bytes does 10 MB/s.
  assert min(seconds) < 1.0
