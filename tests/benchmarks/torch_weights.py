"""Conversion of a net's variables into the state dict of its PyTorch version in benchmarks/torch_networks."""

import re

import numpy as np
from flax.traverse_util import flatten_dict

_RULES = (
  (r"stage_(\d+)_block_(\d+)", r"stages.\1.blocks.\2"),
  (r"stage_(\d+)_(\w+)", r"stages.\1.\2"),
  (r"\b(block|state|level)_(\d+)", r"\1s.\2"),
  (r"BatchNorm_0", "norm"),
  (r"sequence\.cell\.", "sequence."),
)
_IMAGE_RULES = ((r"^(conv|norm|down|shortcut|down_norm)_(\d+)", r"blocks.\2.\1"),)
"""The image discriminator of Inbetweening groups the layers of a block."""

_LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "kernel_u": "u", "embedding_u": "u"}


def to_torch(net, module) -> dict:
  """All parameters and spectral vectors of a `NetState`, as NumPy arrays by PyTorch's names."""
  found, expected = {}, module.state_dict()
  kinds = [net.params, net.variables.get("spectral_stats", {})]
  for path, value in ((path, np.asarray(x)) for kind in kinds for path, x in flatten_dict(kind).items()):
    found |= dict(_stacked(path, value) if path[0].startswith("level_") else [(_name(path, expected), value)])
  found |= _gru(found)
  return {name: _layout(value, name, module) for name, value in found.items()}


def _name(path, expected) -> str:
  *modules, leaf = path
  name = ".".join(modules)
  for pattern, replacement in (*_RULES, *(_IMAGE_RULES if "blocks.0.shortcut.weight" in expected else ())):
    name = re.sub(pattern, replacement, name)
  if parts := re.fullmatch(r"(kernel|bias)_(\w+?)(_u)?", leaf):
    kind, gate, vector = parts.groups()
    # The vector of `kernel` and the vector of the gate u differ in their number of suffixes.
    if leaf == "kernel_u" and not name.endswith(".unit"):
      return f"{name}.u"
    if leaf == "kernel_u" and f"{name}.gates.u.weight" in expected:
      gate, vector = "u", None
    owner = next(
      owner for owner in (f"{name}.gates.{gate}", f"{name}.{gate}", f"kernels.{gate}") if f"{owner}.weight" in expected
    )
    return f"{owner}.{'u' if vector else _LEAVES.get(kind, kind)}"
  return ".".join(filter(None, (name, _LEAVES.get(leaf, leaf))))


def _stacked(path, value):
  """The latent generator's parameters, which are stacked over the blocks of a level."""
  level = path[0].replace("level_", "levels.")
  count = len(value)
  if path[1] == "noise_kernel":
    yield f"{level}.noise.weight", value.transpose(1, 0, 3, 2).reshape(value.shape[1], -1)
  elif path[1] == "noise_bias":
    yield f"{level}.noise.bias", value[:, 0].transpose(0, 2, 1).ravel()
  elif path[1] == "control_kernel":
    yield f"{level}.control.weight", value.transpose(1, 2, 0, 3).reshape(*value.shape[1:3], -1)
  elif path[1] == "control_bias":
    yield f"{level}.control.bias", value.ravel()
  else:
    name = ".".join((*path[2:-1], _LEAVES.get(path[-1], path[-1])))
    yield from ((f"{level}.blocks.{i}.{name}", value[i]) for i in range(count))


def _gru(found) -> dict:
  """The GRU cell's gates side by side; removes the parts from `found`."""
  gates = {name: found.pop(name) for name in list(found) if name.startswith("sequence.gru.")}
  if not gates:
    return {}
  sources = {"of_input.weight": "i{}.weight", "of_input.bias": "i{}.bias", "of_state.weight": "h{}.weight"}
  fused = {
    f"sequence.{name}": np.concatenate([gates[f"sequence.gru.{source.format(gate)}"] for gate in "rzn"], axis=-1)
    for name, source in sources.items()
  }
  return fused | {"sequence.candidate_bias": gates["sequence.gru.hn.bias"]}


def _layout(value: np.ndarray, name: str, module) -> np.ndarray:
  """The value in PyTorch's order of axes, and with channels before positions where these are flattened."""
  owner, _, leaf = name.rpartition(".")
  layer = module.get_submodule(owner)
  if value.ndim > 1 and type(layer).__name__ != "Embed":
    value = np.moveaxis(value, (-2, -1), (0, 1))
    value = value if "Transpose" in type(layer).__name__ else value.swapaxes(0, 1)
  if leaf == "weight" and layer.weight.ndim == 5 and value.ndim == 4:
    value = value[:, :, None]  # A shortcut between 3-D convolutions.
  if owner in ("input", "frames.input"):
    shape = (module if owner == "input" else module.frames).shape
    value = _channels_first(value, 0, shape[0])
  elif owner.endswith(".unit.hidden") and leaf == "weight":
    value = _channels_first(value, 1, value.shape[0])
  elif owner == "output" and hasattr(module, "flatten") and leaf == "weight":
    convolutions = [m for m in module.modules() if "Conv" in type(m).__name__]
    value = _channels_first(value, 1, convolutions[-1].weight.shape[0])
  return np.array(value, order="C")


def _channels_first(value: np.ndarray, axis: int, channels: int) -> np.ndarray:
  order = np.arange(value.shape[axis]).reshape(-1, channels).T.ravel()
  return np.take(value, order, axis)
