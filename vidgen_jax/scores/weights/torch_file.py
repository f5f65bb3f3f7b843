"""PyTorch files without PyTorch, and without executing anything in them.

Three forms are read. Since torch 1.6 a file is a zip archive: NAME/data.pkl is a pickle of the object in which each
storage is a persistent id, NAME/data/KEY are the storages' bytes, stored and not compressed. Before, it was a sequence
of pickles (magic number, protocol, system, object, keys), followed by the number of values and the bytes of each
storage. A TorchScript archive is a zip archive whose object is a module, of which the attributes are read.
"""

import functools
import io
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.pickled import ForeignNameError, PickleContentError, PlainObject, load_pickle
from vidgen_jax.scores.weights.torch_tensors import Storage, Tensor, checked_size, find_name

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER_SIZE = 30  # of a zip entry, before its name and its extra field

# Under these keys training programs keep the state dict among counters and optimizer state.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."  # of torch.nn.DataParallel
_DEEPEST = 32
_MOST_ITEMS = 100_000


def is_torch_file(data: bytes) -> bool:
  """Whether the bytes of a file look like one of the three forms."""
  if data.startswith(b"PK"):
    return _archive_root(data) is not None
  return data.startswith(b"\x80") and _LEGACY_MAGIC in data[:32]


def read_torch_file(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the tensors of a file made by `torch.save` or `torch.jit.save`.

  A state dict below 'state_dict', 'model_state_dict' or 'model' is entered, nested dictionaries and the modules of
  TorchScript are flattened with dots, and a prefix 'module.' of all names is dropped. Other values are left out.

  Args:
    path: the file.

  Returns:
    Arrays by name: read-only views of the file's contents, strided as the tensors were.

  Raises:
    UserError: if the file is damaged, is none of PyTorch's, names anything but tensors, or holds no named tensor.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error
  if not is_torch_file(data):
    raise UserError(f"{path} is no PyTorch file, or only a part of one; fetch it again or name another file")
  try:
    tree = _read_archive(data) if data.startswith(b"PK") else _read_legacy(data)
    arrays = {name: tensor.to_array() for name, tensor in _named_tensors(tree).items()}
  except ForeignNameError as error:
    raise UserError(f"{path} holds more than tensors ({error}); save model.state_dict() instead") from error
  except PickleContentError as error:
    raise UserError(f"{path} cannot be read: {error}; fetch it again or save model.state_dict() again") from error
  if not arrays:
    raise UserError(f"{path} holds no named tensors; save model.state_dict() instead")
  return arrays


def _archive_root(data: bytes) -> str | None:
  """NAME of an archive that holds NAME/data.pkl."""
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      names = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
  except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
    return None
  return names[0].removesuffix("/data.pkl") if names else None


def _read_archive(data: bytes) -> Any:
  """The object of a zip archive."""
  root = _archive_root(data)
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    entries = {info.filename.removeprefix(f"{root}/"): info for info in archive.infolist()}
  big_endian = "byteorder" in entries and _entry(data, entries["byteorder"]) == b"big"
  storages: dict[str, Storage] = {}

  def find_persistent(identity: Any) -> Storage:
    dtype, key, num_values, _ = _storage_identity(identity)
    if key not in storages:
      if f"data/{key}" not in entries:
        raise PickleContentError("the values of a tensor are missing")
      load = functools.partial(_entry, data, entries[f"data/{key}"])
      storages[key] = Storage(dtype=dtype, num_values=num_values, load=load, big_endian=big_endian)
    return _same_storage(storages[key], dtype, num_values)

  pickle = io.BytesIO(_entry(data, entries["data.pkl"]))
  return load_pickle(pickle, find_name=find_name, find_persistent=find_persistent)


def _entry(data: bytes, info: zipfile.ZipInfo) -> memoryview:
  """The contents of an archive's entry, in place."""
  if info.compress_type != zipfile.ZIP_STORED:
    raise PickleContentError("its tensors are compressed, which PyTorch does not do")
  header = data[info.header_offset : info.header_offset + _LOCAL_HEADER_SIZE]
  skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
  start = info.header_offset + _LOCAL_HEADER_SIZE + skipped
  contents = memoryview(data)[start : start + info.file_size]
  if len(contents) != info.file_size or zlib.crc32(contents) != info.CRC:
    raise PickleContentError("an entry of the archive has a wrong checksum")
  return contents


def _read_legacy(data: bytes) -> Any:
  """The object of a file from before torch 1.6."""
  file = io.BytesIO(data)
  contents: dict[str, memoryview] = {}
  storages: dict[str, Storage] = {}
  header = [load_pickle(file, find_name=find_name, find_persistent=_no_persistent) for _ in range(3)]
  if header[1] != _LEGACY_PROTOCOL or not isinstance(header[2], dict):
    raise PickleContentError("it is of an unknown version")
  big_endian = header[2].get("little_endian") is False

  def find_persistent(identity: Any) -> Storage:
    dtype, key, num_values, view = _storage_identity(identity)
    if key not in storages:
      load = functools.partial(contents.__getitem__, key)
      storages[key] = Storage(dtype=dtype, num_values=num_values, load=load, big_endian=big_endian)
    storage = _same_storage(storages[key], dtype, num_values)
    if view is None:
      return storage
    _, start, size = view
    return storage.part(checked_size(start), checked_size(size))

  tree = load_pickle(file, find_name=find_name, find_persistent=find_persistent)
  keys = load_pickle(file, find_name=find_name, find_persistent=_no_persistent)
  _read_legacy_contents(memoryview(data), file.tell(), keys, storages, contents)
  return tree


def _read_legacy_contents(
  data: memoryview, position: int, keys: Any, storages: dict[str, Storage], contents: dict[str, memoryview]
) -> None:
  """Fills `contents`: the number of values and the bytes of each storage, in the order of `keys`."""
  if type(keys) is not list or set(storages) - {key for key in keys if isinstance(key, str)}:
    raise PickleContentError("the values of a tensor are missing")
  for key in keys:
    if not isinstance(key, str) or key not in storages:
      raise PickleContentError("it holds values of no tensor")
    num_values = int.from_bytes(data[position : position + 8], "little")
    size = num_values * storages[key].dtype.itemsize
    position += 8
    contents[key] = data[position : position + size]
    position += size
    if num_values != storages[key].num_values or position > len(data):
      raise PickleContentError("it is cut off")


def _no_persistent(_: Any) -> Any:
  raise PickleContentError("it is damaged (a tensor is in the wrong place)")


def _storage_identity(identity: Any) -> tuple[np.dtype, str, int, tuple[Any, Any, Any] | None]:
  """Dtype, key, number of values and view of a storage: ('storage', class, key, device, number[, view])."""
  if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
    raise PickleContentError("it is damaged (a storage is none)")
  _, dtype, key, _, num_values, *view = identity
  view = view[0] if view else None
  is_view = view is None or (type(view) is tuple and len(view) == 3)
  if not isinstance(dtype, np.dtype) or not isinstance(key, str) or not is_view:
    raise PickleContentError("it is damaged (a storage is none)")
  return dtype, key, checked_size(num_values), view


def _same_storage(storage: Storage, dtype: np.dtype, num_values: int) -> Storage:
  if (storage.dtype, storage.num_values) != (dtype, num_values):
    raise PickleContentError("a storage is of two kinds")
  return storage


def _named_tensors(tree: Any) -> dict[str, Tensor]:
  """The tensors of nested dictionaries, by dotted name."""
  if isinstance(tree, dict) and not isinstance(tree, PlainObject):
    tree = next((tree[key] for key in _WRAPPERS if isinstance(tree.get(key), dict)), tree)
  found: dict[str, Tensor] = {}
  num_items = 0
  waiting = [((), tree)] if isinstance(tree, dict) else []
  while waiting:
    path, node = waiting.pop(0)
    num_items += len(node)
    if len(path) > _DEEPEST or num_items > _MOST_ITEMS:
      raise PickleContentError("its dictionaries are nested without end")
    for name, value in node.items():
      if isinstance(value, Tensor) and isinstance(name, str):
        found[".".join([*path, name])] = value
      elif isinstance(value, dict) and isinstance(name, str):
        waiting.append(((*path, name), value))
  if all(name.startswith(_PARALLEL_PREFIX) for name in found):
    return {name.removeprefix(_PARALLEL_PREFIX): tensor for name, tensor in found.items()}
  return found
