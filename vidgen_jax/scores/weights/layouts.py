"""Turning the arrays of another framework into the variables of one of our networks, completely or not at all."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import SourceArrays
from vidgen_jax.scores.weights.naming import NAMINGS, Naming, Path

RGB_SCRATCH = "fa7df95674dbf3579e7fccd954e51e706b4734c1"
"""Git's hash of the data file of Kinetics I3D's `rgb_scratch`, which is what FVD's reference computes with."""

RGB_IMAGENET = "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18"
"""The same of `rgb_imagenet`, which FVD's reference does not compute with."""

_IMAGENET_WARNING = (
  "this is rgb_imagenet; FVD's reference uses rgb_scratch: scores will differ, 219 against 131 on the known answer"
)
_IMAGENET_NAME_WARNING = (
  "by its name this is rgb_imagenet; FVD's reference uses rgb_scratch: if so, scores will differ, 219 against 131 on "
  "the known answer"
)
_IGNORED = re.compile(r"(^|\.)num_batches_tracked$")
_SHOWN = 8  # names of a list in a message
_LONGEST = 120  # characters of each


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ConvertedWeights:
  """Variables that fit a network, and what the file says about the network.

  Attributes:
    variables: nested by collection, module and name, of NumPy arrays.
    settings: constructor arguments: `num_classes` of a classifier, and others that the origin implies.
    origin: where files of this kind come from, in words.
    warning: one line that the user should see, or empty.
  """

  variables: dict[str, Any]
  settings: dict[str, Any]
  origin: str
  warning: str = ""


Expected = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Gives the variables of the network made with these settings: a nested tree of `jax.ShapeDtypeStruct`."""


def convert(network: str, source: SourceArrays, expected: Expected) -> ConvertedWeights:
  """Finds the naming of a file and maps its arrays on a network's variables.

  A gain of a normalisation that has none here is multiplied into the kernel and the mean: gamma (Wx - mean) / std is
  (gamma Wx - gamma mean) / std. Arrays become the network's dtypes.

  Args:
    network: 'i3d', 'c3d', 'r3d18', 'tsn' or 'pwc_net'.
    source: what was read.
    expected: see `Expected`.

  Returns:
    The variables, each filled, from arrays that are all used.

  Raises:
    UserError: if the file is for another network, something is left over or missing, or a shape differs; all of it is
      listed in one line.
    ValueError: if there is no network of that name.
  """
  naming = _choose(network, source)
  names = {naming.normalise(name): name for name in source.arrays}
  arrays = {short: source.arrays[name] for short, name in names.items()}
  settings = dict(naming.settings) | ({"num_classes": _num_classes(naming, arrays)} if naming.head else {})
  wanted = traverse_util.flatten_dict(dict(expected(settings)))
  variables, used, wrong = {}, set(), []
  for path, struct in wanted.items():
    name = naming.foreign(path)
    if name not in arrays:
      continue
    used.add(name)
    array = _transposed(naming, path, arrays, struct.shape)
    if array.shape != tuple(struct.shape):
      wrong.append(f"{names[name]} is {_shape(array.shape)} and not {_shape(struct.shape)}")
    else:
      variables[path] = array
  missing = ["/".join(path) for path in wanted if path not in variables and naming.foreign(path) not in arrays]
  gains = _gains(naming, wanted, arrays)
  for path, name in gains.items():
    shape = wanted[*path[:-1], "bias"].shape
    if arrays[name].size != shape[0]:
      wrong.append(f"{names[name]} is {_shape(arrays[name].shape)} and not {_shape(shape)}")
  used |= set(gains.values())
  left = [name for name in source.arrays if names[short := naming.normalise(name)] != name or short not in used]
  left = sorted(name for name in left if _belongs(naming, naming.normalise(name), arrays))
  _refuse(network, source, {"not used": left, "missing": missing, "wrong shape": wrong})
  _fold(variables, {path: arrays[name] for path, name in gains.items()})
  filled = {path: np.ascontiguousarray(variables[path], dtype=struct.dtype) for path, struct in wanted.items()}
  return ConvertedWeights(
    variables=traverse_util.unflatten_dict(filled),
    settings=settings,
    origin=naming.origin,
    warning=_warning(network, source),
  )


def _choose(network: str, source: SourceArrays) -> Naming:
  """The naming of the file, which must be one of the network's."""
  candidates = [naming for naming in NAMINGS if naming.network == network]
  if not candidates:
    raise ValueError(f"unknown network {network!r}; known are {sorted({naming.network for naming in NAMINGS})}")
  best = max(candidates, key=lambda naming: _num_marks(naming, source.arrays))
  found = _num_marks(best, source.arrays)
  others = [n for n in NAMINGS if n.network != network and _num_marks(n, source.arrays) == len(n.marks)]
  if found == len(best.marks) or (found and not others):
    return best
  if others:
    other = others[0]
    raise UserError(
      f"{source.path}: these are no weights of {network} but of {other.network} ({other.origin}); "
      f"import them as {other.network}"
    )
  origins = " or ".join(naming.origin for naming in candidates)
  raise UserError(
    f"{source.path}: these are no weights of {network}; it holds {_listing(sorted(source.arrays))}; "
    f"give a file of {origins}"
  )


def _num_marks(naming: Naming, arrays: Mapping[str, np.ndarray]) -> int:
  """How many of a naming's marks are there, with as many axes."""
  axes = {naming.normalise(name): array.ndim for name, array in arrays.items()}
  return sum(axes.get(name) == ndim for name, ndim in naming.marks.items())


def _num_classes(naming: Naming, arrays: Mapping[str, np.ndarray]) -> int:
  """The head's size; 1 where there is no head, which is an error that is listed with others later."""
  head = arrays.get(naming.head)
  return max(1, head.shape[naming.head_axis]) if head is not None and head.ndim else 1


def _transposed(naming: Naming, path: Path, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
  """The array for a variable, its axes in our order."""
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


def _gains(naming: Naming, wanted: Mapping[Path, Any], arrays: Mapping[str, np.ndarray]) -> dict[Path, str]:
  """Names of gains that our network does not have, by the path that they would have."""
  paths = [(*path[:-1], "scale") for path in wanted if path[0] == "params" and path[-2:] == ("norm", "bias")]
  return {path: name for path in paths if path not in wanted and (name := naming.foreign(path)) in arrays}


def _fold(variables: dict[Path, np.ndarray], gains: Mapping[Path, np.ndarray]) -> None:
  """Multiplies gains into the kernel, whose last axis is the output's, and the mean."""
  for (_, *unit, norm, _), gain in gains.items():
    gain = gain.reshape(-1)
    if np.all(gain == 1):
      continue
    for path in (("params", *unit, "conv", "kernel"), ("batch_stats", *unit, norm, "mean")):
      variables[path] = variables[path].astype(np.float32) * gain.astype(np.float32)


def _belongs(naming: Naming, name: str, arrays: Mapping[str, np.ndarray]) -> bool:
  """Whether an array that was not used should have been.

  Counters and other networks' variables need not be, nor what an optimizer keeps about a variable under its name.
  """
  is_slot = name.rpartition("/")[0] in arrays
  return name.startswith(naming.scope) and name not in naming.idle and not is_slot and not _IGNORED.search(name)


def _refuse(network: str, source: SourceArrays, problems: Mapping[str, list[str]]) -> None:
  if any(problems.values()):
    listed = "; ".join(f"{kind}: {_listing(names)}" for kind, names in problems.items() if names)
    raise UserError(
      f"{source.path} does not fit network {network}: {listed}; give the file of the network as it was published"
    )


def _warning(network: str, source: SourceArrays) -> str:
  if network != "i3d" or source.git_blob_sha1 == RGB_SCRATCH:
    return ""
  if source.git_blob_sha1 == RGB_IMAGENET:
    return _IMAGENET_WARNING
  # A checkpoint's files are called model.ckpt...; its folder has the name.
  named = source.path.parent.name if source.format == "tf checkpoint" else ""
  return _IMAGENET_NAME_WARNING if "imagenet" in f"{named}/{source.path.name}".lower() else ""


def _listing(names: list[str]) -> str:
  # The names are whatever the file says, and the message must stay one line.
  shown = [" ".join(name.split())[:_LONGEST] for name in names[:_SHOWN]]
  return f"{', '.join(shown)}{', ...' if len(names) > _SHOWN else ''} ({len(names)})"


def _shape(shape: tuple[int, ...]) -> str:
  return "x".join(map(str, shape)) or "a single number"
