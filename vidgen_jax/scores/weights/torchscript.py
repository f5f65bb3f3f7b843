"""Tensors of a TorchScript archive, without PyTorch and without running the program that the archive contains.

An archive is a zip file: `data.pkl` holds the module tree, `data/N` the values, `code/` the program, which is not read.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from vidgen_jax.errors import UserError

_DTYPES: Mapping[str, Any] = {
  "DoubleStorage": np.float64,
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "BFloat16Storage": ml_dtypes.bfloat16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}

_MAX_MODULES = 100_000  # A module may be part of several others, so that few bytes can describe any number of paths.


def is_torchscript(members: list[str]) -> bool:
  """Whether a zip file with these members is a TorchScript archive; files of `torch.save` have no constants."""
  return any(name.endswith("/constants.pkl") for name in members)


def read_torchscript(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  """The parameters, buffers and other tensors of an archive by dotted name, in the order of the modules' definitions.

  Raises:
    UserError: if the archive has no named tensors, because it was frozen.
    pickle.UnpicklingError: if it contains anything but modules, tensors and plain values.
  """
  root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
  module = _Unpickler(archive, root).load()
  arrays: dict[str, np.ndarray] = {}
  _collect(module, arrays)
  if not arrays:
    raise UserError(
      f"{archive.filename}: the tensors of this TorchScript archive have no names, probably because it was frozen "
      "(torch.jit.freeze); give the archive or the state dict from before freezing"
    )
  return arrays


def _collect(root: Any, arrays: dict[str, np.ndarray]) -> None:
  """Adds all arrays below a module, depth first."""
  remaining = [("", root)]
  for _ in range(_MAX_MODULES):
    if not remaining:
      return
    name, value = remaining.pop()
    state = getattr(value, "state", None)
    if isinstance(value, np.ndarray):
      arrays[name] = value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value
    elif isinstance(state, dict):
      remaining += [(f"{name}.{key}" if name else f"{key}", below) for key, below in reversed(state.items())]
  raise pickle.UnpicklingError(f"more than {_MAX_MODULES} modules and tensors")


class _Module:
  """Any class of the archive's program: its attributes, without its methods."""

  def __setstate__(self, state: Any) -> None:
    self.state = state


class _Unpickler(pickle.Unpickler):
  """Builds modules and arrays only; every other function or class of the pickle is an error."""

  def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
    data = archive.read(f"{root}data.pkl")
    # The memory for remembered objects is proportional to the largest index, which may be any number.
    for code, argument, _ in pickletools.genops(data):
      if code.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(data):
        raise pickle.UnpicklingError(f"object number {argument} in {len(data)} bytes")
    super().__init__(io.BytesIO(data))
    self._archive, self._root = archive, root
    self._storages: dict[str, np.ndarray] = {}

  def find_class(self, module: str, name: str) -> Any:
    if module.split(".")[0] == "__torch__":
      return _Module
    if module == "torch" and name in _DTYPES:
      return np.dtype(_DTYPES[name])
    if module == "torch.jit._pickle":  # lists and dictionaries with their element types
      return lambda value, *_: value
    # New functions for each file, because a pickle can set their attributes.
    functions: dict[tuple[str, str], Callable] = {
      ("collections", "OrderedDict"): dict,
      ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _rebuild_tensor(*args),
      ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
      ("torch", "device"): lambda *_: None,
    }
    if (module, name) not in functions:
      raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not a tensor or a module")
    return functions[module, name]

  def persistent_load(self, pid: Any) -> np.ndarray:
    _, dtype, key, *_ = pid
    if key not in self._storages:
      data = self._archive.read(f"{self._root}data/{key}")
      self._storages[key] = np.frombuffer(data, dtype.newbyteorder("<"))
    return self._storages[key]


def _rebuild_tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
  last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
  if math.prod(size) == 0:
    return np.zeros(size, storage.dtype)
  # `as_strided` does not check that a view stays within the memory of its array.
  if min((offset, *size, *stride)) < 0 or last >= len(storage) or math.prod(size) > len(storage):
    raise pickle.UnpicklingError("a tensor is larger than its values")
  steps = [step * storage.itemsize for step in stride]
  return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
