"""Reads TensorFlow checkpoints (PREFIX.index and PREFIX.data-...) through TensorFlow."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vidgen_jax.errors import UserError

_DATA_SUFFIX = re.compile(r"\.data-\d{5}-of-\d{5}$")


class CheckpointFiles(NamedTuple):
  """The files of one checkpoint: PREFIX.index, and PREFIX.data-... in order."""

  index: Path
  shards: tuple[Path, ...]


def find_checkpoint(path: Path) -> CheckpointFiles | None:
  """Finds the files of a checkpoint; None if there is none.

  Args:
    path: prefix, .index file or .data-... file of the checkpoint, the folder of its only .index file, or a SavedModel.

  Raises:
    UserError: if the index or the data is missing, or the folder contains several checkpoints.
  """
  if path.is_dir():
    found = sorted([*path.glob("*.index"), *path.glob("variables/*.index")])
    if len(found) > 1:
      raise UserError(f"{path} holds several checkpoints ({', '.join(p.name for p in found)}); name one of them")
    return find_checkpoint(found[0]) if found else None
  name = _DATA_SUFFIX.sub("", path.name.removesuffix(".index"))
  index = path.with_name(f"{name}.index")
  if not index.is_file():
    if _DATA_SUFFIX.search(path.name):
      raise UserError(f"{path} needs {index.name} in the same folder, which lists its tensors; copy it there")
    return None
  if path.name == name and path.exists():
    return None  # a file of another format whose name happens to be the prefix
  shards = sorted(p for p in path.parent.iterdir() if p.name != name and _DATA_SUFFIX.sub("", p.name) == name)
  if not shards:
    raise UserError(
      f"{index} needs {name}.data-00000-of-00001 in the same folder, which holds the values; copy it there"
    )
  return CheckpointFiles(index, tuple(shards))


def read_checkpoint(files: CheckpointFiles) -> dict[str, np.ndarray]:
  """Reads all numeric tensors of a checkpoint by variable name; TensorFlow verifies their checksums.

  Raises:
    UserError: if TensorFlow is not installed or cannot read the files.
  """
  try:
    import tensorflow as tf
  except ImportError as error:
    raise UserError(
      f"{files.index} is a TensorFlow checkpoint, which TensorFlow reads: pip install 'vidgen-jax[convert]'"
    ) from error
  try:
    reader = tf.train.load_checkpoint(str(files.index.with_suffix("")))
    dtypes = reader.get_variable_to_dtype_map()
    return {name: np.asarray(reader.get_tensor(name)) for name in sorted(dtypes) if dtypes[name] != tf.string}
  except Exception as error:  # Damaged files raise OpError, IndexError, ValueError, RuntimeError and others.
    reason = " ".join(str(error).split())[:200]
    raise UserError(f"{files.index} cannot be read ({reason}); download or save the checkpoint again") from error
