"""Reads PyTorch files through PyTorch."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError

# Training programs save the state dict under one of these keys, next to counters and the optimizer's state.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."  # of torch.nn.DataParallel


def read_pytorch_file(path: Path, *, is_script: bool, allow_code: bool = False) -> dict[str, np.ndarray]:
  """Reads the tensors of a file that `torch.save` or `torch.jit.save` wrote.

  A state dict under 'state_dict', 'model_state_dict' or 'model' is used alone, nested dictionaries are flattened with
  dots, and a prefix 'module.' of all names is dropped. Other values are ignored.

  A file of `torch.save` is loaded with `weights_only=True`, which runs no code of the file. A TorchScript archive
  (`is_script`) is a program: `torch.jit.load` can run its `__setstate__` methods, so it is read only with `allow_code`.

  Returns:
    Arrays by name; bfloat16 becomes float32.

  Raises:
    UserError: if PyTorch is not installed, the file is damaged, contains Python objects other than tensors or no named
      tensor, or is a TorchScript archive without `allow_code`.
  """
  if is_script and not allow_code:
    raise UserError(f"{path} is a TorchScript archive, which can run code; if its source is trusted, pass --allow_code")
  try:
    import torch
  except ImportError as error:
    raise UserError(f"{path} is a PyTorch file, which PyTorch reads: pip install 'vidgen-jax[convert]'") from error
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # `torch.jit.load` and the storages of old files are deprecated
      if is_script:
        tree = torch.jit.load(str(path), map_location="cpu").state_dict()
      else:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    arrays = {name: _to_array(tensor) for name, tensor in _named_tensors(tree, torch.Tensor).items()}
  except Exception as error:  # Damaged files raise almost any exception.
    if name := re.search(r"GLOBAL (\S+)", str(error)):
      raise UserError(
        f"{path} holds more than tensors ({name[1]}) and is not loaded because that could run code; load it with the "
        "program that wrote it and save model.state_dict() instead"
      ) from error
    reason = " ".join(str(error).split())[:200]
    raise UserError(f"{path} cannot be read ({reason}); download the file or save model.state_dict() again") from error
  if not arrays:
    raise UserError(f"{path} holds no named tensors; save model.state_dict() instead")
  return arrays


def _to_array(tensor: Any) -> np.ndarray:
  tensor = tensor.detach()
  # NumPy has no bfloat16.
  return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _named_tensors(tree: Any, tensor_type: type) -> dict[str, Any]:
  """The tensors of nested dictionaries by dotted name."""
  if isinstance(tree, dict):
    tree = next((tree[key] for key in _WRAPPERS if isinstance(tree.get(key), dict)), tree)
  found: dict[str, Any] = {}
  # A hostile file can hold a dictionary that contains itself.
  seen: set[int] = set()
  waiting = [("", tree)]
  while waiting:
    prefix, node = waiting.pop(0)
    if not isinstance(node, dict) or id(node) in seen:
      continue
    seen.add(id(node))
    for name, value in node.items():
      if isinstance(name, str) and isinstance(value, tensor_type):
        found[prefix + name] = value
      elif isinstance(name, str):
        waiting.append((f"{prefix}{name}.", value))
  if all(name.startswith(_PARALLEL_PREFIX) for name in found):
    return {name.removeprefix(_PARALLEL_PREFIX): tensor for name, tensor in found.items()}
  return found
