"""Protocol buffers by their wire format (protobuf.dev, "Encoding"), for the few messages that are read here."""

from collections.abc import Iterator

from vidgen_jax.formats.varint import read_varint

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def read_fields(message: bytes | memoryview | int) -> Iterator[tuple[int, int | bytes | memoryview]]:
  """Reads a message's fields, in their order.

  Args:
    message: its bytes; a number, which is what a field of another message may hold, is refused.

  Yields:
    The field's number, and its value: an integer, or the bytes of a string, a message or packed numbers. Of a
    memoryview they are views of the same memory: nothing is copied.

  Raises:
    ValueError: if it is no message.
  """
  if isinstance(message, int):
    raise ValueError("an entry is no message")
  position = 0
  while position < len(message):
    tag, position = read_varint(message, position)
    number, wire_type = tag >> 3, tag & 7
    if wire_type == _VARINT:
      value, position = read_varint(message, position)
      yield number, value
      continue
    if wire_type not in (_FIXED_64, _BYTES, _FIXED_32):
      raise ValueError("an entry is no message")
    if wire_type == _BYTES:
      size, position = read_varint(message, position)
    else:
      size = {_FIXED_64: 8, _FIXED_32: 4}[wire_type]
    value = message[position : position + size]
    position += size
    if position > len(message):
      raise ValueError("an entry is too short")
    yield number, value if wire_type == _BYTES else int.from_bytes(value, "little")
