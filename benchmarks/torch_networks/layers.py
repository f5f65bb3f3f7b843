"""Layers of the compared networks in PyTorch, in train mode only; clips are [B, T, C, H, W], frames [B T, C, H, W].

Written from the papers' equations. Parameters have the names of the Flax modules.
"""

import math
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
    self.spectral_norm = spectral_norm
    if spectral_norm:
      self.register_buffer("u", functional.normalize(torch.randn(self.matrix().shape[0]), dim=0))

  def matrix(self) -> Tensor:
    """The weight as a matrix [features, inputs]."""
    return self.weight.flatten(1)

  def normalised(self) -> Tensor:
    """The weight divided by the estimate of its largest singular value."""
    if not self.spectral_norm:
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
  """SAME convolution of frames, or of clips with a 3-D kernel."""

  def forward(self, x: Tensor) -> Tensor:
    """Maps [N, C, (T,) H, W] to [N, features, (T,) H, W]."""
    return convolve(x, self.normalised(), self.bias)


class Dense(Weight):
  """Linear map of the last axis."""

  def forward(self, x: Tensor) -> Tensor:
    """Maps [..., C] to [..., features]."""
    return functional.linear(x, self.normalised(), self.bias)


class Embed(Weight):
  """A vector per class; the rows are the inputs of the normalised matrix."""

  def __init__(self, num_classes: int, features: int, *, spectral_norm: bool = True):
    super().__init__(num_classes, features, bias=False, spectral_norm=spectral_norm)

  def matrix(self) -> Tensor:
    return self.weight.t()

  def forward(self, label: Tensor) -> Tensor:
    """Maps int [B] to [B, features]."""
    return functional.embedding(label, self.normalised())


class BatchNorm(nn.Module):
  """Batch normalisation of frames, with statistics per time step if `num_frames` is given."""

  def __init__(self, features: int, *, num_frames: int | None = None, affine: bool = True):
    super().__init__()
    self.num_frames = num_frames
    self.weight = nn.Parameter(torch.ones(features)) if affine else None
    self.bias = nn.Parameter(torch.zeros(features)) if affine else None
    self.register_buffer("mean", torch.zeros(features * (num_frames or 1)))
    self.register_buffer("var", torch.ones(features * (num_frames or 1)))

  def forward(self, x: Tensor) -> Tensor:
    """Normalises [N, C, ...], where N is B * num_frames."""
    if self.num_frames is None:
      return functional.batch_norm(x, self.mean, self.var, self.weight, self.bias, training=True)
    if x.is_contiguous():
      weight, bias = (None if gain is None else gain.repeat(self.num_frames) for gain in (self.weight, self.bias))
      steps = x.view(-1, self.num_frames * x.shape[1], *x.shape[2:])
      return functional.batch_norm(steps, self.mean, self.var, weight, bias, training=True).view(x.shape)
    return self._channels_last(x)

  def _channels_last(self, x: Tensor) -> Tensor:
    # In this layout time and channels cannot be merged without copying.
    steps = x.unflatten(0, (-1, self.num_frames))
    with full_precision(x):
      var, mean = torch.var_mean(steps.float(), dim=(0, 3, 4), correction=0, keepdim=True)
      with torch.no_grad():
        self.mean.lerp_(mean.flatten(), 0.1)
        self.var.lerp_(var.flatten(), 0.1)
      scale = torch.rsqrt(var + 1e-5)
      if self.weight is not None:
        scale = scale * self.weight[:, None, None]
      offset = -mean * scale
      if self.bias is not None:
        offset = offset + self.bias[:, None, None]
    return torch.addcmul(offset.to(x.dtype), steps, scale.to(x.dtype)).flatten(0, 1)


class ConditionalBatchNorm(nn.Module):
  """Batch normalisation with scale 1 + W c and offset V c, followed by a ReLU."""

  def __init__(self, features: int, condition: int, *, num_frames: int | None, spectral_norm: bool):
    super().__init__()
    self.scale = Dense(features, condition, bias=False, spectral_norm=spectral_norm)
    self.offset = Dense(features, condition, bias=False, spectral_norm=spectral_norm)
    self.norm = BatchNorm(features, num_frames=num_frames, affine=False)

  def forward(self, x: Tensor, condition: Tensor) -> Tensor:
    """Normalises frames [B T, C, H, W] with conditions [B, D] or [B T, D]."""
    lead = (condition.shape[0], -1)
    scale, offset = (gain(condition)[:, None, :, None, None] for gain in (self.scale, self.offset))
    y = torch.addcmul(offset, self.norm(x).unflatten(0, lead), 1 + scale)
    return functional.relu_(y.flatten(0, 1))


def temporal_shift(x: Tensor, num_frames: int) -> Tensor:
  """Shifts a third of the channels of frames forward, and a third backward in time (Lin et al. 2019)."""
  clips = x.unflatten(0, (-1, num_frames))
  moved = x.shape[1] // 3
  shifted = torch.zeros_like(clips)
  shifted[:, 1:, :moved] = clips[:, :-1, :moved]
  shifted[:, :-1, moved : 2 * moved] = clips[:, 1:, moved : 2 * moved]
  shifted[:, :, 2 * moved :] = clips[:, :, 2 * moved :]
  return shifted.flatten(0, 1)


class GeneratorBlock(nn.Module):
  """BigGAN's residual block of the generator; statistics per time step if `num_frames` is given."""

  def __init__(
    self,
    inputs: int,
    features: int,
    condition: int,
    *,
    upsample: bool,
    num_frames: int | None = None,
    shifted_frames: int = 0,
    spectral_norm: bool = True,
  ):
    super().__init__()
    norm = {"num_frames": num_frames, "spectral_norm": spectral_norm}
    self.upsample, self.shifted_frames = upsample, shifted_frames
    self.norm_0 = ConditionalBatchNorm(inputs, condition, **norm)
    self.conv_0 = Conv(features, inputs, 3, 3, spectral_norm=spectral_norm)
    self.norm_1 = ConditionalBatchNorm(features, condition, **norm)
    self.conv_1 = Conv(features, features, 3, 3, spectral_norm=spectral_norm)
    if upsample or inputs != features:
      self.conv_shortcut = Conv(features, inputs, 1, 1, spectral_norm=spectral_norm)

  def forward(self, x: Tensor, condition: Tensor) -> Tensor:
    """Maps frames [B T, C, H, W] and conditions [B, D] or [B T, D] to [B T, features, H', W']."""
    y = temporal_shift(x, self.shifted_frames) if self.shifted_frames else x
    y = self.norm_0(y, condition)
    if self.upsample:
      y = functional.interpolate(y, scale_factor=2, mode="nearest")
    y = self.conv_1(self.norm_1(self.conv_0(y), condition))
    shortcut = self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x
    if self.upsample:
      shortcut = functional.interpolate(shortcut, scale_factor=2, mode="nearest")
    return y.add_(shortcut)


class DiscriminatorBlock(nn.Module):
  """BigGAN's residual block of the discriminator, of frames or, with `temporal`, of clips."""

  def __init__(
    self,
    inputs: int,
    features: int,
    *,
    preactivation: bool,
    downsample: bool = True,
    temporal: bool = False,
    downsample_time: bool = False,
    spectral_norm: bool = True,
  ):
    super().__init__()
    rank = 3 if temporal else 2
    self.preactivation = preactivation
    self.window = ((2 if downsample_time else 1,) if temporal else ()) + (2, 2) if downsample else None
    self.conv_0 = Conv(features, inputs, *[3] * rank, spectral_norm=spectral_norm)
    self.conv_1 = Conv(features, features, *[3] * rank, spectral_norm=spectral_norm)
    if downsample or inputs != features:
      self.conv_shortcut = Conv(features, inputs, *[1] * rank, spectral_norm=spectral_norm)

  def forward(self, x: Tensor) -> Tensor:
    """Maps [N, C, (T,) H, W] to [N, features, (T',) H', W']."""
    y = self.conv_0(functional.relu(x) if self.preactivation else x)
    y = self._pool(self.conv_1(functional.relu_(y)))
    shortcut = self._pool(x)
    return y + (self.conv_shortcut(shortcut) if hasattr(self, "conv_shortcut") else shortcut)

  def _pool(self, x: Tensor) -> Tensor:
    if self.window is None:
      return x
    return functional.avg_pool2d(x, 2) if x.ndim == 4 else functional.avg_pool3d(x, self.window)


class SelfAttention(nn.Module):
  """Self-attention within each frame (Zhang et al. 2019)."""

  def __init__(self, features: int):
    super().__init__()
    self.theta, self.phi = (Conv(features // 8, features, 1, 1, bias=False) for _ in range(2))
    self.g = Conv(features // 2, features, 1, 1, bias=False)
    self.output = Conv(features, features // 2, 1, 1, bias=False)
    self.gamma = nn.Parameter(torch.zeros(()))

  def forward(self, x: Tensor) -> Tensor:
    """Maps frames [N, C, H, W] to the same shape."""
    theta, phi, g = self.theta(x), functional.max_pool2d(self.phi(x), 2), functional.max_pool2d(self.g(x), 2)
    weights = torch.bmm(theta.flatten(2).transpose(1, 2), phi.flatten(2)).softmax(dim=-1)
    attended = torch.bmm(g.flatten(2), weights.to(g.dtype).transpose(1, 2))
    return x + self.gamma * self.output(attended.unflatten(2, x.shape[2:]))


class ResidualDiscriminator(nn.Module):
  """BigGAN's discriminator; returns the unconditional and the conditional score, both [B, T]."""

  def __init__(
    self,
    channels: int,
    widths: Sequence[int],
    *,
    num_classes: int,
    temporal_blocks: int = 0,
    downsample_time: bool = False,
    attention_after: int = -1,
    spectral_norm: bool = True,
    channels_last: bool = False,
  ):
    super().__init__()
    self.temporal_blocks, self.attention_after, self.channels_last = temporal_blocks, attention_after, channels_last
    self.blocks = nn.ModuleList(
      DiscriminatorBlock(
        inputs,
        width,
        preactivation=i > 0,
        downsample=i < len(widths) - 1,
        temporal=i < temporal_blocks,
        downsample_time=downsample_time,
        spectral_norm=spectral_norm,
      )
      for i, (inputs, width) in enumerate(zip((channels, *widths), widths, strict=False))
    )
    if attention_after >= 0:
      self.attention = SelfAttention(widths[attention_after])
    self.output = Dense(1, widths[-1], spectral_norm=spectral_norm)
    self.class_embedding = Embed(num_classes, widths[-1], spectral_norm=spectral_norm)

  def forward(self, video: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Scores clips or sets of frames [B, T, C, H, W] with labels [B]."""
    x = to_layout(video.transpose(1, 2) if self.temporal_blocks else video.flatten(0, 1), self.channels_last)
    for i, block in enumerate(self.blocks):
      x = block(x)
      if i + 1 == self.temporal_blocks:
        x = to_layout(x.transpose(1, 2).flatten(0, 1), self.channels_last)
      if i == self.attention_after:
        x = self.attention(x)
    with full_precision(x):
      features = functional.relu(x).float().sum(dim=(2, 3)).unflatten(0, (video.shape[0], -1))
      conditional = torch.bmm(features, self.class_embedding(label)[:, :, None])[..., 0]
      return self.output(features)[..., 0], conditional


def take(x: Tensor, index: Tensor, dim: int) -> Tensor:
  """Entries of one axis of [B, ...], chosen for each example by int [B, K]."""
  shape = [1] * x.ndim
  shape[0], shape[dim] = index.shape
  sizes = [*x.shape[:dim], index.shape[1], *x.shape[dim + 1 :]]
  return torch.gather(x, dim, index.view(shape).expand(sizes))


def random_frames(video: Tensor, count: int) -> Tensor:
  """Distinct frames of each clip [B, T, C, H, W], in temporal order."""
  chosen = torch.rand(video.shape[:2], device=video.device).argsort(dim=1)[:, :count].sort(dim=1).values
  return take(video, chosen, 1)


def random_crop(video: Tensor, height: int, width: int) -> Tensor:
  """A window of each clip [B, T, C, H, W] at a random position."""
  for dim, size in ((3, height), (4, width)):
    limit = video.shape[dim] - size + 1
    start = torch.randint(limit, (video.shape[0], 1), device=video.device)
    video = take(video, start + torch.arange(size, device=video.device), dim)
  return video


def to_model_range(video: Tensor) -> Tensor:
  """uint8 to float32 in [-1, 1]."""
  return video.float().div_(127.5).sub_(1.0)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
  """Mean relu(1 + D(fake)) + mean relu(1 - D(real))."""
  return functional.relu(1.0 + fake).mean() + functional.relu(1.0 - real).mean()


def orthogonality(module: nn.Module) -> Tensor:
  """Sum over kernels of the squared norm of the off-diagonal part of W^T W (BigGAN, eq. 3)."""
  total = torch.zeros((), device=next(module.parameters()).device)
  for part in module.modules():
    if isinstance(part, Weight) and not isinstance(part, Embed):
      matrix = part.matrix()
      gram = matrix @ matrix.t() if matrix.shape[0] <= matrix.shape[1] else matrix.t() @ matrix
      total = total + gram.square().sum() - matrix.square().sum(dim=1).square().sum()
  return total


def flat_size(shape: Sequence[int]) -> int:
  """Number of values of a shape."""
  return math.prod(shape)
