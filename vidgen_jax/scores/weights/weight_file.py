"""The format in which weights are kept: NAME.safetensors and NAME.json, which describes it.

Tensors are named by their paths in the variables, joined by '/'. The description holds a hash of the tensors, by which
files that do not belong together are detected and scores record the weights with which they were computed.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.scores.weights.arrays import read_safetensors
from vidgen_jax.scores.weights.identify import how_to_import
from vidgen_jax.scores.weights.sources import how_to_get

_FORMAT_VERSION = 1
_SUFFIX = ".safetensors"
_MAKERS = "`vidgen weights import` or `vidgen classify`"
_METADATA = {"made_by": "vidgen_jax"}

_FIELD_TYPES: Mapping[str, type] = {
  "network": str,
  "settings": dict,
  "source": str,
  "source_hash": str,
  "preprocessing": dict,
  "class_names": list,
  "details": dict,
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WeightFile:
  """The weights of a network with the facts that are needed to use and to cite them.

  Attributes:
    network: registered name, such as 'i3d'.
    settings: constructor arguments of the network; JSON values.
    variables: NumPy arrays nested by collection, module and name: {'params': ..., 'batch_stats': ...}.
    preprocessing: how clips are prepared for the network; JSON values.
    source: description of the file that the weights were made from.
    source_hash: SHA-256 of that file, in hex.
    class_names: names of the network's outputs; () if unknown.
    details: further facts, such as accuracy and data set; JSON values.
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
    """The variables by their paths joined by '/', sorted by name."""
    flat = traverse_util.flatten_dict(self.variables, sep="/")
    # `ascontiguousarray` would add an axis to scalars.
    return {name: np.asarray(flat[name], order="C") for name in sorted(flat)}

  @functools.cached_property
  def hash(self) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of all tensors, in hex."""
    sha256 = hashlib.sha256()
    for name, array in self.tensors.items():
      little = array.astype(array.dtype.newbyteorder("<"), copy=False)
      sha256.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode())
      sha256.update(little.tobytes())
    return sha256.hexdigest()

  @property
  def short_hash(self) -> str:
    """The first 12 digits of `hash`, as scores show it."""
    return self.hash[:12]

  @property
  def num_values(self) -> int:
    """Number of values in all variables."""
    return sum(array.size for array in self.tensors.values())


def write_weight_file(path: str | os.PathLike[str], weights: WeightFile) -> None:
  """Writes NAME.safetensors and its description NAME.json, or nothing; the folder is created.

  Raises:
    UserError: if the path has another suffix, a value is not finite, or the disk refuses the files.
    TypeError, ValueError: if settings, preprocessing or details are not JSON values.
  """
  path = _checked_suffix(Path(path))
  _check_values(path, weights)
  fields = {name: getattr(weights, name) for name in _FIELD_TYPES}
  sizes = {"hash": weights.hash, "layers": len(weights.tensors), "values": weights.num_values}
  description = json.dumps({"format_version": _FORMAT_VERSION, **fields, **sizes}, indent=2, allow_nan=False) + "\n"
  data = safetensors.numpy.save(weights.tensors, metadata=_METADATA)
  # Both files are written before either gets its name. If renaming the second fails, readers detect it by the hash.
  with atomic_write(path.with_suffix(".json")) as json_file, atomic_write(path) as tensor_file:
    tensor_file.write_bytes(data)
    json_file.write_bytes(description.encode())


def read_weight_file(path: str | os.PathLike[str], *, network: str = "") -> WeightFile:
  """Reads NAME.safetensors and NAME.json, and checks that they belong together.

  Args:
    path: file from `write_weight_file`.
    network: network that the caller expects, for the message about a missing file; '' if unknown.

  Raises:
    UserError: if a file is missing, damaged, made by another program, or belongs to another pair. The message says what
      to download and how to import it.
  """
  path = Path(path).expanduser()
  # A TensorFlow checkpoint may be given by its prefix, which is no file.
  if not path.exists() and not path.with_name(f"{path.name}.index").exists():
    remedy = how_to_get(str(path.with_suffix(_SUFFIX)), network=network)
    own = "" if network else "; `vidgen classify` trains a classifier of your own"
    raise UserError(f"{path} does not exist; {remedy}{own}")
  if path.suffix != _SUFFIX:
    raise UserError(how_to_import(path))
  tensors, metadata = read_safetensors(path)
  if metadata.get("made_by") != _METADATA["made_by"]:
    raise UserError(how_to_import(path))
  sidecar = path.with_suffix(".json")
  fields, expected_hash = _read_description(sidecar)
  weights = WeightFile(variables=traverse_util.unflatten_dict(tensors, sep="/"), **fields)
  _check_values(path, weights)
  if weights.hash != expected_hash:
    raise UserError(
      f"{path} and {sidecar.name} do not belong together, or one is damaged; make them again with {_MAKERS}"
    )
  return weights


def _check_values(path: Path, weights: WeightFile) -> None:
  # Max pooling ignores NaN on some platforms: features of such weights would look like numbers.
  for name, array in weights.tensors.items():
    if not np.isfinite(array.astype(np.float32)).all():
      raise UserError(f"{path}: tensor {name} holds values that are not finite; the weights are damaged")
    if name.rsplit("/", 1)[-1] == "var" and (array < 0).any():
      raise UserError(f"{path}: tensor {name} is a variance and holds negative values; the weights are damaged")


def _checked_suffix(path: Path) -> Path:
  if path.suffix != _SUFFIX:
    raise UserError(f"{path} must end in {_SUFFIX}; weights are kept as NAME{_SUFFIX} and NAME.json")
  return path


def _read_description(path: Path) -> tuple[dict[str, Any], str]:
  """The fields of a WeightFile without its variables, and the hash."""
  try:
    found = json.loads(path.read_bytes())
  except FileNotFoundError as error:
    raise UserError(f"{path} does not exist; it describes the weights and was made with them: copy it too") from error
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path} cannot be read ({error}); check the path, or make it again with {_MAKERS}") from error
  version = found.get("format_version") if isinstance(found, dict) else None
  if type(version) is int and version > _FORMAT_VERSION:
    raise UserError(f"{path} has format {version}, which a later version of this package wrote; update the package")
  if version != _FORMAT_VERSION or not isinstance(found.get("hash"), str):
    raise UserError(f"{path} is not a description of weights; make it with {_MAKERS}")
  for name, kind in _FIELD_TYPES.items():
    if not isinstance(found.get(name), kind):
      raise UserError(f"{path}: {name} is missing or has the wrong type; make the file again with {_MAKERS}")
  if not all(isinstance(name, str) for name in found["class_names"]):
    raise UserError(f"{path}: class_names must be strings; make the file again with {_MAKERS}")
  fields = {name: found[name] for name in _FIELD_TYPES}
  return fields | {"class_names": tuple(fields["class_names"])}, found["hash"]
