"""Named arrays from files of other frameworks, whatever the files are called."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights import leveldb_table, npz_file, safetensors_file, tf_checkpoint, torch_file

READABLE = (
  "a TensorFlow checkpoint (its prefix, .index file or folder), a PyTorch file (state dict or TorchScript), "
  "a Chainer .npz or a .safetensors"
)
"""What can be read, in words for messages."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SourceArrays:
  """The arrays of a file and what it is.

  Attributes:
    arrays: by the names that the file gives them; they may be read-only.
    format: 'tf checkpoint', 'pytorch', 'chainer npz' or 'safetensors'.
    path: the file; of a checkpoint, the .index file.
    sha256: of the file's bytes, in hex; of a checkpoint, of the index and then the data files in their order.
    git_blob_sha1: of a checkpoint with one data file, that file's hash as git counts it, in hex; otherwise empty.
  """

  arrays: dict[str, np.ndarray]
  format: str
  path: pathlib.Path
  sha256: str
  git_blob_sha1: str = ""


def read_arrays(path: str | os.PathLike[str]) -> SourceArrays:
  """Reads a file, whose format is told by its content.

  Args:
    path: `READABLE`.

  Raises:
    UserError: if there is no such file, it is of another kind, or is damaged.
  """
  path = pathlib.Path(path).expanduser()
  data = _content(path)
  if data is None or data.endswith(leveldb_table.MAGIC):
    return _read_checkpoint(path)
  if torch_file.is_torch_file(data):
    return _source("pytorch", torch_file.read_torch_file(path), path, data)
  if npz_file.is_npz_file(data):
    return _source("chainer npz", npz_file.read_npz_file(path), path, data)
  if safetensors_file.is_safetensors_file(data):
    return _source("safetensors", safetensors_file.parse_safetensors(path, data)[0], path, data)
  pickled = ", and a pickle of arrays is not read because it could run code" if data.startswith(b"\x80") else ""
  raise UserError(f"{path} is of no known kind{pickled}; give {READABLE}")


def _content(path: pathlib.Path) -> bytes | None:
  """The bytes of a file; None for what only a checkpoint can be: a folder, a prefix, a data file."""
  try:
    if path.is_dir() or not path.exists() or tf_checkpoint.find_tf_checkpoint(path) is not None:
      return None
    return path.read_bytes()
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error


def _source(kind: str, arrays: dict[str, np.ndarray], path: pathlib.Path, data: bytes) -> SourceArrays:
  return SourceArrays(arrays=arrays, format=kind, path=path, sha256=hashlib.sha256(data).hexdigest())


def _read_checkpoint(path: pathlib.Path) -> SourceArrays:
  files = tf_checkpoint.find_tf_checkpoint(path)
  if files is None:
    missing = "holds no checkpoint" if path.is_dir() else "is not there" if not path.exists() else "is a lone index"
    raise UserError(f"{path} {missing}; give {READABLE}")
  arrays = tf_checkpoint.read_tf_checkpoint(path)
  sha256 = hashlib.sha256()
  for file in (files.index, *files.shards):
    sha256.update(file.read_bytes())
  blob = _git_blob_sha1(files.shards[0]) if len(files.shards) == 1 else ""
  return SourceArrays(
    arrays=arrays, format="tf checkpoint", path=files.index, sha256=sha256.hexdigest(), git_blob_sha1=blob
  )


def _git_blob_sha1(path: pathlib.Path) -> str:
  """The name that git gives a file of this content."""
  data = path.read_bytes()
  return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
