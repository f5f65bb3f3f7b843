"""Layers in PyTorch, in train mode only: clips are [B, T, C, H, W], frames [B T, C, H, W].

Written from the papers' equations; parameters have the names of the Flax modules.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def full_precision(x: Tensor) -> torch.autocast:
  """A context in which autocast is off."""
  return torch.autocast(x.device.type, enabled=False)


def to_layout(x: Tensor, channels_last: bool) -> Tensor:
  """Frames or clips [B, C, (T,) H, W] in one memory layout."""
  last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
  return x.contiguous(memory_format=last if channels_last else torch.contiguous_format)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
  """SAME convolution with an odd kernel [out, in, (kt,) kh, kw]."""
  function = functional.conv2d if weight.ndim == 4 else functional.conv3d
  return function(x, weight, bias, padding=tuple(size // 2 for size in weight.shape[2:]))


class Weight(nn.Module):
  """A weight [out, in, ...] with a bias; each use of `normalised` is one power iteration (Miyato et al. 2018)."""

  def __init__(self, *shape: int, bias: bool = True, spectral_norm: bool = True):
    super().__init__()
    self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(shape)))
    self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
    self.u = nn.Buffer(_unit(torch.randn(self.matrix().shape[0]))) if spectral_norm else None

  def matrix(self) -> Tensor:
    """The weight as a matrix [features, inputs]."""
    return self.weight.flatten(1)

  def normalised(self) -> Tensor:
    """The weight divided by the estimate of its largest singular value, if it has a spectral norm."""
    if self.u is None:
      return self.weight
    with full_precision(self.weight):
      matrix = self.matrix()
      with torch.no_grad():
        v = _unit(torch.mv(matrix.t(), self.u))
        u = _unit(torch.mv(matrix, v))
        self.u.copy_(u)
      return self.weight / torch.dot(u, torch.mv(matrix, v))


def _unit(vector: Tensor) -> Tensor:
  return vector * torch.rsqrt(torch.dot(vector, vector) + 1e-12)


class Conv(Weight):
  """SAME convolution of frames [N, C, H, W], or of clips [N, C, T, H, W] with a 3-D kernel."""

  def forward(self, x: Tensor) -> Tensor:
    return convolve(x, self.normalised(), self.bias)


class Dense(Weight):
  """Linear map of the last axis."""

  def forward(self, x: Tensor) -> Tensor:
    return functional.linear(x, self.normalised(), self.bias)


class Embed(Weight):
  """A vector [features] per class int [B]; the normalised matrix is the transpose of the weight."""

  def matrix(self) -> Tensor:
    return self.weight.t()

  def forward(self, label: Tensor) -> Tensor:
    return functional.embedding(label, self.normalised())


class BatchNorm(nn.Module):
  """Batch normalisation of frames, with statistics per time step if `num_frames` is not 0."""

  def __init__(self, features: int, num_frames: int = 0, *, affine: bool = True):
    super().__init__()
    self.num_frames = num_frames
    self.weight = nn.Parameter(torch.ones(features)) if affine else None
    self.bias = nn.Parameter(torch.zeros(features)) if affine else None
    self.mean = nn.Buffer(torch.zeros(features * (num_frames or 1)))
    self.var = nn.Buffer(torch.ones(features * (num_frames or 1)))

  def forward(self, x: Tensor) -> Tensor:
    """Normalises [N, C, ...], where N is B * num_frames."""
    weight, bias, steps = self.weight, self.bias, x
    if self.num_frames and not x.is_contiguous():
      return self._channels_last(x)
    if self.num_frames:
      steps = x.view(-1, self.num_frames * x.shape[1], *x.shape[2:])
      weight, bias = (gain if gain is None else gain.repeat(self.num_frames) for gain in (weight, bias))
    return functional.batch_norm(steps, self.mean, self.var, weight, bias, training=True).view_as(x)

  def _channels_last(self, x: Tensor) -> Tensor:
    # In this layout time and channels cannot be merged without copying.
    steps = x.unflatten(0, (-1, self.num_frames))
    with full_precision(x):
      var, mean = torch.var_mean(steps.float(), dim=(0, 3, 4), correction=0, keepdim=True)
      with torch.no_grad():
        self.mean.lerp_(mean.flatten(), 0.1)
        self.var.lerp_(var.flatten(), 0.1)
      scale = torch.rsqrt(var + 1e-5) * (1.0 if self.weight is None else self.weight[:, None, None])
      offset = -mean * scale + (0.0 if self.bias is None else self.bias[:, None, None])
    return torch.addcmul(offset.to(x.dtype), steps, scale.to(x.dtype)).flatten(0, 1)


class ConditionalBatchNorm(nn.Module):
  """Batch normalisation of frames with scale 1 + W c and offset V c, then ReLU; conditions are [B, D] or [B T, D].

  With `bias` both linear maps have biases.
  """

  def __init__(self, features: int, condition: int, num_frames: int, *, bias: bool = False, **options: bool):
    super().__init__()
    self.scale, self.offset = (Dense(features, condition, bias=bias, **options) for _ in range(2))
    self.norm = BatchNorm(features, num_frames, affine=False)

  def forward(self, x: Tensor, condition: Tensor) -> Tensor:
    scale, offset = (gain(condition)[:, None, :, None, None] for gain in (self.scale, self.offset))
    y = torch.addcmul(offset, self.norm(x).unflatten(0, (len(condition), -1)), 1 + scale)
    return functional.relu_(y.flatten(0, 1))


def temporal_shift(x: Tensor, num_frames: int, divisor: int) -> Tensor:
  """Shifts a part of the channels of frames forward, and an equal part backward in time (Lin et al. 2019)."""
  clips, moved = x.unflatten(0, (-1, num_frames)), x.shape[1] // divisor
  shifted = torch.zeros_like(clips)
  shifted[:, 1:, :moved] = clips[:, :-1, :moved]
  shifted[:, :-1, moved : 2 * moved] = clips[:, 1:, moved : 2 * moved]
  shifted[:, :, 2 * moved :] = clips[:, :, 2 * moved :]
  return shifted.flatten(0, 1)


class GeneratorBlock(nn.Module):
  """BigGAN's residual block of the generator; `norm_frames` as in `BatchNorm`, `shift` is (frames, divisor) or ().

  Maps frames [B T, C, H, W] and conditions [B, D] or [B T, D] to [B T, features, H', W'].
  """

  def __init__(
    self,
    inputs: int,
    features: int,
    condition: int,
    *,
    upsample: bool,
    norm_frames: int = 0,
    shift: Sequence[int] = (),
    conditional_bias: bool = False,
    **options: bool,
  ):
    super().__init__()
    self.upsample, self.shift = upsample, tuple(shift)
    self.norm_0 = ConditionalBatchNorm(inputs, condition, norm_frames, bias=conditional_bias, **options)
    self.conv_0 = Conv(features, inputs, 3, 3, **options)
    self.norm_1 = ConditionalBatchNorm(features, condition, norm_frames, bias=conditional_bias, **options)
    self.conv_1 = Conv(features, features, 3, 3, **options)
    self.conv_shortcut = Conv(features, inputs, 1, 1, **options) if upsample or inputs != features else nn.Identity()

  def forward(self, x: Tensor, condition: Tensor) -> Tensor:
    y = self.norm_0(temporal_shift(x, *self.shift) if self.shift else x, condition)
    y = self.norm_1(self.conv_0(self._upsample(y)), condition)
    return self.conv_1(y).add_(self._upsample(self.conv_shortcut(x)))

  def _upsample(self, x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest") if self.upsample else x


class DiscriminatorBlock(nn.Module):
  """BigGAN's residual block of the discriminator: [N, C, (T,) H, W] to [N, features, (T',) H', W'].

  `rank` is 2 for frames or 3 for clips; `pool` divides (T,) H, W, () for no pooling.
  """

  def __init__(self, inputs: int, features: int, *, first: bool, pool=(2, 2), rank: int = 2, **options: bool):
    super().__init__()
    self.first, self.window = first, pool
    self.conv_0 = Conv(features, inputs, *[3] * rank, **options)
    self.conv_1 = Conv(features, features, *[3] * rank, **options)
    changes = pool or inputs != features
    self.conv_shortcut = Conv(features, inputs, *[1] * rank, **options) if changes else nn.Identity()

  def forward(self, x: Tensor) -> Tensor:
    y = self.conv_0(x if self.first else functional.relu(x))
    return self._pool(self.conv_1(functional.relu_(y))) + self.conv_shortcut(self._pool(x))

  def _pool(self, x: Tensor) -> Tensor:
    pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
    return pool(x, self.window) if self.window else x


class SelfAttention(nn.Module):
  """Self-attention within each frame of [N, C, H, W] (Zhang et al. 2019)."""

  def __init__(self, features: int):
    super().__init__()
    self.theta, self.phi = (Conv(features // 8, features, 1, 1, bias=False) for _ in range(2))
    self.g = Conv(features // 2, features, 1, 1, bias=False)
    self.output = Conv(features, features // 2, 1, 1, bias=False)
    self.gamma = nn.Parameter(torch.zeros(()))

  def forward(self, x: Tensor) -> Tensor:
    theta, phi, g = self.theta(x), functional.max_pool2d(self.phi(x), 2), functional.max_pool2d(self.g(x), 2)
    weights = torch.bmm(theta.flatten(2).transpose(1, 2), phi.flatten(2)).softmax(dim=-1)
    attended = torch.bmm(g.flatten(2), weights.to(g.dtype).transpose(1, 2))
    return x + self.gamma * self.output(attended.unflatten(2, x.shape[2:]))


class ResidualDiscriminator(nn.Module):
  """BigGAN's discriminator, with 3-D convolutions in its first blocks for clips."""

  def __init__(
    self,
    channels: int,
    widths: Sequence[int],
    num_classes: int,
    *,
    temporal_blocks: int = 0,
    downsample_time: bool = False,
    attention_after: int = -1,
    channels_last: bool = False,
    **options: bool,
  ):
    super().__init__()
    self.temporal_blocks, self.attention_after, self.channels_last = temporal_blocks, attention_after, channels_last
    self.blocks = nn.ModuleList()
    for i, (inputs, width) in enumerate(zip((channels, *widths), widths, strict=False)):
      rank = 3 if i < temporal_blocks else 2
      pool = (1 + downsample_time, 2, 2)[3 - rank :] if i < len(widths) - 1 else ()
      self.blocks.append(DiscriminatorBlock(inputs, width, first=i == 0, pool=pool, rank=rank, **options))
    self.attention = SelfAttention(widths[attention_after]) if attention_after >= 0 else None
    self.output = Dense(1, widths[-1], **options)
    self.class_embedding = Embed(num_classes, widths[-1], bias=False, **options)

  def forward(self, video: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Unconditional and conditional scores [B, T] of clips or sets of frames [B, T, C, H, W] with labels [B]."""
    x = to_layout(video.transpose(1, 2) if self.temporal_blocks else video.flatten(0, 1), self.channels_last)
    for i, block in enumerate(self.blocks):
      x = block(x)
      if i + 1 == self.temporal_blocks:
        x = to_layout(x.transpose(1, 2).flatten(0, 1), self.channels_last)
      if self.attention is not None and i == self.attention_after:
        x = self.attention(x)
    with full_precision(x):
      features = functional.relu(x).float().sum(dim=(2, 3)).unflatten(0, (len(video), -1))
      conditional = torch.bmm(features, self.class_embedding(label)[:, :, None])[..., 0]
      return self.output(features)[..., 0], conditional


def take(x: Tensor, index: Tensor, dim: int) -> Tensor:
  """Entries of one axis of [B, ...], chosen for each example by int [B, K]."""
  shape = [len(index), *[1] * (x.ndim - 1)]
  shape[dim] = index.shape[1]
  return torch.gather(x, dim, index.view(shape).expand(*x.shape[:dim], -1, *x.shape[dim + 1 :]))


def random_frames(video: Tensor, count: int) -> Tensor:
  """Distinct frames of each clip [B, T, C, H, W], in temporal order."""
  return take(video, torch.rand(video.shape[:2], device=video.device).argsort(dim=1)[:, :count].sort(dim=1).values, 1)


def random_crop(video: Tensor, height: int, width: int) -> Tensor:
  """A window of each clip [B, T, C, H, W] at a random position."""
  for dim, size in ((3, height), (4, width)):
    start = torch.randint(video.shape[dim] - size + 1, (len(video), 1), device=video.device)
    video = take(video, start + torch.arange(size, device=video.device), dim)
  return video


def orthogonality(module: nn.Module) -> Tensor:
  """Sum over kernels of the squared norm of the off-diagonal part of W^T W (BigGAN, eq. 3)."""
  kernels = [part.matrix() for part in module.modules() if isinstance(part, Weight) and not isinstance(part, Embed)]
  # The smaller of the two products has the same norm.
  grams = [k @ k.t() if k.shape[0] <= k.shape[1] else k.t() @ k for k in kernels]
  norms = [gram.square().sum() - k.square().sum(dim=1).square().sum() for gram, k in zip(grams, kernels, strict=True)]
  return torch.stack(norms).sum()
