"""TrIVD-GAN-FP in PyTorch (Luc et al., arXiv:2003.04035), with the recurrent units ConvGRU and TSRU_p."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_networks import layers
from benchmarks.torch_networks.layers import Conv, Dense, DiscriminatorBlock, Embed, convolve, to_layout
from benchmarks.torch_networks.training import Losses, System, Update, hinge_losses
from vidgen_jax.errors import UserError
from vidgen_jax.gans.discriminators import View
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS, TrivdConfig
from vidgen_jax.runs.config import ExperimentConfig

TAPS = 9
"""Size of a warping kernel, and number of kernels that are mixed."""

Weights = Sequence[Any]


class ConvGRU(nn.Module):
  """Eqs. 1 to 5. Gates convolve [h; x]; their part for the inputs is computed for all frames at once."""

  def __init__(self, inputs: int, features: int, **options: bool):
    super().__init__()
    self.features, self.width = features, (features + inputs) // 2
    sizes = [features + inputs, 3, 3]
    self.gates = nn.ModuleDict({name: Conv(width, *sizes, **options) for name, width in self.widths()})

  def widths(self) -> Sequence[tuple[str, int]]:
    """Names and output channels of the gates."""
    return [(name, self.features) for name in "ruc"]

  def weights(self, gates: Sequence[Tensor]) -> Weights:
    """The weights of `step`, from the gates' kernels on the state."""
    return torch.cat(list(gates[:2])), gates[2]

  def step(self, state: Tensor, projected: Tensor, weights: Weights) -> Tensor:
    """The next state [B, features, H, W]."""
    gates, candidate = projected.split([2 * self.features, self.features], dim=1)
    reset, update = torch.sigmoid(gates + convolve(state, weights[0])).chunk(2, dim=1)
    candidate = functional.relu(candidate + convolve(reset * state, weights[1]))
    return torch.lerp(candidate, state, update)

  def forward(self, x: Tensor, state: Tensor, num_steps: int) -> Tensor:
    """States [B T, features, H, W] of inputs [B T, C, H, W], or [B, C, H, W] for a constant input."""
    gates: Any = self.gates.values()
    kernels = [gate.normalised() for gate in gates]
    of_inputs = torch.cat([kernel[:, self.features :] for kernel in kernels])
    projected = convolve(x, of_inputs, torch.cat([gate.bias for gate in gates]))
    frames = projected.unflatten(0, (len(state), -1)).unbind(1)
    # Cast once: autocast would cast them in every step.
    weights = [w.to(projected.dtype) for w in self.weights([kernel[:, : self.features] for kernel in kernels])]
    states = []
    for frame in frames if len(frames) == num_steps else frames * num_steps:
      state = self.step(state, frame, weights)
      states.append(state)
    if state.is_contiguous():
      return torch.stack(states, dim=1).flatten(0, 1)
    return torch.stack([s.movedim(1, -1) for s in states], dim=1).flatten(0, 1).movedim(-1, 1)


class TSRU(ConvGRU):
  """TSRU_p: eqs. 6, 7, 9 and 10, with the factorised motion network (eq. 12)."""

  def __init__(self, inputs: int, features: int, **options: bool):
    super().__init__(inputs, features, **options)
    self.hidden = Dense(self.width, 16 * self.width, **options)
    self.basis = Dense(TAPS**2, self.width, **options)

  def widths(self) -> Sequence[tuple[str, int]]:
    return [("c", self.features), ("u", self.features), ("theta", self.width), ("selection", TAPS)]

  def weights(self, gates: Sequence[Tensor]) -> Weights:
    dense = (self.hidden.normalised(), self.hidden.bias, self.basis.normalised(), self.basis.bias)
    return torch.cat(list(gates)), *dense

  def step(self, state: Tensor, projected: Tensor, weights: Weights) -> Tensor:
    convolved = projected + convolve(state, weights[0])
    candidate, update, theta, selection = convolved.split([width for _, width in self.widths()], dim=1)
    pooled = functional.adaptive_max_pool2d(functional.relu(theta), 4).flatten(1)
    hidden = functional.relu(functional.linear(pooled, *weights[1:3]))
    basis = functional.linear(hidden, *weights[3:]).view(-1, TAPS, TAPS).float().softmax(dim=1)
    kernels = torch.bmm(basis.to(state.dtype), selection.flatten(2).float().softmax(dim=1).to(state.dtype))
    return torch.lerp(functional.relu(candidate), warp(state, kernels), torch.sigmoid(update))


def warp(state: Tensor, kernels: Tensor) -> Tensor:
  """Weighted sums over the 3x3 neighbourhoods of [B, C, H, W] with weights [B, 9, H W] (eq. 11)."""
  if state.is_cuda and not torch.compiler.is_compiling():  # Fewer launches; on CPU it is slower.
    windows = functional.unfold(state, 3, padding=1).unflatten(1, (-1, TAPS))
    return (windows * kernels[:, None]).sum(dim=2).view(state.shape)
  height, width = state.shape[2:]
  padded, weights = functional.pad(state, (1, 1, 1, 1)), kernels.unflatten(2, (height, width)).split(1, dim=1)
  windows = [padded[:, :, m : m + height, n : n + width] for m in range(3) for n in range(3)]
  return functools.reduce(torch.add, map(torch.mul, weights, windows))


UNITS = {"conv_gru": ConvGRU, "tsru_p": TSRU}


class Encoder(nn.Module):
  """Initial states of the recurrent units, coarsest first."""

  def __init__(self, channels: int, widths: Sequence[int], states: Sequence[int], num_frames: int, **options: bool):
    super().__init__()
    pairs = enumerate(zip((channels, *widths), widths, strict=False))
    self.blocks = nn.ModuleList(DiscriminatorBlock(*pair, first=i == 0, **options) for i, pair in pairs)
    folded = zip(reversed(states), [num_frames * width for width in widths], strict=True)
    self.states = nn.ModuleList(Conv(*pair, 3, 3, **options) for pair in folded)

  def forward(self, x: Tensor, channels_last: bool) -> list[Tensor]:
    """Maps frames [B Tc, C, H, W] to states [B, features, H / 2^i, W / 2^i]."""
    states = []
    pairs: Any = zip(self.blocks, self.states, strict=True)
    for block, state in pairs:
      x = block(x)
      # Time folded into channels: without channels_last only another view.
      folded = x.reshape(-1, state.weight.shape[1], *x.shape[2:])
      states.append(functional.relu_(state(to_layout(folded, channels_last))))
    return states[::-1]


class Stage(nn.Module):
  """A recurrent unit, a convolution and residual blocks, the last of which doubles the resolution."""

  def __init__(self, c: TrivdConfig, inputs: int, width: int, upsampled: int, num_frames: int):
    super().__init__()
    self.num_frames = num_frames
    options: dict[str, Any] = {"spectral_norm": c.spectral_norm}
    self.unit = UNITS[c.recurrent_unit](inputs, width, **options)
    self.conv = Conv(width, width, 3, 3, **options)
    condition = c.latent_features + c.class_features
    self.blocks = nn.ModuleList(
      layers.GeneratorBlock(width, features, condition, upsample=last, norm_frames=num_frames, **options)
      for last, features in [(False, width)] * (c.generator_blocks - 1) + [(True, upsampled)]
    )

  def forward(self, x: Tensor, state: Tensor, condition: Tensor) -> Tensor:
    """Maps frames [B T, C, H, W], or [B, C, H, W] for a constant input, to [B T, upsampled, 2 H, 2 W]."""
    x = self.conv(self.unit(x, state, self.num_frames))
    for block in self.blocks:
      x = block(x, condition)
    return x


class Generator(nn.Module):
  """Predicts the frames after the conditioning frames (appendix A)."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool):
    super().__init__()
    c: Any = config.algorithm
    self.channels_last, stages, norm = channels_last, len(c.generator_multipliers), {"spectral_norm": c.spectral_norm}
    widths, upsampled = (
      [c.generator_channels * m for m in some] for some in (c.generator_multipliers, c.upsampled_multipliers)
    )
    encoder_widths = [c.discriminator_channels * m for m in c.discriminator_multipliers[:stages]]
    self.shape = (widths[0], *[config.data.resolution // 2**stages] * 2)
    num_frames = config.data.num_frames - c.conditioning_frames
    self.encoder = Encoder(c.channels, encoder_widths, widths, c.conditioning_frames, **norm)
    self.class_embedding = Embed(c.num_classes, c.class_features, bias=False, **norm)
    self.input = Dense(math.prod(self.shape), c.latent_features + c.class_features, spectral_norm=False)
    sizes = zip((widths[0], *upsampled), widths, upsampled, strict=False)
    self.stages = nn.ModuleList(Stage(c, *some, num_frames) for some in sizes)
    self.output_norm = layers.BatchNorm(upsampled[-1], num_frames)
    self.output = Conv(c.channels, upsampled[-1], 3, 3, **norm)

  def forward(self, conditioning: Tensor, latent: Tensor, label: Tensor) -> Tensor:
    """Predicts frames [B, T, C, H, W] from conditioning frames [B, Tc, C, H, W] and z [B, D]."""
    states = self.encoder(to_layout(conditioning.flatten(0, 1), self.channels_last), self.channels_last)
    condition = torch.cat([latent, self.class_embedding(label)], dim=1)
    x = to_layout(self.input(condition).unflatten(1, self.shape), self.channels_last)
    for stage, state in zip(self.stages, states, strict=True):
      x = stage(x, state, condition)
    x = self.output(functional.relu_(self.output_norm(x)))
    return torch.tanh(x.float()).unflatten(0, (len(label), -1))


class Trivd(System):
  """The losses of TrIVD-GAN-FP."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool = False):
    super().__init__(config, channels_last=channels_last)
    c, self.views = self.c, DECOMPOSITIONS[self.c.decomposition]
    if c.recurrent_unit not in UNITS:
      raise UserError(f"the PyTorch version has the recurrent units {', '.join(UNITS)}, not {c.recurrent_unit}")
    self.nets["generator"] = Generator(config, channels_last=channels_last)
    widths = [c.discriminator_channels * m for m in c.discriminator_multipliers]
    options = {"spectral_norm": c.spectral_norm, "downsample_time": c.downsample_time, "channels_last": channels_last}
    for view in self.views:
      temporal = c.temporal_blocks if view.on == "video" else 0
      net = layers.ResidualDiscriminator(c.channels, widths, c.num_classes, temporal_blocks=temporal, **options)
      self.nets[view.net] = net

  def updates(self) -> tuple[Update, ...]:
    c, names = self.c, [view.net for view in self.views]
    return (
      Update("disc", names, self.discriminator_loss, c.discriminator_optimizer, c.discriminator_steps),
      Update("gen", ["generator"], self.generator_loss, c.generator_optimizer),
    )

  def fake_video(self, video: Tensor, label: Tensor) -> Tensor:
    """Conditioning frames and predictions, [B, T, C, H, W]."""
    conditioning = video[:, : self.c.conditioning_frames]
    latent = torch.randn(len(video), self.c.latent_features, device=video.device)
    return torch.cat([conditioning, self.run["generator"](conditioning, latent, label)], dim=1)

  def discriminator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eq. 13, summed over discriminators."""
    with torch.no_grad():
      fake = self.fake_video(video, label)
    nets = {view.net: functools.partial(self._score_pairs, view.net, torch.cat([label, label])) for view in self.views}
    return hinge_losses(nets, *({v.net: self._view(v, x) for v in self.views} for x in (video, fake)))

  def generator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eq. 14, summed over discriminators, and the orthogonality penalty."""
    fake = self.fake_video(video, label)
    scores = {view.net: self.run[view.net](self._view(view, fake), label) for view in self.views}
    metrics = {f"{name}/loss": -self._head(*score).mean() for name, score in scores.items()}
    with layers.full_precision(fake):
      penalty = layers.orthogonality(self.nets["generator"])
    loss = torch.stack(list(metrics.values())).sum() + self.c.orthogonal_penalty * penalty
    return loss, {**metrics, "orthogonality": penalty}

  def _score_pairs(self, name: str, label: Tensor, videos: Tensor) -> tuple[Tensor, ...]:
    halves = zip(*(score.chunk(2) for score in self.run[name](videos, label)), strict=True)
    return tuple(self._head(*half) for half in halves)

  def _view(self, view: View, video: Tensor) -> Tensor:
    c = self.c
    if view.on == "frames":
      first = c.conditioning_frames if c.frames_from == "predicted" else 0
      video = layers.random_frames(video[:, first:], c.frames_per_clip)
    if view.spatial == "downsampled":
      return functional.avg_pool2d(video.flatten(0, 1), c.downsampling).unflatten(0, video.shape[:2])
    if view.spatial == "cropped":
      return layers.random_crop(video, *(side // c.downsampling for side in video.shape[3:]))
    return video

  def _head(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
    if self.c.head == "projection":
      return (unconditional + conditional).sum(dim=1)
    return unconditional[:, None] + conditional.sum(dim=1)[None, :, None]  # Eq. 15.
