"""Conversion of PyTorch state dicts to Flax variables by name, for comparisons of networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

_BATCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def i3d_name(path: Sequence[str]) -> str:
  *unit, layer, leaf = path
  kind = _BATCH_NORM[leaf] if layer == "norm" else {"kernel": "weight", "bias": "bias"}[leaf]
  return ".".join([*unit, {"conv": "conv3d", "norm": "bn"}[layer], kind])


def c3d_name(path: Sequence[str]) -> str:
  return f"{path[0]}.{ {'kernel': 'weight', 'bias': 'bias'}[path[1]] }"


def resnet_name(path: Sequence[str]) -> str:
  """Hara's 3-D ResNets and torchvision's 2-D ResNets: conv1, bn1, layer1.0.conv1, layer2.0.downsample.0, fc."""
  *block, layer, leaf = path
  if layer == "fc":
    return f"fc.{_leaf(leaf)}"
  if block == ["stem"]:
    return f"{ {'conv': 'conv1', 'norm': 'bn1'}[layer] }.{_leaf(leaf)}"
  prefix = block[0].replace("_", ".")
  if layer.startswith("shortcut"):
    return f"{prefix}.downsample.{ {'shortcut_conv': 0, 'shortcut_norm': 1}[layer] }.{_leaf(leaf)}"
  kind, number = layer.split("_")
  return f"{prefix}.{ {'conv': 'conv', 'norm': 'bn'}[kind] }{int(number) + 1}.{_leaf(leaf)}"


def torchvision_video_name(path: Sequence[str]) -> str:
  """torchvision's 3-D ResNets: stem.0, stem.1, layer1.0.conv1.0, layer1.0.conv1.1, layer2.0.downsample.0, fc."""
  *block, layer, leaf = path
  if layer == "fc" or layer.startswith("shortcut"):
    return resnet_name(path)
  if block == ["stem"]:
    return f"stem.{ {'conv': 0, 'norm': 1}[layer] }.{_leaf(leaf)}"
  kind, number = layer.split("_")
  return f"{block[0].replace('_', '.')}.conv{int(number) + 1}.{ {'conv': 0, 'norm': 1}[kind] }.{_leaf(leaf)}"


def _leaf(leaf: str) -> str:
  return "weight" if leaf == "kernel" else _BATCH_NORM[leaf]


def to_flax(
  state: Mapping[str, Any],
  expected: Mapping[str, Any],
  name_of: Callable[[Sequence[str]], str],
  *,
  unused: Callable[[str], bool] = lambda name: False,
  flattened: tuple[str, Sequence[int]] | None = None,
) -> Any:
  """Fills the variables `expected` (a tree of shapes) from a state dict; every tensor is used exactly once.

  `unused` selects tensors to ignore; `flattened` is a dense layer and the shape [C, T, H, W] of its flattened input.
  """
  left = {name for name in state if not name.endswith("num_batches_tracked") and not unused(name)}

  def fill(path: Sequence[Any], leaf: Any) -> np.ndarray:
    names = [entry.key for entry in path][1:]
    name = name_of(names)
    left.remove(name)
    value = np.asarray(state[name])
    if names[-1] == "kernel":
      if flattened is not None and names[0] == flattened[0]:
        value = value.reshape(-1, *flattened[1]).transpose(0, 2, 3, 4, 1).reshape(len(value), -1)
      value = np.moveaxis(value, (0, 1), (-1, -2))
    assert value.shape == leaf.shape, (name, value.shape, leaf.shape)
    return value

  filled = jax.tree.map_with_path(fill, expected)
  assert not left, sorted(left)
  return filled
