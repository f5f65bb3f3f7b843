"""The classifiers and PWC-Net in PyTorch, from the published layer tables.

State dicts have the names of the public releases. `build(network, seed)` returns a network in evaluation mode with
weights and batch statistics drawn by numpy.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

I3D_MIXED = {
  "3b": (64, 96, 128, 16, 32, 32),
  "3c": (128, 128, 192, 32, 96, 64),
  "4b": (192, 96, 208, 16, 48, 64),
  "4c": (160, 112, 224, 24, 64, 64),
  "4d": (128, 128, 256, 24, 64, 64),
  "4e": (112, 144, 288, 32, 64, 64),
  "4f": (256, 160, 320, 32, 128, 128),
  "5b": (256, 160, 320, 32, 128, 128),
  "5c": (384, 192, 384, 48, 128, 128),
}


def pad_same(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], value: float = 0.0) -> torch.Tensor:
  """TensorFlow's SAME: ceil(n / s) outputs, the odd pixel of the padding at the end."""
  pads = []
  for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
    total = max((math.ceil(size / s) - 1) * s + k - size, 0)
    pads += [total // 2, total - total // 2]
  return functional.pad(x, pads, value=value)


def same_max_pool(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
  return functional.max_pool3d(pad_same(x, kernel, stride, -math.inf), kernel, stride)


class I3DUnit(nn.Module):
  def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, epsilon: float = 1e-3):
    super().__init__()
    self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
    self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
    self.bn = nn.BatchNorm3d(outputs, eps=epsilon)

  def forward(self, x):
    return functional.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class I3DMixed(nn.Module):
  def __init__(self, inputs: int, channels: Sequence[int], epsilon: float):
    super().__init__()
    b0, b1a, b1b, b2a, b2b, b3b = channels
    self.b0 = I3DUnit(inputs, b0, epsilon=epsilon)
    self.b1a = I3DUnit(inputs, b1a, epsilon=epsilon)
    self.b1b = I3DUnit(b1a, b1b, 3, epsilon=epsilon)
    self.b2a = I3DUnit(inputs, b2a, epsilon=epsilon)
    self.b2b = I3DUnit(b2a, b2b, 3, epsilon=epsilon)
    self.b3b = I3DUnit(inputs, b3b, epsilon=epsilon)

  def forward(self, x):
    pooled = same_max_pool(x, (3, 3, 3), (1, 1, 1))
    return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class I3DLogits(nn.Module):
  def __init__(self, inputs: int, num_classes: int):
    super().__init__()
    self.conv3d = nn.Conv3d(inputs, num_classes, 1)

  def forward(self, x):
    return self.conv3d(x)


class I3D(nn.Module):
  """Returns (logits averaged over time, features); `width` and `pool` shrink it."""

  def __init__(
    self, num_classes: int = 400, epsilon: float = 1e-3, width: float = 1.0, pool: Sequence[int] = (2, 7, 7)
  ):
    super().__init__()
    scaled = lambda n: max(1, round(width * n))
    self.pool = tuple(pool)
    self.Conv3d_1a_7x7 = I3DUnit(3, scaled(64), 7, 2, epsilon)
    self.Conv3d_2b_1x1 = I3DUnit(scaled(64), scaled(64), epsilon=epsilon)
    self.Conv3d_2c_3x3 = I3DUnit(scaled(64), scaled(192), 3, epsilon=epsilon)
    inputs = scaled(192)
    for name, published in I3D_MIXED.items():
      channels = [scaled(c) for c in published]
      setattr(self, f"Mixed_{name}", I3DMixed(inputs, channels, epsilon))
      inputs = channels[0] + channels[2] + channels[4] + channels[5]
    self.logits = I3DLogits(inputs, num_classes)

  def forward(self, x):
    x = same_max_pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
    x = same_max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
    x = same_max_pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
    for name in "bcdef":
      x = getattr(self, f"Mixed_4{name}")(x)
    x = self.Mixed_5c(self.Mixed_5b(same_max_pool(x, (2, 2, 2), (2, 2, 2))))
    x = functional.avg_pool3d(x, self.pool, 1)
    return self.logits(x)[:, :, :, 0, 0].mean(2), x[:, :, :, 0, 0].mean(2)


class C3D(nn.Module):
  """Returns (logits, fc7); `flat` is the number of values that reach fc6, in the order C, T, H, W."""

  def __init__(self, num_classes: int = 101, width: float = 1.0, flat: int = 8192):
    super().__init__()
    scaled = lambda n: max(1, round(width * n))
    channels = {"1a": 64, "2a": 128, "3a": 256, "3b": 256, "4a": 512, "4b": 512, "5a": 512, "5b": 512}
    inputs = 3
    for name, published in channels.items():
      setattr(self, f"conv{name}", nn.Conv3d(inputs, scaled(published), 3, padding=1))
      inputs = scaled(published)
    self.fc6 = nn.Linear(flat, scaled(4096))
    self.fc7 = nn.Linear(scaled(4096), scaled(4096))
    self.fc8 = nn.Linear(scaled(4096), num_classes)

  def forward(self, x):
    conv = lambda name, x: functional.relu(getattr(self, f"conv{name}")(x))
    x = functional.max_pool3d(conv("1a", x), (1, 2, 2))
    x = functional.max_pool3d(conv("2a", x), 2)
    x = functional.max_pool3d(conv("3b", conv("3a", x)), 2)
    x = functional.max_pool3d(conv("4b", conv("4a", x)), 2)
    x = functional.max_pool3d(conv("5b", conv("5a", x)), 2, ceil_mode=True)
    features = functional.relu(self.fc7(functional.relu(self.fc6(x.flatten(1)))))
    return self.fc8(features), features


def chainer_arrays(network: C3D) -> dict[str, np.ndarray]:
  """The weights as Chainer's npz files name them: `conv1a/W`, `conv1a/b`, ..."""
  letters = {"weight": "W", "bias": "b"}
  names = [(name.split("."), value) for name, value in network.state_dict().items()]
  return {f"{layer}/{letters[kind]}": value.numpy() for (layer, kind), value in names}


class HaraBlock(nn.Module):
  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm3d(outputs)
    self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm3d(outputs)
    self.downsample = None
    if stride != 1 or inputs != outputs:
      self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

  def forward(self, x):
    y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
    return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchvisionBlock(nn.Module):
  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    self.conv1 = nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU())
    self.conv2 = nn.Sequential(nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm3d(outputs))
    self.downsample = None
    if stride != 1 or inputs != outputs:
      self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

  def forward(self, x):
    return functional.relu(self.conv2(self.conv1(x)) + (x if self.downsample is None else self.downsample(x)))


class ResNet3D(nn.Module):
  """3-D ResNet-18, named as Hara et al. or as torchvision name it; returns (logits, features)."""

  def __init__(self, num_classes: int = 400, stem: str = "torchvision", width: int = 64):
    super().__init__()
    self.is_hara = stem == "hara"
    if self.is_hara:
      self.conv1 = nn.Conv3d(3, width, 7, (1, 2, 2), 3, bias=False)
      self.bn1 = nn.BatchNorm3d(width)
    else:
      conv = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
      self.stem = nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU())
    block = HaraBlock if self.is_hara else TorchvisionBlock
    inputs = width
    for i in range(4):
      outputs = width * 2**i
      blocks = block(inputs, outputs, 1 if i == 0 else 2), block(outputs, outputs, 1)
      setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
      inputs = outputs
    self.fc = nn.Linear(inputs, num_classes)

  def forward(self, x):
    x = functional.max_pool3d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1) if self.is_hara else self.stem(x)
    features = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3, 4))
    return self.fc(features), features


class Bottleneck(nn.Module):
  def __init__(self, inputs: int, features: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv2d(inputs, features, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(features)
    self.conv2 = nn.Conv2d(features, features, 3, stride, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(features)
    self.conv3 = nn.Conv2d(features, 4 * features, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * features)
    self.downsample = None
    if stride != 1 or inputs != 4 * features:
      conv = nn.Conv2d(inputs, 4 * features, 1, stride, bias=False)
      self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * features))

  def forward(self, x):
    y = functional.relu(self.bn1(self.conv1(x)))
    y = self.bn3(self.conv3(functional.relu(self.bn2(self.conv2(y)))))
    return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
  """torchvision's resnet50 (v1.5) on images [N, 3, H, W]; returns (logits, features)."""

  def __init__(self, num_classes: int = 1000, width: int = 64):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    inputs = width
    for i, count in enumerate((3, 4, 6, 3)):
      features = width * 2**i
      blocks = []
      for j in range(count):
        blocks.append(Bottleneck(inputs, features, 2 if i > 0 and j == 0 else 1))
        inputs = 4 * features
      setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
    self.fc = nn.Linear(inputs, num_classes)

  def forward(self, x):
    x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
    features = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
    return self.fc(features), features


class TSN(ResNet50):
  """A ResNet-50 on the middle frames of the segments, averaged; its state dict is the ResNet's."""

  def __init__(self, num_classes: int, segments: int = 3, width: int = 64):
    super().__init__(num_classes, width)
    self.segments = segments

  def forward(self, x):
    # The middle of a segment of `tick` frames: int(tick / 2 + tick * s).
    tick = x.shape[2] / self.segments
    outputs = [super(TSN, self).forward(x[:, :, int(tick / 2 + tick * s)]) for s in range(self.segments)]
    return tuple(sum(parts) / self.segments for parts in zip(*outputs, strict=True))


def tsn_release(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
  """A ResNet-50's state dict as TSN's code saves it: below `base_model.`, the last layer called `new_fc`."""
  return {
    name.replace("fc.", "new_fc.") if name.startswith("fc.") else f"base_model.{name}": value
    for name, value in state.items()
  }


def build(network: nn.Module, *, seed: int, unit_gain: bool = False) -> nn.Module:
  """Fills a network with values of numpy's generator and puts it into evaluation mode.

  Kernels keep the signal's size (He); batch statistics, gains and offsets are far from 0 and 1. `unit_gain` leaves
  gains of batch normalisation at 1, as the releases of I3D have them.
  """
  generator = np.random.default_rng(seed)
  with torch.no_grad():
    for name, value in network.state_dict().items():
      kind = name.rsplit(".", 1)[1]
      shape = tuple(value.shape)
      if kind == "num_batches_tracked":
        continue
      if kind == "running_var":
        drawn = generator.uniform(0.5, 2.0, shape)
      elif kind == "running_mean" or kind == "bias":
        drawn = generator.normal(0.0, 0.2, shape)
      elif value.ndim == 1:
        drawn = np.ones(shape) if unit_gain else generator.uniform(0.7, 1.3, shape)
      else:
        drawn = generator.normal(0.0, math.sqrt(2.0 / np.prod(shape[1:])), shape)
      value.copy_(torch.from_numpy(np.asarray(drawn, np.float32)))
  return network.eval()


class PwcNet(nn.Module):
  """PWC-Net; the names are those of the PyTorch release, `deconv2` included, which nothing reads."""

  DECODER = (128, 128, 96, 64, 32)

  def __init__(self, *, width: float = 1.0):
    super().__init__()
    pyramid = [3, *(round(width * n) for n in (16, 32, 64, 96, 128, 196))]
    decoder = [round(width * n) for n in self.DECODER]

    def conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
      return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation), nn.LeakyReLU(0.1))

    for level in range(1, 7):
      coarse, fine = pyramid[level - 1], pyramid[level]
      names = ("aa", "a", "b") if level == 6 else ("a", "aa", "b")
      for name, inputs, stride in zip(names, (coarse, fine, fine), (2, 1, 1), strict=True):
        self.add_module(f"conv{level}{name}", conv(inputs, fine, stride))
    for level in range(6, 1, -1):
      size = 81 + (pyramid[level] + 4 if level < 6 else 0)
      for i, channels in enumerate(decoder):
        self.add_module(f"conv{level}_{i}", conv(size, channels))
        size += channels
      self.add_module(f"predict_flow{level}", nn.Conv2d(size, 2, 3, 1, 1))
      self.add_module(f"deconv{level}", nn.ConvTranspose2d(2, 2, 4, 2, 1))
      if level > 2:
        self.add_module(f"upfeat{level}", nn.ConvTranspose2d(size, 2, 4, 2, 1))
    for i, (channels, dilation) in enumerate(((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1)), 1):
      channels = round(width * channels)
      self.add_module(f"dc_conv{i}", conv(size, channels, dilation=dilation))
      size = channels
    self.dc_conv7 = nn.Conv2d(size, 2, 3, 1, 1)

  def features(self, image):
    found = []
    for level in range(1, 7):
      for name in ("aa", "a", "b") if level == 6 else ("a", "aa", "b"):
        image = getattr(self, f"conv{level}{name}")(image)
      found.append(image)
    return found

  @staticmethod
  def correlation(first, second):
    """Mean over channels, by a loop over displacements in row-major order, like the published CUDA kernel."""
    _, _, height, width = first.shape
    volume = first.new_zeros(first.shape[0], 81, height, width)
    for y in range(height):
      for x in range(width):
        for i in range(81):
          v, u = y + i // 9 - 4, x + i % 9 - 4
          if 0 <= v < height and 0 <= u < width:
            volume[:, i, y, x] = (first[:, :, y, x] * second[:, :, v, u]).mean(dim=1)
    return volume

  @staticmethod
  def warp(features, flow):
    _, _, height, width = features.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([x, y]).float()[None] + flow
    grid = 2 * positions / torch.tensor([width - 1.0, height - 1.0]).view(1, 2, 1, 1) - 1
    read = functools.partial(functional.grid_sample, grid=grid.permute(0, 2, 3, 1), align_corners=True)
    return read(features) * (read(torch.ones_like(features)) >= 0.999)

  def forward(self, first, second):
    """From BGR in [0, 1] with sides divisible by 64 to a twentieth of the flow at a quarter of the size."""
    ours, theirs = self.features(first), self.features(second)
    x, flow = functional.leaky_relu(self.correlation(ours[5], theirs[5]), 0.1), None
    for level in range(6, 1, -1):
      if level < 6:
        flow, hint = getattr(self, f"deconv{level + 1}")(flow), getattr(self, f"upfeat{level + 1}")(x)
        warped = self.warp(theirs[level - 1], flow * {5: 0.625, 4: 1.25, 3: 2.5, 2: 5.0}[level])
        volume = functional.leaky_relu(self.correlation(ours[level - 1], warped), 0.1)
        x = torch.cat([volume, ours[level - 1], flow, hint], dim=1)
      for i in range(5):
        x = torch.cat([getattr(self, f"conv{level}_{i}")(x), x], dim=1)
      flow = getattr(self, f"predict_flow{level}")(x)
    for i in range(1, 7):
      x = getattr(self, f"dc_conv{i}")(x)
    return flow + self.dc_conv7(x)
