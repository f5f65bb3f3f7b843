"""How other frameworks name the variables of the feature and flow networks.

A variable's path is (collection, module, ..., name), such as ('params', 'stem', 'conv', 'kernel').
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

Path = tuple[str, ...]
ForeignName = Callable[[Path], str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
  """The names that files of one origin give to the variables of one network.

  Attributes:
    network: our name of the network.
    origin: description of the program or release that writes such files, for messages.
    marks: tensor names with their numbers of axes that identify such a file.
    foreign: maps a variable's path to its tensor name; None for a variable that such files do not have.
    kernels: axis order of kernels: 'torch' is [out, in, t, h, w], [out, in, h, w] or [out, in]; 'flax' is ours.
    head: name of a tensor with one entry per class; '' for a network without classes.
    head_axis: axis of the classes in that tensor.
    settings: constructor arguments that the origin implies.
    scope: prefix of all tensors that belong to the network.
    renamed: (pattern, replacement) pairs that remove the prefixes some programs add.
    unused: names of tensors that such files contain but the network does not use.
    flattened: dense kernels whose inputs are a flattened [C, T, H, W], with the name of a bias of C entries.
  """

  network: str
  origin: str
  marks: Mapping[str, int]
  foreign: ForeignName
  kernels: Literal["torch", "flax"] = "torch"
  head: str = ""
  head_axis: int = 0
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  scope: str = ""
  renamed: tuple[tuple[str, str], ...] = ()
  unused: frozenset[str] = frozenset()
  flattened: Mapping[Path, str] = dataclasses.field(default_factory=dict)

  def normalise(self, name: str) -> str:
    """Removes the prefixes that some programs add to a tensor's name."""
    for pattern, replacement in self.renamed:
      name = re.sub(pattern, replacement, name)
    return name


_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_TF_SCOPE = "RGB/inception_i3d/"
_TF_LEAVES = {
  ("conv", "kernel"): "conv_3d/w",
  ("conv", "bias"): "conv_3d/b",
  ("norm", "scale"): "batch_norm/gamma",
  ("norm", "bias"): "batch_norm/beta",
  ("norm", "mean"): "batch_norm/moving_mean",
  ("norm", "var"): "batch_norm/moving_variance",
}
_TF_BRANCHES = {
  "b0": "Branch_0/Conv3d_0a_1x1",
  "b1a": "Branch_1/Conv3d_0a_1x1",
  "b1b": "Branch_1/Conv3d_0b_3x3",
  "b2a": "Branch_2/Conv3d_0a_1x1",
  "b2b": "Branch_2/Conv3d_0b_3x3",
  "b3b": "Branch_3/Conv3d_0b_1x1",
}


def _i3d_tensorflow(path: Path) -> str | None:
  _, *unit, module, leaf = path
  if unit == ["logits"]:
    unit = ["Logits", "Conv3d_0c_1x1"]
  elif unit == ["Mixed_5b", "b2b"]:
    # A typo of the release, which its checkpoints therefore contain.
    unit = ["Mixed_5b", "Branch_2/Conv3d_0a_3x3"]
  else:
    unit = [_TF_BRANCHES.get(part, part) for part in unit]
  return _TF_SCOPE + "/".join([*unit, _TF_LEAVES[module, leaf]]) if (module, leaf) in _TF_LEAVES else None


def _i3d_torch(path: Path) -> str | None:
  _, *unit, module, leaf = path
  modules = {"conv": "conv3d", "norm": "bn"}
  return ".".join([*unit, modules[module], _TORCH_LEAVES[leaf]]) if module in modules else None


def _chainer(path: Path) -> str | None:
  return f"{path[1]}/{'W' if path[2] == 'kernel' else 'b'}" if len(path) == 3 else None


def _resnet(stem: Mapping[str, str], parts: Mapping[str, str]) -> ForeignName:
  """Names of PyTorch's ResNets, from those of `conv` and `norm` in the stem and in a block ({}: index from 1)."""

  def foreign(path: Path) -> str:
    _, *modules, leaf = path
    leaf = _TORCH_LEAVES[leaf]
    if modules == ["fc"]:
      return f"fc.{leaf}"
    group, module = modules
    if group == "stem":
      return f"{stem[module]}.{leaf}"
    if module.startswith("shortcut"):
      return f"{group.replace('_', '.')}.downsample.{int(module == 'shortcut_norm')}.{leaf}"
    kind, index = module.split("_")
    return f"{group.replace('_', '.')}.{parts[kind].format(int(index) + 1)}.{leaf}"

  return foreign


_NUMBERS = ("One", "Two", "Thr", "Fou", "Fiv", "Six")
_PWC_NET_PLAIN = re.compile(r"predict_flow\d|deconv\d|upfeat\d|dc_conv7")


def _pwc_net(path: Path) -> str:
  _, module, leaf = path
  return f"{module}.{_TORCH_LEAVES[leaf]}" if _PWC_NET_PLAIN.fullmatch(module) else f"{module}.0.{_TORCH_LEAVES[leaf]}"


def _pwc_net_port(path: Path) -> str:
  """Names of the port that numbers levels and layers in words; each level upsamples the results of the coarser one."""
  _, module, leaf = path
  if context := re.fullmatch(r"dc_conv(\d)", module):
    layer = f"Refiner.netMain.{2 * (int(context[1]) - 1)}"
  elif pyramid := re.fullmatch(r"conv(\d)(a|aa|b)", module):
    level = int(pyramid[1])
    order = ("aa", "a", "b") if level == len(_NUMBERS) else ("a", "aa", "b")
    layer = f"Extractor.net{_NUMBERS[level - 1]}.{2 * order.index(pyramid[2])}"
  elif decoder := re.fullmatch(r"conv(\d)_(\d)", module):
    layer = f"{_NUMBERS[int(decoder[1]) - 1]}.net{_NUMBERS[int(decoder[2])]}.0"
  elif predictor := re.fullmatch(r"predict_flow(\d)", module):
    layer = f"{_NUMBERS[int(predictor[1]) - 1]}.netSix.0"
  else:
    kind, level = module[:-1], int(module[-1])
    layer = f"{_NUMBERS[level - 2]}.net{ {'deconv': 'Upflow', 'upfeat': 'Upfeat'}[kind] }"
  return f"net{layer}.{_TORCH_LEAVES[leaf]}"


_plain_resnet = _resnet({"conv": "conv1", "norm": "bn1"}, {"conv": "conv{}", "norm": "bn{}"})

NAMINGS: tuple[Naming, ...] = (
  Naming(
    network="i3d",
    origin="the TensorFlow release of Kinetics I3D",
    marks={
      f"{_TF_SCOPE}Conv3d_1a_7x7/conv_3d/w": 5,
      f"{_TF_SCOPE}Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w": 5,
      f"{_TF_SCOPE}Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w": 5,
    },
    head=f"{_TF_SCOPE}Logits/Conv3d_0c_1x1/conv_3d/w",
    head_axis=-1,
    foreign=_i3d_tensorflow,
    kernels="flax",
    scope=_TF_SCOPE,
  ),
  Naming(
    network="i3d",
    origin="the common PyTorch port of I3D",
    marks={"Conv3d_1a_7x7.conv3d.weight": 5, "Mixed_3b.b0.conv3d.weight": 5, "Mixed_5c.b3b.bn.running_var": 1},
    head="logits.conv3d.weight",
    foreign=_i3d_torch,
  ),
  Naming(
    network="c3d",
    origin="Chainer's C3D",
    marks={"conv1a/W": 5, "conv5b/W": 5, "fc6/W": 2},
    head="fc8/W",
    foreign=_chainer,
    flattened={("params", "fc6", "kernel"): "conv5b/b"},
  ),
  Naming(
    network="r3d18",
    origin="the 3D ResNets of Hara et al.",
    marks={"conv1.weight": 5, "layer1.0.conv2.weight": 5, "layer4.1.bn2.weight": 1},
    head="fc.weight",
    foreign=_plain_resnet,
    settings={"stem": "hara"},
  ),
  Naming(
    network="r3d18",
    origin="torchvision's r3d_18",
    marks={"stem.0.weight": 5, "layer1.0.conv2.0.weight": 5, "layer4.1.conv2.1.weight": 1},
    head="fc.weight",
    foreign=_resnet({"conv": "stem.0", "norm": "stem.1"}, {"conv": "conv{}.0", "norm": "conv{}.1"}),
    settings={"stem": "torchvision"},
  ),
  Naming(
    network="tsn",
    origin="a 2D ResNet-50 of torchvision or TSN",
    marks={"conv1.weight": 4, "layer1.0.conv3.weight": 4, "layer4.2.bn3.weight": 1},
    head="fc.weight",
    foreign=_plain_resnet,
    renamed=((r"^base_model\.", ""), (r"^new_fc\.", "fc.")),
  ),
  Naming(
    network="pwc_net",
    origin="the PyTorch release of PWC-Net",
    marks={"conv1a.0.weight": 4, "conv6aa.0.weight": 4, "upfeat3.weight": 4},
    foreign=_pwc_net,
    renamed=((r"^module\.", ""),),
    unused=frozenset(("deconv2.weight", "deconv2.bias")),
  ),
  Naming(
    network="pwc_net",
    origin="the common PyTorch port of PWC-Net",
    marks={"netExtractor.netOne.0.weight": 4, "netSix.netOne.0.weight": 4, "netRefiner.netMain.12.weight": 4},
    foreign=_pwc_net_port,
    renamed=((r"(^|\.)module(?=[A-Z])", r"\1net"),),
  ),
)
"""All known origins."""
