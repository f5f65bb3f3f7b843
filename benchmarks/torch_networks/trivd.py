"""TrIVD-GAN-FP in PyTorch (Luc et al., arXiv:2003.04035), with the recurrent units ConvGRU and TSRU_p."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_networks import layers
from benchmarks.torch_networks.layers import (
  BatchNorm,
  Conv,
  Dense,
  DiscriminatorBlock,
  Embed,
  GeneratorBlock,
  ResidualDiscriminator,
  convolve,
  to_layout,
)
from benchmarks.torch_networks.training import Losses, System, Update, score_pairs
from vidgen_jax.errors import UserError
from vidgen_jax.gans.discriminators import View
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS
from vidgen_jax.runs.config import ExperimentConfig

TAPS = 9
"""Size of a warping kernel, and number of kernels that are mixed."""


class RecurrentUnit(nn.Module):
  """Gates are convolutions of [h; x]; their part for the inputs is computed for all frames at once."""

  def __init__(self, inputs: int, features: int, *, spectral_norm: bool):
    super().__init__()
    self.features = features
    self.gates = nn.ModuleDict(
      {
        name: Conv(width, features + inputs, 3, 3, spectral_norm=spectral_norm)
        for name, width in self.widths((features + inputs) // 2).items()
      }
    )

  def widths(self, hidden: int) -> dict[str, int]:
    """Output channels of the gates."""
    raise NotImplementedError

  def prepare(self, kernels: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Weights of `step`, from the gates' kernels on the state."""
    raise NotImplementedError

  def step(self, state: Tensor, projected: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    """The next state [B, features, H, W]."""
    raise NotImplementedError

  def forward(self, x: Tensor, state: Tensor, num_steps: int) -> Tensor:
    """States [B T, features, H, W] of inputs [B T, C, H, W], or [B, C, H, W] for a constant input."""
    kernels = {name: gate.normalised() for name, gate in self.gates.items()}
    of_inputs = torch.cat([kernel[:, self.features :] for kernel in kernels.values()])
    projected = convolve(x, of_inputs, torch.cat([gate.bias for gate in self.gates.values()]))
    frames = projected.unflatten(0, (state.shape[0], -1)).unbind(1)
    of_state = {name: kernel[:, : self.features] for name, kernel in kernels.items()}
    # Cast once: autocast would cast them in every step.
    weights = self.prepare(of_state, projected.dtype)
    states = []
    for frame in frames if len(frames) == num_steps else frames * num_steps:
      state = self.step(state, frame, weights)
      states.append(state)
    if state.is_contiguous():
      return torch.stack(states, dim=1).flatten(0, 1)
    return torch.stack([s.movedim(1, -1) for s in states], dim=1).flatten(0, 1).movedim(-1, 1)


class ConvGRU(RecurrentUnit):
  """Eqs. 1 to 5."""

  def widths(self, hidden: int) -> dict[str, int]:
    del hidden
    return dict.fromkeys("ruc", self.features)

  def prepare(self, kernels: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return torch.cat([kernels["r"], kernels["u"]]).to(dtype), kernels["c"].to(dtype)

  def step(self, state: Tensor, projected: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    gates, candidate = projected.split([2 * self.features, self.features], dim=1)
    reset, update = torch.sigmoid(gates + convolve(state, weights[0])).chunk(2, dim=1)
    candidate = functional.relu(candidate + convolve(reset * state, weights[1]))
    return torch.lerp(candidate, state, update)


class TSRU(RecurrentUnit):
  """TSRU_p: eqs. 6, 7, 9 and 10, with the factorised motion network (eqs. 11 and 12)."""

  def __init__(self, inputs: int, features: int, *, spectral_norm: bool):
    super().__init__(inputs, features, spectral_norm=spectral_norm)
    width = (features + inputs) // 2
    self.hidden = Dense(width, 16 * width, spectral_norm=spectral_norm)
    self.basis = Dense(TAPS**2, width, spectral_norm=spectral_norm)

  def widths(self, hidden: int) -> dict[str, int]:
    return {"c": self.features, "u": self.features, "theta": hidden, "selection": TAPS}

  def prepare(self, kernels: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    dense = (self.hidden.normalised(), self.hidden.bias, self.basis.normalised(), self.basis.bias)
    return tuple(weight.to(dtype) for weight in (torch.cat(list(kernels.values())), *dense))

  def step(self, state: Tensor, projected: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    fused, *dense = weights
    convolved = projected + convolve(state, fused)
    width = convolved.shape[1] - 2 * self.features - TAPS
    candidate, update, theta, selection = convolved.split([self.features, self.features, width, TAPS], dim=1)
    pooled = functional.adaptive_max_pool2d(functional.relu(theta), 4).flatten(1)
    hidden = functional.relu(functional.linear(pooled, dense[0], dense[1]))
    basis = functional.linear(hidden, dense[2], dense[3]).view(-1, TAPS, TAPS).float().softmax(dim=1)
    kernels = torch.bmm(basis.to(state.dtype), selection.flatten(2).float().softmax(dim=1).to(state.dtype))
    warped = warp(state, kernels)
    return torch.lerp(functional.relu(candidate), warped, torch.sigmoid(update))


def warp(state: Tensor, kernels: Tensor) -> Tensor:
  """Weighted sums over the 3x3 neighbourhoods of [B, C, H, W] with weights [B, 9, H W] (eq. 11)."""
  windows = functional.unfold(state, 3, padding=1).unflatten(1, (-1, TAPS))
  return (windows * kernels[:, None]).sum(dim=2).view(state.shape)


UNITS = {"conv_gru": ConvGRU, "tsru_p": TSRU}


class Encoder(nn.Module):
  """Initial states of the recurrent units, coarsest first."""

  def __init__(
    self, channels: int, widths: Sequence[int], states: Sequence[int], *, num_frames: int, spectral_norm: bool
  ):
    super().__init__()
    self.num_frames = num_frames
    self.blocks = nn.ModuleList(
      DiscriminatorBlock(inputs, width, preactivation=i > 0, spectral_norm=spectral_norm)
      for i, (inputs, width) in enumerate(zip((channels, *widths), widths, strict=False))
    )
    self.states = nn.ModuleList(
      Conv(features, num_frames * width, 3, 3, spectral_norm=spectral_norm)
      for width, features in zip(widths, reversed(states), strict=True)
    )

  def forward(self, x: Tensor) -> list[Tensor]:
    """Maps frames [B Tc, C, H, W] to states [B, features, H / 2^i, W / 2^i]."""
    states = []
    for block, state in zip(self.blocks, self.states, strict=True):
      x = block(x)
      # Time folded into channels; in the layout NCHW a view.
      folded = x.reshape(-1, self.num_frames * x.shape[1], *x.shape[2:])
      states.append(functional.relu_(state(to_layout(folded, not x.is_contiguous()))))
    return states[::-1]


class Stage(nn.Module):
  """A recurrent unit, a convolution and residual blocks, the last of which doubles the resolution."""

  def __init__(
    self, unit: str, inputs: int, width: int, condition: int, *, blocks: int, num_frames: int, spectral_norm: bool
  ):
    super().__init__()
    self.num_frames = num_frames
    self.unit = UNITS[unit](inputs, width, spectral_norm=spectral_norm)
    self.conv = Conv(width, width, 3, 3, spectral_norm=spectral_norm)
    options = {"num_frames": num_frames, "spectral_norm": spectral_norm}
    self.blocks = nn.ModuleList(
      GeneratorBlock(width, width, condition, upsample=j == blocks - 1, **options) for j in range(blocks)
    )

  def forward(self, x: Tensor, state: Tensor, condition: Tensor) -> Tensor:
    """Maps frames [B T, C, H, W], or [B, C, H, W] for a constant input, to [B T, width, 2 H, 2 W]."""
    x = self.conv(self.unit(x, state, self.num_frames))
    for block in self.blocks:
      x = block(x, condition)
    return x


class Generator(nn.Module):
  """Predicts the frames after the conditioning frames (appendix A)."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool):
    super().__init__()
    c = config.algorithm
    self.channels_last = channels_last
    stages = len(c.generator_multipliers)
    widths = [c.generator_channels * m for m in c.generator_multipliers]
    encoder_widths = [c.discriminator_channels * m for m in c.discriminator_multipliers[:stages]]
    condition, side = c.latent_features + c.class_features, config.data.resolution // 2**stages
    num_frames = config.data.num_frames - c.conditioning_frames
    self.shape = (widths[0], side, side)
    options = {"spectral_norm": c.spectral_norm}
    self.encoder = Encoder(c.channels, encoder_widths, widths, num_frames=c.conditioning_frames, **options)
    self.class_embedding = Embed(c.num_classes, c.class_features, **options)
    self.input = Dense(layers.flat_size(self.shape), condition, spectral_norm=False)
    options |= {"blocks": c.generator_blocks, "num_frames": num_frames}
    self.stages = nn.ModuleList(
      Stage(c.recurrent_unit, inputs, width, condition, **options)
      for inputs, width in zip((widths[0], *widths), widths, strict=False)
    )
    self.output_norm = BatchNorm(widths[-1], num_frames=num_frames)
    self.output = Conv(c.channels, widths[-1], 3, 3, spectral_norm=c.spectral_norm)

  def forward(self, conditioning: Tensor, latent: Tensor, label: Tensor) -> Tensor:
    """Predicts frames [B, T, C, H, W] from conditioning frames [B, Tc, C, H, W] and z [B, D]."""
    states = self.encoder(to_layout(conditioning.flatten(0, 1), self.channels_last))
    condition = torch.cat([latent, self.class_embedding(label)], dim=1)
    x = to_layout(self.input(condition).unflatten(1, self.shape), self.channels_last)
    for stage, state in zip(self.stages, states, strict=True):
      x = stage(x, state, condition)
    x = self.output(functional.relu_(self.output_norm(x)))
    return torch.tanh(x.float()).unflatten(0, (label.shape[0], -1))


class Trivd(System):
  """The losses of TrIVD-GAN-FP."""

  def __init__(self, config: ExperimentConfig, *, channels_last: bool):
    super().__init__(config)
    self.views = DECOMPOSITIONS[self.c.decomposition]
    if self.c.recurrent_unit not in UNITS or self.c.head not in ("mixed_projection", "projection"):
      raise UserError(f"the PyTorch version has the recurrent units {', '.join(UNITS)}, not {self.c.recurrent_unit}")
    self.nets["generator"] = Generator(config, channels_last=channels_last)
    for view in self.views:
      self.nets[view.net] = ResidualDiscriminator(
        self.c.channels,
        [self.c.discriminator_channels * m for m in self.c.discriminator_multipliers],
        num_classes=self.c.num_classes,
        temporal_blocks=self.c.temporal_blocks if view.on == "video" else 0,
        downsample_time=self.c.downsample_time,
        spectral_norm=self.c.spectral_norm,
        channels_last=channels_last,
      )

  ema_nets = ("generator",)

  def updates(self) -> tuple[Update, ...]:
    discriminators = tuple(view.net for view in self.views)
    steps = self.c.discriminator_steps
    return (
      Update("disc", discriminators, self.discriminator_loss, self.c.discriminator_optimizer, repeats=steps),
      Update("gen", ("generator",), self.generator_loss, self.c.generator_optimizer),
    )

  def fake_video(self, video: Tensor, label: Tensor) -> Tensor:
    """Conditioning frames and predictions [B, T, C, H, W]; `video` is in [-1, 1]."""
    conditioning = video[:, : self.c.conditioning_frames]
    latent = torch.randn(video.shape[0], self.c.latent_features, device=video.device)
    return torch.cat([conditioning, self.run["generator"](conditioning, latent, label)], dim=1)

  def discriminator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eq. 13, summed over discriminators."""
    real = layers.to_model_range(video)
    with torch.no_grad():
      fake = self.fake_video(real, label)
    metrics = {}
    for view in self.views:
      scores = score_pairs(self.run[view.net], self.view(view, real), self.view(view, fake), label)
      on_real, on_fake = (self.head(*score) for score in scores)
      metrics[f"{view.net}/loss"] = layers.hinge_discriminator_loss(on_real, on_fake)
      metrics |= {f"{view.net}/real": on_real.mean(), f"{view.net}/fake": on_fake.mean()}
    return sum(metrics[f"{view.net}/loss"] for view in self.views), metrics

  def generator_loss(self, video: Tensor, label: Tensor) -> Losses:
    """Eq. 14, summed over discriminators, and the orthogonality penalty."""
    fake = self.fake_video(layers.to_model_range(video), label)
    metrics = {}
    for view in self.views:
      metrics[f"{view.net}/loss"] = -self.head(*self.run[view.net](self.view(view, fake), label)).mean()
    loss = sum(metrics.values())
    with layers.full_precision(fake):
      metrics["orthogonality"] = layers.orthogonality(self.nets["generator"])
    return loss + self.c.orthogonal_penalty * metrics["orthogonality"], metrics

  def view(self, view: View, video: Tensor) -> Tensor:
    """The input of one discriminator."""
    if view.on == "frames":
      first = self.c.conditioning_frames if self.c.frames_from == "predicted" else 0
      video = layers.random_frames(video[:, first:], self.c.frames_per_clip)
    if view.spatial == "downsampled":
      return functional.avg_pool2d(video.flatten(0, 1), self.c.downsampling).unflatten(0, video.shape[:2])
    if view.spatial == "cropped":
      return layers.random_crop(video, *(side // self.c.downsampling for side in video.shape[3:]))
    return video

  def head(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
    """The mixed projection (eq. 15), [B, B, T], or the projection, [B]."""
    if self.c.head == "projection":
      return (unconditional + conditional).sum(dim=1)
    return unconditional[:, None] + conditional.sum(dim=1)[None, :, None]
