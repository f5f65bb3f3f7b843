"""MVT-GAN in PyTorch (Munoz et al., arXiv:2004.01823)."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_networks import layers
from benchmarks.torch_networks.layers import Conv, Dense, Embed, to_layout
from benchmarks.torch_networks.training import Losses, System, Update, hinge_losses
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig


class SequenceGenerator(nn.Module):
  """A linear map, a GRU that receives its own output, and a batch normalisation for each time step."""

  def __init__(self, features: int, hidden: int, num_frames: int, *, spectral_norm: bool):
    super().__init__()
    self.num_frames, self.hidden = num_frames, hidden
    self.input, self.output = (Dense(features, size, spectral_norm=spectral_norm) for size in (features, hidden))
    self.of_input, self.of_state = nn.Linear(features, 3 * hidden), nn.Linear(hidden, 3 * hidden, bias=False)
    # Reset and update gate have one bias, which PyTorch's own cell would have twice.
    self.candidate_bias = nn.Parameter(torch.zeros(hidden))
    self.norm = layers.BatchNorm(features * num_frames, affine=False)

  def forward(self, latent: Tensor) -> Tensor:
    """Maps [B, d] to [B, T, d]."""
    x = self.input(latent)
    bias = functional.pad(self.candidate_bias, (2 * self.hidden, 0))
    weights: list[Any] = [self.of_input.weight, self.of_state.weight, self.of_input.bias, bias]
    weights += [self.output.normalised(), self.output.bias]
    *cell, weight, offset = (w.to(x.dtype) for w in weights)
    state, outputs = x.new_zeros(len(x), self.hidden), []
    with layers.full_precision(x):
      for _ in range(self.num_frames):
        state = torch.gru_cell(x, state, *cell)
        x = functional.linear(state, weight, offset)
        outputs.append(x)
      return self.norm(torch.cat(outputs, dim=1).float()).unflatten(1, (self.num_frames, -1))


class FrameGenerator(nn.Module):
  """BigGAN's generator of a frame from each condition; the first blocks may shift channels in time."""

  def __init__(
    self,
    condition: int,
    widths: Sequence[int],
    side: int,
    channels: int,
    *,
    attention_after: int,
    shift: Sequence[Sequence[int]],
    conditional_bias: bool,
  ):
    super().__init__()
    self.shape, self.attention_after = (widths[0], side, side), attention_after
    self.input = Dense(math.prod(self.shape), condition)
    triples = zip(widths, widths[1:], shift, strict=False)
    self.blocks = nn.ModuleList(
      layers.GeneratorBlock(inputs, width, condition, upsample=True, shift=shifted, conditional_bias=conditional_bias)
      for inputs, width, shifted in triples
    )
    self.attention = layers.SelfAttention(widths[attention_after + 1]) if attention_after >= 0 else None
    self.output_norm = layers.BatchNorm(widths[-1])
    self.output = Conv(channels, widths[-1], 3, 3)

  def forward(self, condition: Tensor, channels_last: bool) -> Tensor:
    """Maps conditions [B T, D] to frames [B T, C, H, W]."""
    x = to_layout(self.input(condition).unflatten(1, self.shape), channels_last)
    for i, block in enumerate(self.blocks):
      x = block(x, condition)
      if self.attention is not None and i == self.attention_after:
        x = self.attention(x)
    return torch.tanh(self.output(functional.relu_(self.output_norm(x))).float())


class Generator(nn.Module):
  """Clips of a class from one latent per clip."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool):
    super().__init__()
    c: Any = config.algorithm
    num_frames, self.channels_last = config.data.num_frames, channels_last
    features = sum(c.latent_sizes)
    self.class_embedding = Embed(c.num_classes, c.class_features, bias=False, spectral_norm=c.embedding_spectral_norm)
    self.sequence = SequenceGenerator(features, c.hidden_features, num_frames, spectral_norm=c.sequence_spectral_norm)
    blocks = len(c.generator_multipliers) - 1
    self.frames = FrameGenerator(
      features + c.class_features,
      [c.generator_channels * m for m in c.generator_multipliers],
      config.data.resolution // 2**blocks,
      c.channels,
      attention_after=c.generator_attention,
      shift=[(num_frames, c.shift_divisor) if i < c.shifted_blocks else () for i in range(blocks)],
      conditional_bias=c.conditional_bias,
    )

  def forward(self, latent: Tensor, label: Tensor) -> Tensor:
    """Maps latents [B, d] and labels [B] to clips [B, T, C, H, W]."""
    sequence = self.sequence(latent)
    embedded = self.class_embedding(label)[:, None].expand(-1, sequence.shape[1], -1)
    frames = self.frames(torch.cat([sequence, embedded], dim=2).flatten(0, 1), self.channels_last)
    return frames.unflatten(0, (len(label), -1))


class VideoDiscriminator(nn.Module):
  """4x4x4 convolutions of stride 2, all but the first with batch normalisation if wanted, and a projection head."""

  def __init__(self, channels: int, widths: Sequence[int], num_classes: int, *, batch_norm: bool, channels_last: bool):
    super().__init__()
    self.channels_last = channels_last
    pairs = zip((channels, *widths), widths, strict=False)
    self.kernels = nn.ModuleList(Conv(width, inputs, 4, 4, 4, bias=not batch_norm) for inputs, width in pairs)
    for i, width in enumerate(widths):
      self.add_module(f"norm_{i}", layers.BatchNorm(width) if batch_norm and i else nn.Identity())
    self.output = Dense(1, widths[-1])
    self.class_embedding = Embed(num_classes, widths[-1], bias=False)

  def forward(self, video: Tensor, label: Tensor) -> Tensor:
    """Logits [B] of clips [B, T, C, H, W]."""
    x = to_layout(video.transpose(1, 2), self.channels_last)
    kernels: Any = self.kernels
    for i, kernel in enumerate(kernels):
      x = functional.conv3d(x, kernel.normalised(), kernel.bias, stride=2, padding=1)
      x = self.get_submodule(f"norm_{i}")(x)
      x = functional.leaky_relu_(x, 0.2)
    with layers.full_precision(x):
      features = x.float().sum(dim=(2, 3, 4))
      return self.output(features)[:, 0] + (features * self.class_embedding(label)).sum(dim=1)


class Mvt(System):
  """The losses of MVT-GAN."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool = False):
    super().__init__(config, channels_last=channels_last)
    c = self.c
    if c.motion_constraint:
      raise UserError("the PyTorch version has no motion constraint: set --config.algorithm.motion_constraint=0")
    scales = [torch.full((size,), float(scale)) for scale, size in zip(c.latent_scales, c.latent_sizes, strict=True)]
    self.scales = torch.cat(scales)
    self.nets |= {
      "generator": Generator(config, channels_last=channels_last),
      "image_disc": layers.ResidualDiscriminator(
        c.channels,
        [c.image_discriminator_channels * m for m in c.image_discriminator_multipliers],
        c.num_classes,
        attention_after=c.image_discriminator_attention,
        channels_last=channels_last,
      ),
      "video_disc": VideoDiscriminator(
        c.channels,
        c.video_discriminator_widths,
        c.num_classes,
        batch_norm=c.video_discriminator_batch_norm,
        channels_last=channels_last,
      ),
    }

  def updates(self) -> tuple[Update, ...]:
    c = self.c
    return (
      Update(
        "disc", ["image_disc", "video_disc"], self.discriminator_loss, c.discriminator_optimizer, c.discriminator_steps
      ),
      Update("gen", ["generator"], self.generator_loss, c.generator_optimizer),
    )

  def fake_video(self, label: Tensor) -> Tensor:
    """Clips [B, T, C, H, W] of the classes."""
    self.scales = self.scales.to(label.device)
    return self.run["generator"](torch.randn(len(label), len(self.scales), device=label.device) * self.scales, label)

  def discriminator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eqs. 2 and 3, summed over both discriminators."""
    with torch.no_grad():
      fake = self.fake_video(label)
    labels = torch.cat([label, label])
    nets = {name: functools.partial(self._score_pairs, name, labels) for name in ("image_disc", "video_disc")}
    return hinge_losses(nets, self._inputs(video), self._inputs(fake))

  def generator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """The sum over discriminators of -mean D(fake)."""
    del video
    inputs = self._inputs(self.fake_video(label))
    metrics = {f"{name}/loss": -self._score(name, label, x).mean() for name, x in inputs.items()}
    return torch.stack(list(metrics.values())).sum(), metrics

  def _score_pairs(self, name: str, label: Tensor, videos: Tensor) -> tuple[Tensor, ...]:
    if name == "video_disc" and self.c.video_discriminator_batch_norm:
      # Real and generated clips have their own statistics.
      return tuple(self._score(name, *half) for half in zip(label.chunk(2), videos.chunk(2), strict=True))
    return self._score(name, label, videos).chunk(2)

  def _score(self, name: str, label: Tensor, video: Tensor) -> Tensor:
    scores = self.run[name](video, label)
    return scores if name == "video_disc" else scores[0] + scores[1]

  def _inputs(self, video: Tensor) -> dict[str, Tensor]:
    return {"image_disc": layers.random_frames(video, self.c.frames_per_clip), "video_disc": video}
