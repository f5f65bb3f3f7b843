"""Inbetweening in PyTorch (Li et al., arXiv:1905.10240); clips inside of networks are [B, C, T, H, W]."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_networks.layers import full_precision, random_frames, to_layout
from benchmarks.torch_networks.training import Losses, System, Update
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

UP: dict[str, Any] = {"kernel_size": (3, 4, 4), "stride": (1, 2, 2), "padding": 1}
"""A transposed convolution that doubles height and width."""

GENERATOR_NETS = ("encoder", "latent_generator", "video_generator")
DISCRIMINATOR_NETS = ("image_disc", "video_disc")


def leaky() -> nn.Module:
  """The leaky ReLU with slope 0.2."""
  return nn.LeakyReLU(0.2, inplace=True)


class NormalisedConv(nn.Sequential):
  """Convolution, batch normalisation and leaky ReLU."""

  def __init__(self, conv: type[nn.Module], inputs: int, features: int, **window: Any):
    super().__init__()
    self.conv = conv(inputs, features, bias=False, **({"kernel_size": 3, "padding": 1} | window))
    self.norm = nn.BatchNorm2d(features) if conv is nn.Conv2d else nn.BatchNorm3d(features)
    self.activation = leaky()


class Encoder(nn.Sequential):
  """Maps frames [N, C, H, W] to [N, features, H / 2^n, W / 2^n]."""

  def __init__(self, channels: int, widths: Sequence[int], features: int):
    super().__init__()
    for i, (inputs, width) in enumerate(zip((channels, *widths), widths, strict=False)):
      self.add_module(f"down_{i}", NormalisedConv(nn.Conv2d, inputs, width, kernel_size=4, stride=2))
      self.add_module(f"conv_{i}", NormalisedConv(nn.Conv2d, width, width))
    self.output = NormalisedConv(nn.Conv2d, widths[-1], features)


class VideoGenerator(nn.Sequential):
  """Decodes a latent video [B, C, T, h, w] to values before the tanh."""

  def __init__(self, features: int, widths: Sequence[int], channels: int):
    super().__init__()
    self.input = NormalisedConv(nn.Conv3d, features, widths[0])
    for i, width in enumerate(widths):
      self.add_module(f"conv_{i}", NormalisedConv(nn.Conv3d, width, width))
      if i + 1 < len(widths):
        self.add_module(f"up_{i}", NormalisedConv(nn.ConvTranspose3d, width, widths[i + 1], **UP))
    self.output = nn.ConvTranspose3d(widths[-1], channels, **UP)


class VideoDiscriminator(nn.Sequential):
  """Logits [B, 1] of clips [B, C, T, H, W]; layer normalisation is group normalisation with one group."""

  def __init__(self, channels: int, widths: Sequence[int], num_frames: int, resolution: int):
    super().__init__()
    for i, (inputs, width) in enumerate(zip((channels, *widths), widths, strict=False)):
      self.add_module(f"conv_{i}", nn.Conv3d(inputs, width, 4, stride=(1, 2, 2), padding=(0, 1, 1)))
      self.add_module(f"norm_{i}", nn.GroupNorm(1, width))
      self.add_module(f"activation_{i}", leaky())
    self.flatten = nn.Flatten()
    side, length = resolution // 2 ** len(widths), num_frames - 3 * len(widths)
    self.output = nn.Linear(widths[-1] * length * side**2, 1)


class ImageBlock(nn.Module):
  """A 3x3 and a 4x4 convolution of stride 2, with a shortcut of 2x2 averages of [N, C, H, W]."""

  def __init__(self, inputs: int, features: int):
    super().__init__()
    self.conv, self.norm = nn.Conv2d(inputs, inputs, 3, padding=1), nn.GroupNorm(1, inputs)
    self.down, self.down_norm = nn.Conv2d(inputs, features, 4, stride=2, padding=1), nn.GroupNorm(1, features)
    self.shortcut = nn.Conv2d(inputs, features, 1)

  def forward(self, x: Tensor) -> Tensor:
    y = self.down(functional.leaky_relu_(self.norm(self.conv(x)), 0.2))
    return functional.leaky_relu_(self.down_norm(y + self.shortcut(functional.avg_pool2d(x, 2))), 0.2)


class ImageDiscriminator(nn.Sequential):
  """Logits [N, 1] of frames [N, C, H, W]."""

  def __init__(self, channels: int, widths: Sequence[int], resolution: int):
    super().__init__()
    self.blocks = nn.Sequential(*map(ImageBlock, (channels, *widths), widths))
    self.flatten = nn.Flatten()
    self.output = nn.Linear(widths[-1] * (resolution // 2 ** len(widths)) ** 2, 1)


class FusionBlock(nn.Module):
  """Eqs. 4 and 5, for z [B, C, T, h, w], encodings [B, C, 2, h, w] and control [B, C or 3 C, T, 1, 1]."""

  def __init__(self, features: int, *, fusion: bool):
    super().__init__()
    self.fusion = fusion
    self.conv_1 = NormalisedConv(nn.Conv3d, features, features)
    self.conv_2 = nn.Conv3d(features, features, 3, padding=1, bias=False)
    self.norm_2 = nn.BatchNorm3d(features)

  def forward(self, z: Tensor, ends: Tensor, control: Tensor) -> Tensor:
    if self.fusion:
      start, end, noise = control.chunk(3, dim=1)
      start, end = torch.sigmoid(start), torch.sigmoid(end)
      of_ends = torch.addcmul(torch.addcmul(noise, start, ends[:, :, :1]), end, ends[:, :, 1:])
      fused = torch.addcmul(of_ends, functional.relu(1 - start - end), z)
    else:
      fused = z + control
    return functional.leaky_relu_(self.norm_2(self.conv_2(self.conv_1(fused))).add_(z), 0.2)


class LatentLevel(nn.Module):
  """The blocks of one temporal resolution; one linear map of u [B, D] and one convolution compute their control."""

  def __init__(self, count: int, features: int, noise: int, length: int, *, fusion: bool):
    super().__init__()
    self.length, self.channels = length, count * features
    self.noise = nn.Linear(noise, count * features * length)
    controls = 3 * features if fusion else features
    self.control = nn.Conv1d(count * features, count * controls, 3, padding=1, groups=count)
    self.blocks = nn.ModuleList(FusionBlock(features, fusion=fusion) for _ in range(count))

  def forward(self, z: Tensor, ends: Tensor, noise: Tensor) -> Tensor:
    if self.length % z.shape[2]:
      z = z[:, :, torch.arange(self.length, device=z.device) * z.shape[2] // self.length]
    else:
      z = z.repeat_interleave(self.length // z.shape[2], dim=2)
    control = self.control(self.noise(noise).unflatten(1, (self.channels, self.length)))
    for block, own in zip(self.blocks, control.chunk(len(self.blocks), dim=1), strict=True):
      z = block(z, ends, own[..., None, None])
    return z


class LatentGenerator(nn.Module):
  """The latent video [B, C, T, h, w] between two encodings [B, C, 2, h, w], from coarse to fine in time."""

  def __init__(self, blocks: Sequence[int], features: int, noise: int, num_frames: int, *, fusion: bool):
    super().__init__()
    lengths = [num_frames // 2**halvings for halvings in reversed(range(len(blocks)))]
    pairs = zip(blocks, lengths, strict=True)
    self.levels = nn.ModuleList(LatentLevel(n, features, noise, length, fusion=fusion) for n, length in pairs)

  def forward(self, ends: Tensor, noise: Tensor) -> Tensor:
    z = ends
    for level in self.levels:
      z = level(z, ends, noise)
    return z


class Inbetween(System):
  """The losses of Inbetweening."""

  ema_nets = GENERATOR_NETS

  def __init__(self, config: ExperimentConfig, *, channels_last: bool = False):
    super().__init__(config, channels_last=channels_last)
    c, data = self.c, config.data
    if c.naive:
      raise UserError("the PyTorch version has no naive baseline: set --config.algorithm.naive=False")
    sizes = (c.latent_blocks, c.encoding_features, c.latent_features, data.num_frames)
    self.nets |= {
      "encoder": Encoder(c.channels, c.encoder_widths, c.encoding_features),
      "latent_generator": LatentGenerator(*sizes, fusion=c.fusion),
      "video_generator": VideoGenerator(c.encoding_features, c.decoder_widths, c.channels),
      "image_disc": ImageDiscriminator(c.channels, c.image_discriminator_widths, data.resolution),
      "video_disc": VideoDiscriminator(c.channels, c.video_discriminator_widths, data.num_frames, data.resolution),
    }

  def updates(self) -> tuple[Update, ...]:
    c = self.c
    return (
      Update("disc", DISCRIMINATOR_NETS, self.discriminator_loss, c.discriminator_optimizer),
      Update("gen", GENERATOR_NETS, self.generator_loss, c.generator_optimizer),
    )

  def fake_video(self, video: Tensor) -> Tensor:
    """Clips [B, T, C, H, W] between the first and the last frame of `video`."""
    ends = torch.stack([video[:, 0], video[:, -1]], dim=1)
    encoded = self.run["encoder"](to_layout(ends.flatten(0, 1), self.channels_last)).unflatten(0, (len(video), 2))
    noise = torch.randn(len(video), self.c.latent_features, device=video.device)
    latent = self.run["latent_generator"](to_layout(encoded.transpose(1, 2), self.channels_last), noise)
    decoded = torch.tanh(self.run["video_generator"](latent).float()).transpose(1, 2)
    return torch.cat([ends[:, :1], decoded[:, 1:-1], ends[:, 1:]], dim=1)

  def discriminator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eqs. 7 and 8 and the gradient penalty; float32 and not compiled, because it is differentiated twice."""
    del label
    with torch.no_grad():
      fake = self.fake_video(video)
    metrics = {}
    for name, inputs in self._inputs(torch.cat([video, fake])).items():
      # Not a leaf: PyTorch's FLOP counter cannot pass gradients of leaves through modules.
      inputs = inputs.requires_grad_().view_as(inputs)
      with full_precision(inputs):
        logits = self.nets[name](inputs)[:, 0]
        (slopes,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
      on_real, on_fake = logits.chunk(2)
      norms = slopes.square().flatten(1).sum(dim=1).chunk(2)
      weights = torch.sigmoid(-on_real).square(), torch.sigmoid(on_fake).square()
      metrics |= {
        f"{name}/loss": functional.softplus(-on_real).mean() + functional.softplus(on_fake).mean(),
        f"{name}/gradient_penalty": (weights[0] * norms[0]).mean() + (weights[1] * norms[1]).mean(),
        f"{name}/real": on_real.mean(),
        f"{name}/fake": on_fake.mean(),
      }
    weight = {"loss": 1.0, "gradient_penalty": self.c.gradient_penalty}
    terms = [weight[kind] * metrics[f"{name}/{kind}"] for name in DISCRIMINATOR_NETS for kind in weight]
    return torch.stack(terms).sum(), metrics

  def generator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eq. 9, summed over both discriminators."""
    del label
    inputs = self._inputs(self.fake_video(video))
    metrics = {f"{n}/loss": functional.softplus(-self.run[n](x).float()).mean() for n, x in inputs.items()}
    return torch.stack(list(metrics.values())).sum(), metrics

  def _inputs(self, video: Tensor) -> dict[str, Tensor]:
    """Drawn intermediate frames [B K, C, H, W], and clips [B, C, T, H, W]."""
    frames = random_frames(video[:, 1:-1], self.c.frames_per_clip).flatten(0, 1)
    inputs = {"image_disc": frames, "video_disc": video.transpose(1, 2)}
    return {name: to_layout(x, self.channels_last) for name, x in inputs.items()}
