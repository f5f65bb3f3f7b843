"""Reading .safetensors files: eight bytes for the size of a header, a JSON header, the values."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import safetensors

from vidgen_jax.errors import UserError

_DTYPES = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": jnp.dtype(jnp.bfloat16),
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "I16": np.dtype(np.int16),
  "I8": np.dtype(np.int8),
  "U64": np.dtype(np.uint64),
  "U32": np.dtype(np.uint32),
  "U16": np.dtype(np.uint16),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}


def is_safetensors_file(data: bytes) -> bool:
  """Whether the bytes of a file look like this format."""
  return len(data) > 8 and data[8:9] == b"{" and _header_size(data) <= len(data) - 8


def parse_safetensors(path: pathlib.Path, data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the tensors and the metadata of a file.

  Args:
    path: for messages.
    data: the file's bytes.

  Returns:
    Arrays by name, and the strings of the header's `__metadata__`.

  Raises:
    UserError: if the file is damaged or has numbers of a kind that NumPy lacks.
  """
  try:
    tensors = dict(safetensors.deserialize(data))
  except (safetensors.SafetensorError, ValueError, OverflowError) as error:
    reason = " ".join(str(error).split())
    raise UserError(f"{path} is no readable safetensors file ({reason}); fetch or write it again") from error
  unknown = [name for name, tensor in tensors.items() if tensor["dtype"] not in _DTYPES]
  if unknown:
    raise UserError(f"{path}: {unknown[0]} is of type {tensors[unknown[0]]['dtype']}; convert it to float32")
  arrays = {
    name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    for name, tensor in tensors.items()
  }
  # The header has been found sound by now.
  header = json.loads(data[8 : 8 + _header_size(data)])
  return arrays, header.get("__metadata__", {})


def _header_size(data: bytes) -> int:
  return int.from_bytes(data[:8], "little")
