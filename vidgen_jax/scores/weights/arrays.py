"""Named arrays from the weight files of other frameworks. The format is detected by content, not by file name."""

import dataclasses
import hashlib
import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import safetensors
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.torchscript import is_torchscript, read_torchscript

_READABLE = (
  "a TensorFlow checkpoint (its prefix, .index file or folder), a PyTorch file (state dict or TorchScript), "
  "a Chainer .npz or a .safetensors"
)
_DATA_SUFFIX = re.compile(r"\.data-\d{5}-of-\d{5}$")
_CHUNK = 1 << 20  # bytes
_MAX_EXPANSION, _ALWAYS_READ = 100, 1 << 28  # Weights hardly compress; archives up to that many bytes are read anyway.
_LEGACY_PYTORCH_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # before torch 1.6, files were no zip archives
# Training programs save the state dict under one of these keys, next to counters and the optimizer's state.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."  # of torch.nn.DataParallel


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SourceArrays:
  """The arrays of one weight file.

  Attributes:
    arrays: arrays by their names in the file; possibly read-only.
    format: 'tf checkpoint', 'pytorch', 'torchscript', 'chainer npz' or 'safetensors'.
    path: the file; for a checkpoint, its .index file.
    sha256: hash of the file's bytes, in hex; for a checkpoint, of the index followed by the data files in order.
    git_blob_sha1: Git's hash of the file, in hex; for a checkpoint, of its data file, and '' if it has several.
  """

  arrays: dict[str, np.ndarray]
  format: str
  path: Path
  sha256: str
  git_blob_sha1: str = ""


def read_arrays(path: str | os.PathLike[str]) -> SourceArrays:
  """Reads a TensorFlow checkpoint, a PyTorch file, a Chainer .npz or a .safetensors file. No code of a file runs.

  Raises:
    UserError: if the file is missing, damaged or of another format, or its library is not installed.
  """
  path = Path(path).expanduser()
  try:
    if (checkpoint := _find_checkpoint(path)) is not None:
      return _read_checkpoint(*checkpoint)
    if not path.is_file():
      reason = "is a folder without a checkpoint" if path.is_dir() else "does not exist"
      raise UserError(f"{path} {reason}; give {_READABLE}; `vidgen weights list` says what is published where")
    kind, arrays = _read_file(path)
    sha256, blob = file_hashes(path)
  except UserError:
    raise
  except ModuleNotFoundError as error:
    raise UserError(f"{path} needs {error.name}: pip install 'vidgen-jax[convert]'") from error
  except Exception as error:  # Damaged files raise almost any exception.
    if name := re.search(r"GLOBAL (\S+)", str(error)):
      raise UserError(
        f"{path} holds more than tensors ({name[1]}) and is not loaded because that could run code; load it with the "
        "program that wrote it and save model.state_dict() instead"
      ) from error
    reason = " ".join(str(error).split())[:200]
    raise UserError(f"{path} cannot be read ({reason}); check the path, or download or save it again") from error
  return SourceArrays(arrays=arrays, format=kind, path=path, sha256=sha256, git_blob_sha1=blob)


def join_arrays(first: SourceArrays, second: SourceArrays) -> SourceArrays:
  """The arrays of two files, such as a network and its heads; UserError if both have one of the same name."""
  if twice := sorted(set(first.arrays) & set(second.arrays)):
    raise UserError(f"{first.path} and {second.path} both hold {twice[0]}; give the network and its heads")
  sha256 = f"{first.sha256} {second.sha256}"
  return dataclasses.replace(first, arrays=first.arrays | second.arrays, sha256=sha256, git_blob_sha1="")


def file_hashes(path: Path) -> tuple[str, str]:
  """The SHA-256 of a file and the hash under which Git stores it, in hex."""
  sha256 = hashlib.sha256()
  blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      sha256.update(chunk)
      blob.update(chunk)
  return sha256.hexdigest(), blob.hexdigest()


def _find_checkpoint(path: Path) -> tuple[Path, list[Path]] | None:
  """The .index file and the sorted data files of a checkpoint, by any of their names, their prefix or their folder."""
  if path.is_dir():
    found = sorted([*path.glob("*.index"), *path.glob("variables/*.index")])
    if len(found) > 1:
      raise UserError(f"{path} holds several checkpoints ({', '.join(p.name for p in found)}); name one of them")
    return _find_checkpoint(found[0]) if found else None
  prefix = _DATA_SUFFIX.sub("", path.name.removesuffix(".index"))
  if path.name == prefix and path.exists():
    return None  # a file of another format whose name happens to be the prefix
  index = path.with_name(f"{prefix}.index")
  shards = sorted(p for p in path.parent.glob("*.data-*") if _DATA_SUFFIX.sub("", p.name) == prefix)
  if index.is_file() != bool(shards):
    raise UserError(f"{path} needs {index.name} and {prefix}.data-00000-of-00001 in one folder; copy both there")
  return (index, shards) if shards else None


def _read_checkpoint(index: Path, shards: list[Path]) -> SourceArrays:
  """All numeric tensors; TensorFlow verifies their checksums."""
  import tensorflow as tf

  reader = tf.train.load_checkpoint(str(index.with_suffix("")))
  dtypes = reader.get_variable_to_dtype_map()
  arrays = {name: np.asarray(reader.get_tensor(name)) for name in sorted(dtypes) if dtypes[name] != tf.string}
  sha256 = hashlib.sha256(b"".join(part.read_bytes() for part in (index, *shards))).hexdigest()
  blob = file_hashes(shards[0])[1] if len(shards) == 1 else ""
  return SourceArrays(arrays=arrays, format="tf checkpoint", path=index, sha256=sha256, git_blob_sha1=blob)


def _read_file(path: Path) -> tuple[str, dict[str, np.ndarray]]:
  members = []
  with path.open("rb") as file:
    head = file.read(32)
  if head.startswith(b"PK\x03\x04"):
    with zipfile.ZipFile(path) as archive:
      unpacked = sum(member.file_size for member in archive.infolist())
      if unpacked > max(_MAX_EXPANSION * path.stat().st_size, _ALWAYS_READ):
        raise zipfile.BadZipFile(f"{path.stat().st_size:,} bytes that unpack to {unpacked:,} are no weights")
      # PyTorch does not verify checksums itself.
      if damaged := archive.testzip():
        raise zipfile.BadZipFile(f"{damaged} has a wrong checksum")
      members = archive.namelist()
      if is_torchscript(members):
        return "torchscript", read_torchscript(archive)
  if any(name.endswith("/data.pkl") for name in members) or _LEGACY_PYTORCH_MAGIC in head:
    return "pytorch", _read_pytorch(path)
  if any(name.endswith(".npy") for name in members):
    with np.load(path, allow_pickle=False) as npz:
      arrays = {name: npz[name] for name in npz.files}
    # Members that are not .npy files are returned as bytes.
    return "chainer npz", {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
  # A safetensors file starts with eight bytes for the size of its JSON header.
  if head[8:9] == b"{":
    return "safetensors", read_safetensors(path)[0]
  pickled = ", and a plain pickle is not read because it could run code" if head.startswith(b"\x80") else ""
  raise UserError(f"{path} has an unknown format{pickled}; give {_READABLE}")


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the tensors and the metadata of any .safetensors file.

  Raises:
    UserError: if the file cannot be read, is damaged, or has a dtype that NumPy lacks.
  """
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
  except Exception as error:  # Dtypes that NumPy lacks raise TypeError, AttributeError and others.
    reason = " ".join(str(error).split())
    raise UserError(f"{path} is not a readable safetensors file ({reason}); download or make it again") from error


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
  """The tensors of a file of `torch.save`, by dotted name."""
  import torch

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the storages of old files are deprecated
    tree = torch.load(path, map_location="cpu", weights_only=True)
  tensors = {}
  if isinstance(tree, dict):
    tree = next((tree[key] for key in _STATE_DICT_KEYS if isinstance(tree.get(key), dict)), tree)
    for names, tensor in traverse_util.flatten_dict(tree).items():
      if isinstance(tensor, torch.Tensor) and all(isinstance(name, str) for name in names):
        # NumPy has no bfloat16.
        tensors[".".join(names)] = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
  if not tensors:
    raise UserError(f"{path} holds no named tensors; save model.state_dict() instead")
  prefix = _PARALLEL_PREFIX if all(name.startswith(_PARALLEL_PREFIX) for name in tensors) else ""
  return {name.removeprefix(prefix): tensor.detach().numpy() for name, tensor in tensors.items()}
