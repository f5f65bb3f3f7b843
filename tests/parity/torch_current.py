"""Networks of current evaluation protocols in PyTorch, from the published layer tables; names as in `torch_networks`.

LPIPS on AlexNet and VGG-16, Inception-v3 as FID uses it, VideoMAE, and V-JEPA with its attentive probe.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Lpips(nn.Module):
  """Distance of images [N, 3, H, W] in [-1, 1]; `features` is numbered as in torchvision."""

  def __init__(self, trunk: str):
    super().__init__()
    layers, channels, taps, inputs, pool = [], [], [], 3, (0, 0, 0, 0)
    plan = [(64, 11, 4, 2), pool, (192, 5, 1, 2), pool, *[(n, 3, 1, 1) for n in (384, 256, 256)]]
    if trunk == "vgg16":
      stages = [[(n, 3, 1, 1)] * k for n, k in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))]
      plan = [layer for stage in stages for layer in (*stage, pool)][:-1]
    for layer, following in zip(plan, [*plan[1:], pool], strict=True):
      if layer == pool:
        layers.append(nn.MaxPool2d(*((2, 2) if trunk == "vgg16" else (3, 2))))
        continue
      outputs, size, stride, pad = layer
      layers += [nn.Conv2d(inputs, outputs, size, stride, pad), nn.ReLU()]
      inputs = outputs
      if trunk == "alexnet" or following == pool:
        taps.append(len(layers) - 1)
        channels.append(outputs)
    self.features, self.taps = nn.Sequential(*layers), taps
    for i, n in enumerate(channels):
      head = nn.Module()
      head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(n, 1, 1, bias=False))
      self.add_module(f"lin{i}", head)

  def forward(self, first, second):
    total, heads = 0.0, iter(range(5))
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.03, -0.088, -0.188), (0.458, 0.448, 0.45)))
    a, b = (first - shift) / scale, (second - shift) / scale
    for i, layer in enumerate(self.features):
      a, b = layer(a), layer(b)
      if i in self.taps:
        unit = [x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b)]
        total = total + getattr(self, f"lin{next(heads)}").model((unit[0] - unit[1]) ** 2).mean((1, 2, 3))
    return total


class _Unit(nn.Module):
  def __init__(self, inputs: int, outputs: int, size=1, stride: int = 1, pad=0):
    super().__init__()
    self.conv = nn.Conv2d(inputs, outputs, size, stride, pad, bias=False)
    self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

  def forward(self, x):
    return functional.relu(self.bn(self.conv(x)))


def _average(x):
  return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _Chains(nn.Module):
  """Branches of units in sequence, by name; `pool` is applied in front of `branch_pool`, or is a branch itself."""

  def __init__(self, inputs: int, plan, pool):
    super().__init__()
    self.order, self.pool = [], pool
    for branch in plan:
      size = inputs
      self.order.append([name for name, *_ in branch])
      for name, outputs, *window in branch:
        self.add_module(name, _Unit(size, outputs, *window))
        # The last two units of a branch of Mixed_7b and Mixed_7c work side by side.
        size = size if name[-1] == "a" else outputs

  def forward(self, x):
    found = []
    for branch in self.order:
      y = self.pool(x) if branch == ["branch_pool"] else x
      parts = []
      for name in branch:
        z = getattr(self, name)(y)
        if name[-1] in "ab":
          parts.append(z)
        else:
          y = z
      found += parts or [y]
    if ["branch_pool"] not in self.order:
      found.append(self.pool(x))
    return torch.cat(found, 1)


class Inception(nn.Module):
  """Inception-v3 of FID on videos [N, 3, T, H, W]: (logits, features) of each frame, [N, T, K]."""

  def __init__(self, num_classes: int = 1008, width: float = 1.0):
    super().__init__()
    n = lambda channels: max(1, round(width * channels))
    self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Unit(3, n(32), 3, 2), _Unit(n(32), n(32), 3)
    self.Conv2d_2b_3x3, self.Conv2d_3b_1x1 = _Unit(n(32), n(64), 3, 1, 1), _Unit(n(64), n(80))
    self.Conv2d_4a_3x3 = _Unit(n(80), n(192), 3)
    down = lambda x: functional.max_pool2d(x, 3, 2)
    same = lambda x: functional.max_pool2d(x, 3, 1, 1)
    row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    size = n(192)
    for name, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
      plan = [
        [("branch1x1", n(64))],
        [("branch5x5_1", n(48)), ("branch5x5_2", n(64), 5, 1, 2)],
        [("branch3x3dbl_1", n(64)), ("branch3x3dbl_2", n(96), 3, 1, 1), ("branch3x3dbl_3", n(96), 3, 1, 1)],
        [("branch_pool", n(pooled))],
      ]
      self.add_module(f"Mixed_{name}", _Chains(size, plan, _average))
      size = 2 * n(64) + n(96) + n(pooled)
    plan = [
      [("branch3x3", n(384), 3, 2)],
      [("branch3x3dbl_1", n(64)), ("branch3x3dbl_2", n(96), 3, 1, 1), ("branch3x3dbl_3", n(96), 3, 2)],
    ]
    self.Mixed_6a, size = _Chains(size, plan, down), n(384) + n(96) + size
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
      c = n(inner)
      double = [c, c, c, c, n(192)]
      windows = [(1,), column, row, column, row]
      plan = [
        [("branch1x1", n(192))],
        [("branch7x7_1", c), ("branch7x7_2", c, *row), ("branch7x7_3", n(192), *column)],
        [(f"branch7x7dbl_{i + 1}", k, *w) for i, (k, w) in enumerate(zip(double, windows, strict=True))],
        [("branch_pool", n(192))],
      ]
      self.add_module(f"Mixed_{name}", _Chains(size, plan, _average))
      size = 4 * n(192)
    c = n(192)
    plan = [
      [("branch3x3_1", c), ("branch3x3_2", n(320), 3, 2)],
      [("branch7x7x3_1", c), ("branch7x7x3_2", c, *row), ("branch7x7x3_3", c, *column), ("branch7x7x3_4", c, 3, 2)],
    ]
    self.Mixed_7a, size = _Chains(size, plan, down), n(320) + c + size
    for name, pool in (("7b", _average), ("7c", same)):
      pair = lambda stem: [(f"{stem}a", n(384), (1, 3), 1, (0, 1)), (f"{stem}b", n(384), (3, 1), 1, (1, 0))]
      plan = [
        [("branch1x1", n(320))],
        [("branch3x3_1", n(384)), *pair("branch3x3_2")],
        [("branch3x3dbl_1", n(448)), ("branch3x3dbl_2", n(384), 3, 1, 1), *pair("branch3x3dbl_3")],
        [("branch_pool", n(192))],
      ]
      self.add_module(f"Mixed_{name}", _Chains(size, plan, pool))
      size = n(320) + 4 * n(384) + n(192)
    self.fc = nn.Linear(size, num_classes)

  def forward(self, video):
    count, _, frames = video.shape[:3]
    x = video.transpose(1, 2).flatten(0, 1)
    x = functional.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
    x = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
    for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
      x = getattr(self, f"Mixed_{name}")(x)
    features = x.mean((2, 3)).view(count, frames, -1)
    return self.fc(features), features


class _Attention(nn.Module):
  """`biases`: 'qv' as in VideoMAE, 'qkv' as in V-JEPA."""

  def __init__(self, width: int, heads: int, biases: str):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width, bias=biases == "qkv")
    if biases == "qv":
      self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    qkv = self.qkv(x)
    if hasattr(self, "q_bias"):
      qkv = qkv + torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
    split = lambda y: y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)
    y = functional.scaled_dot_product_attention(*map(split, qkv.chunk(3, dim=-1)))
    return self.proj(y.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
  def __init__(self, width: int, hidden: int):
    super().__init__()
    self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(functional.gelu(self.fc1(x)))


class _Block(nn.Module):
  def __init__(self, width: int, heads: int, hidden: int, biases: str):
    super().__init__()
    self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
    self.attn, self.mlp = _Attention(width, heads, biases), _Mlp(width, hidden)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class _Patches(nn.Module):
  def __init__(self, width: int, patch: int):
    super().__init__()
    self.proj = nn.Conv3d(3, width, (2, patch, patch), (2, patch, patch))

  def forward(self, x):
    return self.proj(x).flatten(2).transpose(1, 2)


def _in_time(table: torch.Tensor, grid, scale: float) -> torch.Tensor:
  """Resizes position codes [1, T * H * W, D] along time, as both releases do for clips of another length."""
  width = table.shape[-1]
  volume = table.transpose(1, 2).reshape(1, width, *grid)
  volume = functional.interpolate(volume, scale_factor=(scale, 1, 1), mode="trilinear")
  return volume.flatten(2).transpose(1, 2)


class VideoMae(nn.Module):
  """VideoMAE's classifier on [N, 3, T, side, side]: (logits, features)."""

  def __init__(self, width=1408, depth=40, heads=16, hidden=6144, patch=14, num_classes=174, side=224):
    super().__init__()
    self.width, self.grid = width, (8, side // patch, side // patch)
    self.patch_embed = _Patches(width, patch)
    self.blocks = nn.ModuleList(_Block(width, heads, hidden, "qv") for _ in range(depth))
    self.fc_norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, num_classes)

  def forward(self, x):
    rows, tubelets = range(math.prod(self.grid)), x.shape[2] // 2
    angles = [[p / 10000 ** (2 * (j // 2) / self.width) for j in range(self.width)] for p in rows]
    table = torch.tensor([[[(math.sin, math.cos)[j % 2](a) for j, a in enumerate(row)] for row in angles]])
    if tubelets != 8:
      table = _in_time(table, self.grid, (tubelets + 0.1) / 8)
    x = self.patch_embed(x) + table
    for block in self.blocks:
      x = block(x)
    features = self.fc_norm(x.mean(1))
    return self.head(features), features


class VJepa(nn.Module):
  """V-JEPA's encoder and the pooler of an attentive probe; `state_dict` has the names of the two released files."""

  def __init__(self, width=1280, depth=32, heads=16, hidden=5120, patch=16, num_classes=174, side=224):
    super().__init__()
    self.heads, self.grid = heads, (8, side // patch, side // patch)
    backbone = nn.Module()
    backbone.pos_embed = nn.Parameter(torch.zeros(1, math.prod(self.grid), width))
    backbone.patch_embed = _Patches(width, patch)
    backbone.blocks = nn.ModuleList(_Block(width, heads, hidden, "qkv") for _ in range(depth))
    backbone.norm = nn.LayerNorm(width, eps=1e-6)
    cross, attention = nn.Module(), nn.Module()
    attention.q, attention.kv, attention.proj = (nn.Linear(width, n * width) for n in (1, 2, 1))
    cross.norm1, cross.xattn, cross.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
    cross.mlp = _Mlp(width, 4 * width)
    pooler = nn.Module()
    pooler.query_tokens, pooler.cross_attention_block = nn.Parameter(torch.zeros(1, 1, width)), cross
    nest = lambda **children: nn.ModuleDict(children)
    linear = nn.Linear(width, num_classes)
    self.target_encoder = nest(module=nest(backbone=backbone))
    self.classifier = nest(module=nest(pooler=pooler, linear=linear))
    self.parts: Any = (backbone, pooler, linear)  # In a tuple, so that they are not registered twice.

  def forward(self, x):
    backbone, pooler, linear = self.parts
    tubelets, table = x.shape[2] // 2, backbone.pos_embed
    if tubelets != 8:
      table = _in_time(table, self.grid, tubelets / 8)
    x = backbone.patch_embed(x) + table
    for block in backbone.blocks:
      x = block(x)
    x, query = backbone.norm(x), pooler.query_tokens.repeat(len(x), 1, 1)
    cross = pooler.cross_attention_block
    split = lambda y: y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)
    keys, values = map(split, cross.xattn.kv(cross.norm1(x)).chunk(2, dim=-1))
    # The release never applies `proj` of this layer.
    attended = functional.scaled_dot_product_attention(split(cross.xattn.q(query)), keys, values)
    y = query + attended.transpose(1, 2).flatten(2)
    features = (y + cross.mlp(cross.norm2(y)))[:, 0]
    return linear(features), features


def randomise(network: nn.Module, *, seed: int) -> nn.Module:
  """Fills all parameters and statistics with values of numpy's generator, and puts the network into evaluation mode."""
  generator = np.random.default_rng(seed)
  with torch.no_grad():
    for name, value in network.state_dict().items():
      shape = tuple(value.shape)
      if name.endswith("num_batches_tracked"):
        continue
      if len(shape) < 2:
        is_gain = name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "bn.weight", "running_var"))
        drawn = generator.uniform(0.6, 1.4, shape) if is_gain else generator.normal(0.0, 0.2, shape)
      else:
        drawn = generator.normal(0.0, math.sqrt(2.0 / np.prod(shape[1:])), shape)
      if ".model.1." in name:
        drawn = np.abs(drawn)  # The heads of LPIPS are not negative.
      value.copy_(torch.from_numpy(np.asarray(drawn, np.float32)))
  return network.eval()
