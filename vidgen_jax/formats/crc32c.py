"""CRC-32C (Castagnoli), the checksum of LevelDB tables, TFRecords and TensorFlow checkpoints, at several hundred MB/s.

A message is folded as in Gopal et al. 2009, "Fast CRC computation for generic polynomials using PCLMULQDQ": a CRC is
linear, so a word w that stands n words before a word v may be left out if v becomes v ^ Z(w), where Z appends 4n zero
bytes. Whole rows of words are folded onto the next row at once; the last row is folded onto its second half until a
short one is left. Z is a 32x32 matrix over GF(2), applied through tables.
"""

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # RFC 3720 section 12.1, bits reversed
_MASK_DELTA = 0xA282EAD8  # LevelDB's table format: a CRC of data that holds CRCs would be weak
_ALL_ONES = 0xFFFFFFFF
_SHORT = 1024  # bytes below which the plain loop is faster
_SHORT_ROW = 64  # words, the same for the end of a long message
_LONGEST_ROW = 1 << 14  # words: a row and the tables stay in the second-level cache
_ROWS = 4  # at least as many rows as this, or most of the time would go into the last row


def crc32c(data: bytes | memoryview | np.ndarray, *, value: int = 0) -> int:
  """CRC-32C of bytes (RFC 3720, section 12.1).

  Args:
    data: bytes, or an array, of which the values' bytes in C order count.
    value: the CRC of what stands before `data`; 0 at the start.

  Returns:
    The checksum, in [0, 2**32).
  """
  octets = _octets(data)
  state = value ^ _ALL_ONES
  if octets.size < _SHORT:
    return _advance(state, octets.tobytes()) ^ _ALL_ONES
  width = min(_LONGEST_ROW, 1 << (octets.size // (4 * _ROWS)).bit_length() - 1)
  row = _fold_rows(octets, state, width)
  while row.size > _SHORT_ROW:
    first, second = np.split(row, 2)
    row = _apply(_byte_tables(first.size), first) ^ second
  return _advance(0, row.astype("<u4").tobytes()) ^ _ALL_ONES


def mask(crc: int) -> int:
  """The form in which LevelDB, TFRecords and TensorFlow store a CRC."""
  return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES


def unmask(crc: int) -> int:
  """The inverse of `mask`."""
  rotated = (crc - _MASK_DELTA) & _ALL_ONES
  return ((rotated >> 17) | (rotated << 15)) & _ALL_ONES


def _octets(data: bytes | memoryview | np.ndarray) -> np.ndarray:
  if isinstance(data, np.ndarray):
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
  return np.frombuffer(data, dtype=np.uint8)


def _advance(state: int, data: bytes) -> int:
  """The register after `data`, a byte at a time."""
  table = _table_of_bytes()
  for octet in data:
    state = table[(state ^ octet) & 0xFF] ^ (state >> 8)
  return state


def _fold_rows(octets: np.ndarray, state: int, width: int) -> np.ndarray:
  """A row of `width` words that has the CRC (from register 0) which `octets` has from register `state`."""
  row_size = 4 * width
  head_size = octets.size % row_size
  # The register is added to the first four bytes, so the head must have as many.
  head_size += row_size if head_size < 4 else 0
  padding = -head_size % row_size  # zeros in front do not change register 0
  head = np.concatenate([np.zeros(padding, dtype=np.uint8), octets[:head_size]])
  head[padding : padding + 4] ^= np.frombuffer(state.to_bytes(4, "little"), dtype=np.uint8)
  low, high = _half_word_tables(width)
  row = np.zeros(width, dtype=np.uint32)
  for part in (head, octets[head_size:]):
    for following in part.view("<u4").reshape(-1, width):
      row = low[row & 0xFFFF] ^ high[row >> 16] ^ following
  return row


def _apply(tables: np.ndarray, words: np.ndarray) -> np.ndarray:
  """The operator behind `_byte_tables` for every word."""
  result = tables[0][words & 0xFF]
  for i in range(1, 4):
    result ^= tables[i][(words >> (8 * i)) & 0xFF]
  return result


@functools.cache
def _table_of_bytes() -> list[int]:
  """What a byte turns the register 0 into."""
  table = []
  for octet in range(256):
    for _ in range(8):
      octet = (octet >> 1) ^ (_POLYNOMIAL if octet & 1 else 0)
    table.append(octet)
  return table


@functools.cache
def _zeros_operator(num_words: int) -> np.ndarray:
  """The images of the 32 single bits when 4 * `num_words` zero bytes follow; `num_words` is a power of two."""
  if num_words == 1:
    return np.array([_advance(1 << bit, bytes(4)) for bit in range(32)], dtype=np.uint32)
  half = _zeros_operator(num_words // 2)
  return _apply(_expand(half, 8), half)


@functools.cache
def _byte_tables(num_words: int) -> np.ndarray:
  """uint32[4, 256]: the operator `_zeros_operator` for each value of each of a word's bytes."""
  return _expand(_zeros_operator(num_words), 8)


@functools.cache
def _half_word_tables(num_words: int) -> np.ndarray:
  """uint32[2, 65536]: the same for a word's halves, which needs half as many look-ups and more cache."""
  return _expand(_zeros_operator(num_words), 16)


def _expand(operator: np.ndarray, bits: int) -> np.ndarray:
  """Tables [32 / bits, 2**bits] of a linear operator given by its images of the single bits."""
  tables = np.zeros((32 // bits, 1 << bits), dtype=np.uint32)
  for index, image in enumerate(operator):
    table, bit = tables[index // bits], 1 << index % bits
    table[bit : 2 * bit] = table[:bit] ^ image
  return tables
