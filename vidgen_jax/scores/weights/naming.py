"""How other frameworks name the variables of the feature and flow networks, as tables of substitutions.

A variable's path is (collection, module, ..., name), such as ('params', 'stem', 'conv', 'kernel').
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

Path = tuple[str, ...]
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns and their replacements as in `re.sub`, in the order in which they are applied."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
  """The names that files of one origin give to the variables of one network.

  Attributes:
    network: our name of the network.
    origin: description of the program or release that writes such files, for messages.
    marks: tensor names with their numbers of axes that identify such a file.
    rules: substitutions that make the tensor name from a variable's path without the collection, joined by '/'.
    kernels: axis order of kernels: 'torch' is [out, in, t, h, w], [out, in, h, w] or [out, in]; 'flax' is ours.
    head: name of the kernel with one output per class; '' for a network without classes.
    settings: constructor arguments that the origin implies.
    scope: prefix of all tensors that belong to the network.
    renamed: substitutions that remove the prefixes some programs add.
    unused: names of tensors that such files contain but the network does not use.
    flattened: dense kernels whose inputs are a flattened [C, T, H, W], with the name of a bias of C entries.
  """

  network: str
  origin: str
  marks: Mapping[str, int]
  rules: Rules
  kernels: Literal["torch", "flax"] = "torch"
  head: str = ""
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  scope: str = ""
  renamed: Rules = ()
  unused: frozenset[str] = frozenset()
  flattened: Mapping[Path, str] = dataclasses.field(default_factory=dict)

  def foreign(self, path: Path) -> str:
    """The tensor name of a variable, without the prefixes that some programs add."""
    return _substitute("/".join(path[1:]), self.rules)

  def normalise(self, name: str) -> str:
    """Removes the prefixes that some programs add to a tensor's name."""
    return _substitute(name, self.renamed)


def _substitute(name: str, rules: Rules) -> str:
  for pattern, replacement in rules:
    name = re.sub(pattern, replacement, name)
  return name


def _plus(number: int, template: str) -> Callable[[re.Match[str]], str]:
  """Replaces a match by the template, with the matched number increased."""
  return lambda match: template.format(int(match[1]) + number)


_TF_SCOPE = "RGB/inception_i3d/"
_TF_I3D: Rules = (
  (r"^logits/", "Logits/Conv3d_0c_1x1/"),
  # A typo of the release, which its checkpoints therefore contain.
  (r"^Mixed_5b/b2b/", "Mixed_5b/Branch_2/Conv3d_0a_3x3/"),
  (r"/b([012])a?/", r"/Branch_\1/Conv3d_0a_1x1/"),
  (r"/b([12])b/", r"/Branch_\1/Conv3d_0b_3x3/"),
  (r"/b3b/", "/Branch_3/Conv3d_0b_1x1/"),
  (r"conv/kernel$", "conv_3d/w"),
  (r"conv/bias$", "conv_3d/b"),
  (r"norm/scale$", "batch_norm/gamma"),
  (r"norm/bias$", "batch_norm/beta"),
  (r"norm/mean$", "batch_norm/moving_mean"),
  (r"norm/var$", "batch_norm/moving_variance"),
  (r"^", _TF_SCOPE),
)
_TORCH: Rules = ((r"/(kernel|scale)$", ".weight"), (r"/(mean|var)$", r".running_\1"), (r"/", "."))
_HASSON_I3D: Rules = (
  (r"^Conv3d", "conv3d"),
  (r"^Mixed", "mixed"),
  (r"^logits/", "conv3d_0c_1x1/"),
  (r"/b0/", "/branch_0/"),
  (r"/b([12])a/", r"/branch_\1/0/"),
  # The first module of the last branch is a pool.
  (r"/b([123])b/", r"/branch_\1/1/"),
  (r"/conv/", "/conv3d/"),
  (r"/norm/", "/batch3d/"),
  *_TORCH,
)
_RESNET: Rules = (
  (r"^stem/conv", "conv1"),
  (r"^stem/norm", "bn1"),
  (r"/conv_(\d)", _plus(1, ".conv{}")),
  (r"/norm_(\d)", _plus(1, ".bn{}")),
  (r"/shortcut_conv", ".downsample.0"),
  (r"/shortcut_norm", ".downsample.1"),
  (r"^(layer\d)_", r"\1."),
  *_TORCH,
)
_RESNET_OF_SEQUENCES: Rules = (
  *_RESNET,
  (r"^conv1", "stem.0"),
  (r"^bn1", "stem.1"),
  (r"\.conv(\d)", r".conv\1.0"),
  (r"\.bn(\d)", r".conv\1.1"),
)
_NUMBERS = ("One", "Two", "Thr", "Fou", "Fiv", "Six")
# This port numbers levels and layers in words; each level upsamples the results of the coarser one.
_PWC_NET_PORT: Rules = (
  (r"^dc_conv(\d)", lambda match: f"netRefiner.netMain.{2 * int(match[1]) - 2}"),
  # The release swaps the names of the first two convolutions of the last level.
  (r"^conv6aa", "netExtractor.net6.0"),
  (r"^conv6a", "netExtractor.net6.2"),
  (r"^conv(\d)a/", r"netExtractor.net\1.0/"),
  (r"^conv(\d)aa", r"netExtractor.net\1.2"),
  (r"^conv(\d)b", r"netExtractor.net\1.4"),
  (r"^conv(\d)_", r"net\1_"),
  (r"_(\d)/", _plus(1, ".net{}.0/")),
  (r"^predict_flow(\d)", r"net\1.net6.0"),
  (r"^deconv(\d)", _plus(-1, "net{}.netUpflow")),
  (r"^upfeat(\d)", _plus(-1, "net{}.netUpfeat")),
  (r"net(\d)", lambda match: f"net{_NUMBERS[int(match[1]) - 1]}"),
  *_TORCH,
)
_LPIPS: Rules = ((r"^features_", "features/"), (r"^(lin\d)/", r"\1/model/1/"), *_TORCH)
_TRANSFORMER: Rules = ((r"^patch_embed/", "patch_embed/proj/"), (r"^blocks_", "blocks/"), *_TORCH)
_ENCODER, _PROBE = "target_encoder.module.backbone.", "classifier.module."
_VJEPA: Rules = (
  (r"^(pooler)/(?=norm|mlp)", r"\1/cross_attention_block/"),
  (r"^(pooler)/(?=q/|kv/)", r"\1/cross_attention_block/xattn/"),
  *_TRANSFORMER,
  (r"^(?=pooler|linear)", _PROBE),
  (rf"^(?!{_PROBE})", _ENCODER),
)


def _lpips_namings(trunk: str, starts: tuple[int, ...], dense: tuple[int, ...]) -> tuple[Naming, Naming]:
  """Namings of LPIPS on one network, by the first layers of its five stages and the numbers of its dense layers."""

  def slices(match: re.Match[str]) -> str:
    return f"net.slice{sum(int(match[1]) >= start for start in starts)}.{match[1]}."

  marks = (starts[1], starts[3])  # Layers that are convolutions in this network only.
  two_files = Naming(
    network="lpips",
    origin=f"torchvision's {trunk} and the heads of LPIPS",
    marks={"lin0.model.1.weight": 4, **{f"features.{number}.weight": 4 for number in marks}},
    rules=_LPIPS,
    settings={"trunk": trunk},
    unused=frozenset(f"classifier.{number}.{kind}" for number in dense for kind in ("weight", "bias")),
  )
  package = dataclasses.replace(
    two_files,
    origin=f"the whole state dict of lpips.LPIPS with {trunk}",
    marks={"lin0.model.1.weight": 4, **{f"net.slice{i}.{starts[i - 1]}.weight": 4 for i in (2, 4)}},
    rules=(*_LPIPS, (r"^features\.(\d+)\.", slices)),
    unused=frozenset(
      ("scaling_layer.shift", "scaling_layer.scale", *(f"lins.{number}.model.1.weight" for number in range(5)))
    ),
  )
  return two_files, package


NAMINGS: tuple[Naming, ...] = (
  Naming(
    network="i3d",
    origin="the TensorFlow release of Kinetics I3D",
    marks={
      f"{_TF_SCOPE}Conv3d_1a_7x7/conv_3d/w": 5,
      f"{_TF_SCOPE}Mixed_3b/Branch_0/Conv3d_0a_1x1/conv_3d/w": 5,
      f"{_TF_SCOPE}Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w": 5,
    },
    rules=_TF_I3D,
    head=f"{_TF_SCOPE}Logits/Conv3d_0c_1x1/conv_3d/w",
    kernels="flax",
    scope=_TF_SCOPE,
    # The checkpoint of Kinetics-600 has no scope.
    renamed=((r"^(?=(Conv3d_|Mixed_|Logits)\w*/)", _TF_SCOPE),),
  ),
  Naming(
    network="i3d",
    origin="the common PyTorch port of I3D",
    marks={"Conv3d_1a_7x7.conv3d.weight": 5, "Mixed_3b.b0.conv3d.weight": 5, "Mixed_5c.b3b.bn.running_var": 1},
    rules=((r"/conv/", "/conv3d/"), (r"/norm/", "/bn/"), *_TORCH),
    head="logits.conv3d.weight",
  ),
  Naming(
    network="i3d",
    origin="the PyTorch port of I3D by Hasson",
    marks={
      "conv3d_1a_7x7.conv3d.weight": 5,
      "mixed_3b.branch_0.conv3d.weight": 5,
      "mixed_5c.branch_3.1.batch3d.running_var": 1,
    },
    rules=_HASSON_I3D,
    head="conv3d_0c_1x1.conv3d.weight",
  ),
  Naming(
    network="c3d",
    origin="Chainer's C3D",
    marks={"conv1a/W": 5, "conv5b/W": 5, "fc6/W": 2},
    rules=((r"kernel$", "W"), (r"bias$", "b")),
    head="fc8/W",
    flattened={("params", "fc6", "kernel"): "conv5b/b"},
  ),
  Naming(
    network="c3d",
    origin="a PyTorch port of C3D",
    marks={"conv1a.weight": 5, "conv5b.weight": 5, "fc6.weight": 2},
    rules=_TORCH,
    head="fc8.weight",
    renamed=((r"^conv([12])(?=\.)", r"conv\1a"),),
    flattened={("params", "fc6", "kernel"): "conv5b.bias"},
  ),
  Naming(
    network="r3d18",
    origin="the 3D ResNets of Hara et al.",
    marks={"conv1.weight": 5, "layer1.0.conv2.weight": 5, "layer4.1.bn2.weight": 1},
    rules=_RESNET,
    head="fc.weight",
    settings={"stem": "hara"},
  ),
  Naming(
    network="r3d18",
    origin="torchvision's r3d_18",
    marks={"stem.0.weight": 5, "layer1.0.conv2.0.weight": 5, "layer4.1.conv2.1.weight": 1},
    rules=_RESNET_OF_SEQUENCES,
    head="fc.weight",
    settings={"stem": "torchvision"},
  ),
  Naming(
    network="tsn",
    origin="a 2D ResNet-50 of torchvision or TSN",
    marks={"conv1.weight": 4, "layer1.0.conv3.weight": 4, "layer4.2.bn3.weight": 1},
    rules=_RESNET,
    head="fc.weight",
    renamed=((r"^base_model\.", ""), (r"^new_fc\.", "fc.")),
  ),
  Naming(
    network="pwc_net",
    origin="the PyTorch release of PWC-Net",
    marks={"conv1a.0.weight": 4, "conv6aa.0.weight": 4, "upfeat3.weight": 4},
    rules=((r"^(conv\w+|dc_conv[1-6])/", r"\1.0/"), *_TORCH),
    renamed=((r"^module\.", ""),),
    unused=frozenset(("deconv2.weight", "deconv2.bias")),
  ),
  Naming(
    network="pwc_net",
    origin="the common PyTorch port of PWC-Net",
    marks={"netExtractor.netOne.0.weight": 4, "netSix.netOne.0.weight": 4, "netRefiner.netMain.12.weight": 4},
    rules=_PWC_NET_PORT,
    renamed=((r"(^|\.)module(?=[A-Z])", r"\1net"),),
  ),
  *_lpips_namings("alexnet", starts=(0, 3, 6, 8, 10), dense=(1, 4, 6)),
  *_lpips_namings("vgg16", starts=(0, 5, 10, 17, 24), dense=(0, 3, 6)),
  Naming(
    network="inception",
    origin="pytorch-fid's Inception-v3",
    marks={"Conv2d_1a_3x3.conv.weight": 4, "Mixed_5b.branch5x5_1.conv.weight": 4, "Mixed_7c.branch_pool.bn.weight": 1},
    rules=((r"/norm/", "/bn/"), *_TORCH),
    head="fc.weight",
  ),
  Naming(
    network="videomae",
    origin="a classifier of VideoMAE v2",
    marks={"patch_embed.proj.weight": 5, "blocks.0.attn.q_bias": 1, "fc_norm.weight": 1},
    rules=_TRANSFORMER,
    head="head.weight",
  ),
  Naming(
    network="vjepa",
    origin="V-JEPA with an attentive probe",
    marks={f"{_ENCODER}patch_embed.proj.weight": 5, f"{_PROBE}pooler.query_tokens": 3},
    rules=_VJEPA,
    head=f"{_PROBE}linear.weight",
    # Files of a training hold the online encoder and the predictor too.
    scope=_ENCODER,
  ),
)
"""All known origins."""

IMPORTABLE = tuple(dict.fromkeys(naming.network for naming in NAMINGS))
"""The networks with published weights."""
