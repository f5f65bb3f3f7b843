"""Layers of a file whose module names are unknown, by the order and the shapes of its tensors.

PyTorch's own layers name their tensors `weight`, `bias`, `running_mean` and `running_var`, and a state dict lists the
modules in the order of their definition. If the shapes of all kernels in this order are those of a network, the modules
are its layers. A program that defines two layers of equal shape in another order would not be detected: users are told
to run the self-test.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from vidgen_jax.scores.weights.arrays import SourceArrays
from vidgen_jax.scores.weights.naming import Naming, Path

_IN_ORDER = ("i3d", "c3d")  # networks whose layers, sorted by our names, are in the order of computation
# Our names of PyTorch's tensors, in layers and in normalisations.
_LEAVES = {
  False: {"weight": "kernel", "bias": "bias"},
  True: {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
}


def prepares_input(array: np.ndarray) -> bool:
  """Whether a tensor only prepares C3D's input: a permutation or scale of the channels, or a mean volume."""
  shape = tuple(n for n in array.shape if n != 1)
  return shape in ((), (3,), (3, 3)) or (len(shape) == 4 and shape[:2] == (3, 16))


def rename_by_order(
  naming: Naming, source: SourceArrays, expected: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> tuple[SourceArrays, str] | None:
  """The arrays under the names of `naming`, and a description of what was done; None if the shapes do not fit.

  Args:
    naming: a PyTorch naming of the network.
    source: arrays of the file, in the file's order.
    expected: see `layouts.convert`.
  """
  if naming.network not in _IN_ORDER or not naming.head.endswith(".weight"):
    return None
  flat = traverse_util.flatten_dict(dict(expected({**naming.settings, "num_classes": 1})))
  units = sorted({path[1:-1] for path in flat})
  names: dict[str, str] = {}
  for is_norm in (False, True):
    ours = [unit for unit in units if (unit[-1] == "norm") == is_norm]
    theirs = _modules(source, naming.network, norms=is_norm)
    if len(ours) != len(theirs):
      return None
    for unit, leaves in zip(ours, theirs, strict=True):
      names |= {name: naming.foreign(_path(unit, leaf)) for leaf, name in leaves.items() if leaf in _LEAVES[is_norm]}
  shapes = {names[name]: array.shape for name, array in source.arrays.items() if name in names}
  kernels = {naming.foreign(path): struct.shape for path, struct in flat.items() if path[-1] == "kernel"}
  for name, (*inputs, outputs) in kernels.items():
    found = shapes.get(name, (0,))
    if sorted(found[1:]) != sorted(inputs) or (name != naming.head and found[0] != outputs):
      return None
  arrays = {names.get(name, name): array for name, array in source.arrays.items()}
  check = "`vidgen weights selftest` compares a known answer" if naming.network == "i3d" else "there is no known answer"
  note = f"its {len(kernels)} layers have unknown names and were assigned by their order and shapes; {check}"
  return dataclasses.replace(source, arrays=arrays), note


def _modules(source: SourceArrays, network: str, *, norms: bool) -> list[dict[str, str]]:
  """The modules of the file that are normalisations, or the others that have a kernel: tensor names by last part."""
  modules: dict[str, dict[str, str]] = {}
  for name, array in source.arrays.items():
    if network != "c3d" or not prepares_input(array):
      module, _, leaf = name.rpartition(".")
      modules.setdefault(module, {})[leaf] = name
  return [m for m in modules.values() if ("running_mean" in m if norms else "weight" in m and "running_mean" not in m)]


def _path(unit: Path, leaf: str) -> Path:
  is_norm, collection = unit[-1] == "norm", "batch_stats" if leaf.startswith("running") else "params"
  return (collection, *unit, _LEAVES[is_norm][leaf])
