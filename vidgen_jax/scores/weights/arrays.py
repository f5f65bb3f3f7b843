"""Named arrays from the weight files of other frameworks. The format is detected by content, not by file name."""

import dataclasses
import hashlib
import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.from_pytorch import read_pytorch_file
from vidgen_jax.scores.weights.from_tensorflow import CheckpointFiles, find_checkpoint, read_checkpoint
from vidgen_jax.scores.weights.weight_file import read_safetensors

_READABLE = (
  "a TensorFlow checkpoint (its prefix, .index file or folder), a PyTorch file (state dict or TorchScript), "
  "a Chainer .npz or a .safetensors"
)
_LEGACY_PYTORCH_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # before torch 1.6, files were no zip archives
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, OSError)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SourceArrays:
  """The arrays of one weight file.

  Attributes:
    arrays: arrays by their names in the file; possibly read-only.
    format: 'tf checkpoint', 'pytorch', 'chainer npz' or 'safetensors'.
    path: the file; for a checkpoint, its .index file.
    sha256: hash of the file's bytes, in hex; for a checkpoint, of the index followed by the data files in order.
    git_blob_sha1: Git's hash of the data file of a checkpoint with one data file, in hex; otherwise empty.
  """

  arrays: dict[str, np.ndarray]
  format: str
  path: Path
  sha256: str
  git_blob_sha1: str = ""


def read_arrays(path: str | os.PathLike[str], *, allow_code: bool = False) -> SourceArrays:
  """Reads a TensorFlow checkpoint, a PyTorch file, a Chainer .npz or a .safetensors file.

  TorchScript archives can run code and are loaded with `allow_code` only; the other formats run none.

  Raises:
    UserError: if the file is missing, damaged or of another format, or its library is not installed.
  """
  path = Path(path).expanduser()
  try:
    files = find_checkpoint(path)
    if files is not None:
      return _read_checkpoint(files)
    if not path.is_file():
      reason = "is a folder without a checkpoint" if path.is_dir() else "does not exist"
      raise UserError(f"{path} {reason}; give {_READABLE}")
    data = path.read_bytes()
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error
  kind, arrays = _read_file(path, data, allow_code=allow_code)
  return SourceArrays(arrays=arrays, format=kind, path=path, sha256=hashlib.sha256(data).hexdigest())


def _read_checkpoint(files: CheckpointFiles) -> SourceArrays:
  sha256, git_blob = hashlib.sha256(files.index.read_bytes()), ""
  for shard in files.shards:
    data = shard.read_bytes()
    sha256.update(data)
    if len(files.shards) == 1:
      git_blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
  return SourceArrays(
    arrays=read_checkpoint(files),
    format="tf checkpoint",
    path=files.index,
    sha256=sha256.hexdigest(),
    git_blob_sha1=git_blob,
  )


def _read_file(path: Path, data: bytes, *, allow_code: bool) -> tuple[str, dict[str, np.ndarray]]:
  members = _zip_members(path, data)
  if any(name.endswith("/data.pkl") for name in members) or _LEGACY_PYTORCH_MAGIC in data[:32]:
    is_script = any(name.endswith("/constants.pkl") for name in members)
    return "pytorch", read_pytorch_file(path, is_script=is_script, allow_code=allow_code)
  if any(name.endswith(".npy") for name in members):
    return "chainer npz", _read_npz(path)
  # A safetensors file starts with eight bytes for the size of its JSON header.
  if data[8:9] == b"{":
    return "safetensors", read_safetensors(path)[0]
  pickled = ", and a plain pickle is not read because it could run code" if data.startswith(b"\x80") else ""
  raise UserError(f"{path} has an unknown format{pickled}; give {_READABLE}")


def _zip_members(path: Path, data: bytes) -> list[str]:
  """Names of the members of a zip archive whose checksums are right; [] for any other file."""
  try:
    archive = zipfile.ZipFile(io.BytesIO(data))
  except _ZIP_ERRORS:
    return []
  try:
    # PyTorch does not verify checksums itself.
    if damaged := archive.testzip():
      raise zipfile.BadZipFile(f"{damaged} has a wrong checksum")
  except _ZIP_ERRORS as error:
    raise _damaged(path, error) from error
  return archive.namelist()


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      members = {name: archive[name] for name in archive.files}
  except (*_ZIP_ERRORS, MemoryError) as error:
    raise _damaged(path, error) from error
  # Members that are not .npy files are returned as bytes.
  return {name: array for name, array in members.items() if isinstance(array, np.ndarray)}


def _damaged(path: Path, error: BaseException) -> UserError:
  return UserError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); download or save the file again")
