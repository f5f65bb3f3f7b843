"""Base-128 integers of protocol buffers and LevelDB: seven bits a byte, the lowest first."""

_LONGEST = 10  # bytes: 64 bits


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
  """Reads one unsigned integer.

  Args:
    data: where to read.
    position: index of its first byte.

  Returns:
    The integer, below 2**64, and the index of the byte behind it.

  Raises:
    ValueError: if it does not end in time.
  """
  value = 0
  for index, octet in enumerate(data[position : position + _LONGEST]):
    value |= (octet & 0x7F) << (7 * index)
    if octet < 0x80:
      return value & (2**64 - 1), position + index + 1
  raise ValueError("an integer does not end")
