"""The form in which the weights of feature networks are kept: NAME.safetensors, and NAME.json that describes it.

The tensors are named by their paths in the variables, joined by '/'. The description holds a hash of the tensors, so
that files which do not belong together are noticed, and scores can say on which weights they were computed.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.scores.weights.safetensors_file import is_safetensors_file, parse_safetensors

FORMAT_VERSION = 1
"""Of the description; a reader refuses later ones."""

_SUFFIX = ".safetensors"
_MAKERS = "`vidgen weights import` or `vidgen classify`"
_METADATA = {"made_by": "vidgen_jax"}
_SHORT_HASH = 12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WeightFile:
  """The weights of a network and all that is needed to use and to cite them.

  Attributes:
    network: its registered name, such as 'i3d'.
    settings: constructor arguments of the network, as JSON can hold them.
    variables: nested by collection, module and name ({'params': ..., 'batch_stats': ...}), of NumPy arrays.
    preprocessing: how clips are made ready for it, as JSON can hold it.
    source: what the weights were made from.
    source_hash: SHA-256 of the source's bytes, in hex.
    class_names: of its outputs, if known.
    details: what else is known, such as accuracy and data set, as JSON can hold it.
  """

  network: str
  settings: dict[str, Any]
  variables: dict[str, Any]
  preprocessing: dict[str, Any]
  source: str
  source_hash: str
  class_names: tuple[str, ...] = ()
  details: dict[str, Any] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def tensors(self) -> dict[str, np.ndarray]:
    """The variables by their paths joined by '/', in the order of these names."""
    flat = traverse_util.flatten_dict(self.variables)
    if any("/" in part for path in flat for part in path):
      raise ValueError("a variable's name contains '/', which separates the parts of its path")
    # `order` keeps arrays without axes as they are, which `ascontiguousarray` does not.
    return {"/".join(path): np.asarray(flat[path], order="C") for path in sorted(flat, key="/".join)}

  @functools.cached_property
  def hash(self) -> str:
    """SHA-256 over name, dtype, shape and bytes of all tensors, in hex."""
    sha256 = hashlib.sha256()
    for name, array in self.tensors.items():
      little = array.astype(array.dtype.newbyteorder("<"), copy=False)
      sha256.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
      sha256.update(little.tobytes())
    return sha256.hexdigest()

  @property
  def short_hash(self) -> str:
    """The first 12 digits of `hash`, which scores show."""
    return self.hash[:_SHORT_HASH]

  @property
  def num_values(self) -> int:
    """How many numbers the variables have."""
    return sum(array.size for array in self.tensors.values())


def write_weight_file(path: str | os.PathLike[str], weights: WeightFile) -> None:
  """Writes the tensors and their description, or nothing.

  Args:
    path: NAME.safetensors; NAME.json is written beside it, and the folder is created.
    weights: what to write.

  Raises:
    UserError: if the name ends otherwise, or the disk does not allow it.
    TypeError, ValueError: if settings, preprocessing or details are more than JSON can hold.
  """
  path = _checked_suffix(pathlib.Path(path))
  _check_values(path, weights)
  description = json.dumps(_describe(weights), indent=2, allow_nan=False) + "\n"
  data = safetensors.numpy.save(weights.tensors, metadata=_METADATA)
  # Both are written before either appears. Should the second then be impossible, the hash tells later readers.
  with atomic_write(path.with_suffix(".json")) as json_file, atomic_write(path) as tensor_file:
    tensor_file.write_bytes(data)
    json_file.write_bytes(description.encode())


def read_weight_file(path: str | os.PathLike[str]) -> WeightFile:
  """Reads weights and checks that tensors and description belong together.

  Args:
    path: NAME.safetensors, with NAME.json beside it.

  Raises:
    UserError: if a file is missing, foreign, damaged or of another pair.
  """
  path = _checked_suffix(pathlib.Path(path).expanduser())
  data = _read(path, f"make it by {_MAKERS}")
  if not is_safetensors_file(data):
    raise UserError(f"{path} is no safetensors file; make it by {_MAKERS}")
  tensors, metadata = parse_safetensors(path, data)
  if metadata.get("made_by") != _METADATA["made_by"]:
    raise UserError(f"{path} is foreign: only files made by {_MAKERS} are read here; import it first")
  sidecar = path.with_suffix(".json")
  description = _read_description(sidecar)
  weights = WeightFile(variables=traverse_util.unflatten_dict(tensors, sep="/"), **description["fields"])
  _check_values(path, weights)
  if weights.hash != description["hash"]:
    raise UserError(
      f"{path} and {sidecar.name} do not belong together, or one is damaged; make them again by {_MAKERS}"
    )
  return weights


def _check_values(path: pathlib.Path, weights: WeightFile) -> None:
  """Maxima swallow a NaN on some platforms: the features of such weights would look like numbers."""
  for name, array in weights.tensors.items():
    if not np.isfinite(array.astype(np.float32)).all():
      raise UserError(f"{path}: tensor {name} holds values that are not finite; the weights are damaged")
    if name.rsplit("/", 1)[-1] == "var" and (array < 0).any():
      raise UserError(f"{path}: tensor {name} is a variance and holds negative values; the weights are damaged")


def _checked_suffix(path: pathlib.Path) -> pathlib.Path:
  if path.suffix != _SUFFIX:
    raise UserError(f"{path} must end in {_SUFFIX}; weights are kept as NAME{_SUFFIX} and NAME.json")
  return path


def _read(path: pathlib.Path, remedy: str) -> bytes:
  try:
    return path.read_bytes()
  except FileNotFoundError as error:
    raise UserError(f"{path} is not there; {remedy}") from error
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror}; check the path") from error


def _describe(weights: WeightFile) -> dict[str, Any]:
  fields = {name: getattr(weights, name) for name in _FIELD_TYPES}
  return {
    "format_version": FORMAT_VERSION,
    **fields,
    "hash": weights.hash,
    "layers": len(weights.tensors),
    "values": weights.num_values,
  }


_FIELD_TYPES: Mapping[str, type] = {
  "network": str,
  "settings": dict,
  "source": str,
  "source_hash": str,
  "preprocessing": dict,
  "class_names": list,
  "details": dict,
}


def _read_description(path: pathlib.Path) -> dict[str, Any]:
  """The hash, and the fields of a WeightFile apart from the variables."""
  data = _read(path, f"it describes the weights beside it and was made with them by {_MAKERS}: copy it along")
  try:
    found = json.loads(data)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path} is damaged; make it again by {_MAKERS}") from error
  version = found.get("format_version") if isinstance(found, dict) else None
  if type(version) is int and version > FORMAT_VERSION:
    raise UserError(f"{path} is of format {version}, which a later version of this package wrote; update the package")
  if version != FORMAT_VERSION or not isinstance(found.get("hash"), str):
    raise UserError(f"{path} is no description of weights; make it by {_MAKERS}")
  for name, kind in _FIELD_TYPES.items():
    if not isinstance(found.get(name), kind):
      raise UserError(f"{path}: {name} is missing or of the wrong type; make the file again by {_MAKERS}")
  fields = {name: found[name] for name in _FIELD_TYPES}
  if not all(isinstance(name, str) for name in fields["class_names"]):
    raise UserError(f"{path}: class_names must be strings; make the file again by {_MAKERS}")
  return {"hash": found["hash"], "fields": fields | {"class_names": tuple(fields["class_names"])}}
