"""Converts the arrays of another framework into the variables of one of our networks, completely or not at all."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import SourceArrays
from vidgen_jax.scores.weights.naming import NAMINGS, Naming, Path
from vidgen_jax.scores.weights.order import prepares_input, rename_by_order
from vidgen_jax.scores.weights.sources import source_of_file

_IMAGENET_WARNING = "by its name this is rgb_imagenet; if so, FVD's reference uses rgb_scratch: scores will differ"
_COUNTERS = re.compile(r"(^|\.)num_batches_tracked$")
_MAX_LISTED = 8
_MAX_NAME_LENGTH = 120


class ConvertedWeights(NamedTuple):
  """Variables that fit a network, and what the file implies about the network."""

  variables: dict[str, Any]
  """NumPy arrays nested by collection, module and name."""
  settings: dict[str, Any]
  """Constructor arguments: `num_classes` of a classifier, and those that the origin implies."""
  origin: str
  """Description of the program or release that wrote the file."""
  warning: str
  """One line for the user, or empty."""
  mapping: str = ""
  """How tensors of unknown names were assigned, or which were left out; empty if all names are known and used."""


def convert(
  network: str, source: SourceArrays, expected: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> ConvertedWeights:
  """Detects the naming of a file and maps its arrays to a network's variables.

  A gain that our normalisation lacks is multiplied into the kernel and the mean: gamma (Wx - mean) / std is
  (gamma Wx - gamma mean) / std. Arrays are cast to the network's dtypes.

  Args:
    network: one of `naming.IMPORTABLE`.
    source: arrays of the file.
    expected: function from settings to the nested `jax.ShapeDtypeStruct` of the network's variables.

  Returns:
    All variables of the network, made from all arrays of the file.

  Raises:
    UserError: if the file belongs to another network, an array is unused or missing, or a shape differs; one line lists
      everything.
  """
  naming, source, mapping = _naming_of(network, source, expected)
  names = {naming.normalise(name): name for name in source.arrays}
  arrays = {short: source.arrays[name] for short, name in names.items()}
  settings = dict(naming.settings)
  if naming.head:
    # Without a head, `expected` makes one of any size, which is then reported as missing with all other problems.
    head = np.atleast_1d(arrays.get(naming.head, 1.0))
    settings["num_classes"] = max(1, head.shape[-1 if naming.kernels == "flax" else 0])
  wanted = traverse_util.flatten_dict(dict(expected(settings)))
  biases = {path: struct for path, struct in wanted.items() if path[0] == "params" and path[-2:] == ("norm", "bias")}
  gains = {(*path[:-1], "scale"): struct for path, struct in biases.items()}
  gains = {path: gains[path] for path in gains if path not in wanted and naming.foreign(path) in arrays}
  variables, used, missing, wrong = {}, set(), [], []
  for path, struct in (wanted | gains).items():
    name = naming.foreign(path)
    if name not in arrays:
      missing.append("/".join(path))
      continue
    used.add(names[name])
    variables[path] = _in_our_layout(naming, path, arrays, struct.shape)
    if variables[path].shape != tuple(struct.shape):
      wrong.append(f"{names[name]} is {_shape(variables[path].shape)} and not {_shape(struct.shape)}")
  unused = _unused(naming, source, used)
  # Programs contain their preprocessing, which our protocols do.
  is_program = network == "c3d" or source.format == "torchscript"
  if left_out := [name for name in unused if is_program and prepares_input(source.arrays[name])]:
    mapping = "; ".join(filter(None, (mapping, f"left out tensors that prepare the input: {_listing(left_out)}")))
  kept = [name for name in unused if name not in left_out]
  problems = {"not used": kept, "missing": missing, "wrong shape": wrong}
  if listed := "; ".join(f"{kind}: {_listing(found)}" for kind, found in problems.items() if found):
    raise UserError(
      f"{source.path} does not fit network {network}: {listed}; give the file of the network as it was published"
    )
  for path in gains:
    _multiply(variables, path)
  filled = {path: np.ascontiguousarray(variables[path], dtype=struct.dtype) for path, struct in wanted.items()}
  warning = _warning(source) if network == "i3d" else ""
  return ConvertedWeights(traverse_util.unflatten_dict(filled), settings, naming.origin, warning, mapping)


def detect_naming(source: SourceArrays) -> Naming | None:
  """The origin of a file, of any network, by the names of its arrays; None if it is unknown."""
  return next((naming for naming in NAMINGS if _num_marks(naming, source) == len(naming.marks)), None)


def _num_marks(naming: Naming, source: SourceArrays) -> int:
  axes = {naming.normalise(name): array.ndim for name, array in source.arrays.items()}
  return sum(axes.get(name) == ndim for name, ndim in naming.marks.items())


def _naming_of(
  network: str, source: SourceArrays, expected: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> tuple[Naming, SourceArrays, str]:
  """The naming of the file, its arrays by these names, and a description if the names had to be guessed."""
  candidates = [naming for naming in NAMINGS if naming.network == network]
  best = max(candidates, key=lambda naming: _num_marks(naming, source))
  found, other = _num_marks(best, source), detect_naming(source)
  if found == len(best.marks) or (found and other is None):
    return best, source, ""
  if other is None:
    for naming in candidates:
      if renamed := rename_by_order(naming, source, expected):
        return naming, *renamed
  else:
    raise UserError(
      f"{source.path}: these are not weights of {network} but of {other.network} ({other.origin}); "
      f"import them as {other.network}"
    )
  origins = ", ".join(naming.origin for naming in candidates)
  raise UserError(
    f"{source.path}: these are not weights of {network}; the file holds {_listing(sorted(source.arrays))}; "
    f"give a file of one of: {origins}; `vidgen weights list` says where they are published"
  )


def _in_our_layout(naming: Naming, path: Path, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
  """The array of a variable with its axes in our order."""
  array = arrays[naming.foreign(path)]
  if path[-1] != "kernel":
    # Sonnet's normalisation keeps the axes that it averages over: [1, 1, 1, 1, C].
    is_vector = len(shape) == 1 and array.size == shape[0] and array.shape[-1:] == tuple(shape)
    return array.reshape(shape) if is_vector else array
  if naming.kernels == "flax" or array.ndim < 2:
    return array
  array = np.moveaxis(array, (0, 1), (-1, -2))
  channels = arrays.get(naming.flattened.get(path, ""))
  if channels is None or not channels.size or array.shape[0] % channels.size:
    return array
  outputs = array.shape[1:]
  return array.reshape(channels.size, -1, *outputs).swapaxes(0, 1).reshape(-1, *outputs)


def _multiply(variables: dict[Path, np.ndarray], path: Path) -> None:
  """Multiplies the gain with this path into the kernel and the mean."""
  _, *unit, norm, _ = path
  gain = variables[path].astype(np.float32)
  if np.all(gain == 1):
    return
  # The last axis of a kernel holds the output channels.
  for scaled in (("params", *unit, "conv", "kernel"), ("batch_stats", *unit, norm, "mean")):
    variables[scaled] = variables[scaled].astype(np.float32) * gain


def _unused(naming: Naming, source: SourceArrays, used: set[str]) -> list[str]:
  """Names of the arrays that should have been used: no counters, variables of other networks or optimizer slots."""
  shorts = {name: naming.normalise(name) for name in source.arrays}
  return sorted(
    name
    for name, short in shorts.items()
    if name not in used
    and short.startswith(naming.scope)
    and short not in naming.unused
    and short.rpartition("/")[0] not in shorts.values()
    and not _COUNTERS.search(short)
  )


def _warning(source: SourceArrays) -> str:
  if published := source_of_file(source.git_blob_sha1):
    return published.warning
  # The files of a checkpoint are called model.ckpt...; the folder has the release's name.
  folder = source.path.parent.name if source.format == "tf checkpoint" else ""
  is_imagenet = "imagenet" in f"{folder}/{source.path.name}".lower()
  return _IMAGENET_WARNING if is_imagenet else ""


def _listing(names: list[str]) -> str:
  # Names come from the file and may contain anything, but a message is one line.
  shown = [" ".join(name.split())[:_MAX_NAME_LENGTH] for name in names[:_MAX_LISTED]]
  return f"{', '.join(shown)}{', ...' if len(names) > _MAX_LISTED else ''} ({len(names)})"


def _shape(shape: tuple[int, ...]) -> str:
  return "x".join(map(str, shape)) or "a single number"
