"""What a pickle of PyTorch may name, and the tensors that it builds: views of storages that are read when asked for."""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from vidgen_jax.scores.weights.pickled import ForeignNameError, PickleContentError, PlainObject

_MOST_AXES = 64  # of NumPy

STORAGE_DTYPES = {
  "torch.DoubleStorage": np.dtype(np.float64),
  "torch.FloatStorage": np.dtype(np.float32),
  "torch.HalfStorage": np.dtype(np.float16),
  "torch.BFloat16Storage": jnp.dtype(jnp.bfloat16),
  "torch.LongStorage": np.dtype(np.int64),
  "torch.IntStorage": np.dtype(np.int32),
  "torch.ShortStorage": np.dtype(np.int16),
  "torch.CharStorage": np.dtype(np.int8),
  "torch.ByteStorage": np.dtype(np.uint8),
  "torch.BoolStorage": np.dtype(np.bool_),
  "torch.ComplexFloatStorage": np.dtype(np.complex64),
  "torch.ComplexDoubleStorage": np.dtype(np.complex128),
  "torch.storage.UntypedStorage": np.dtype(np.uint8),
}
"""The dtype of each class of storages."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Storage:
  """A block of values of one dtype.

  Attributes:
    dtype: of the values.
    num_values: how many.
    load: gives their bytes; called once, when a tensor is asked for.
    big_endian: whether the bytes' order is that of a big-endian machine.
  """

  dtype: np.dtype
  num_values: int
  load: Callable[[], memoryview]
  big_endian: bool = False

  @functools.cached_property
  def values(self) -> np.ndarray:
    """The values, one-dimensional."""
    data = self.load()
    if len(data) != self.num_values * self.dtype.itemsize:
      raise PickleContentError("a storage has not the size that it is said to have")
    if not self.big_endian:
      return np.frombuffer(data, dtype=self.dtype)
    width = self.dtype.itemsize // (2 if self.dtype.kind == "c" else 1)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, width)[:, ::-1].reshape(-1).view(self.dtype)

  def part(self, start: int, num_values: int) -> "Storage":
    """The `num_values` values from `start` on, which old files treat as a storage of its own."""
    first, last = start * self.dtype.itemsize, (start + num_values) * self.dtype.itemsize
    return dataclasses.replace(self, num_values=num_values, load=lambda: self.load()[first:last])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
  """A strided view of a storage.

  Attributes:
    storage: where its values are.
    offset: of its first value.
    shape: of the tensor.
    strides: values between neighbours along each axis.
  """

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def to_array(self) -> np.ndarray:
    """A read-only view of the storage's values.

    Raises:
      PickleContentError: if the tensor reaches past its storage, or has more values than that.
    """
    values = self.storage.values
    count = math.prod(self.shape)
    if not count:
      return np.zeros(self.shape, self.storage.dtype)
    last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
    if last >= values.size or count > values.size:
      raise PickleContentError("a tensor reaches past its storage")
    strides = [stride * values.itemsize for stride in self.strides]
    return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)


def find_name(name: str) -> Any:
  """What stands for a name in a pickle of PyTorch; see `vidgen_jax.scores.weights.pickled.load_pickle`.

  Args:
    name: dotted.

  Raises:
    ForeignNameError: if it has nothing to do with tensors.
  """
  if name in STORAGE_DTYPES:
    return STORAGE_DTYPES[name]
  if name in _FUNCTIONS:
    return _FUNCTIONS[name]
  # The classes of a TorchScript archive, whose code is beside the pickle and stays there.
  if name.startswith("__torch__."):
    return PlainObject
  raise ForeignNameError(name)


def checked_size(value: Any) -> int:
  """`value` if it can be a number of values or an offset.

  Args:
    value: whatever the file holds in that place.

  Raises:
    PickleContentError: if it is something else.
  """
  if type(value) is not int or not 0 <= value < 2**63:
    raise PickleContentError("it is damaged (a size is none)")
  return value


def _ordered_dict(items: Any = ()) -> collections.OrderedDict[str, Any]:
  """Python 2 hands over the items as a list of lists."""
  pairs = [(name, value) for name, value in items]
  if any(not isinstance(name, str) for name, _ in pairs):
    raise PickleContentError("a key is no string")
  return collections.OrderedDict(pairs)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
  """The other arguments are whether it has a gradient, its hooks and its metadata."""
  if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple:
    raise PickleContentError("it is damaged (a tensor is none)")
  shape, strides = tuple(map(checked_size, shape)), tuple(map(checked_size, strides))
  if len(shape) != len(strides) or len(shape) > _MOST_AXES or math.prod(n for n in shape if n) >= 2**40:
    raise PickleContentError("it is damaged (a tensor has no possible shape)")
  return Tensor(storage=storage, offset=checked_size(offset), shape=shape, strides=strides)


def _first(value: Any, *_: Any) -> Any:
  return value


def _nothing(*_: Any) -> None:
  """A device: where a tensor was does not matter."""


_FUNCTIONS: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": _ordered_dict,
  "torch._utils._rebuild_tensor": _rebuild_tensor,
  "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
  "torch._utils._rebuild_parameter": _first,
  "torch.Size": _first,
  "torch.device": _nothing,
  "torch.jit._pickle.build_intlist": _first,
  "torch.jit._pickle.build_doublelist": _first,
  "torch.jit._pickle.build_boollist": _first,
  "torch.jit._pickle.build_tensorlist": _first,
  "torch.jit._pickle.restore_type_tag": _first,
}
