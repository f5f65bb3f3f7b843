"""The generator of TrIVD-GAN-FP and its encoder of the conditioning frames."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.biggan import DiscriminatorBlock, GeneratorBlock
from vidgen_jax.nn.norm import MOMENTS, BatchNorm
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.nn.spectral import Conv, Dense, Embed


class Encoder(nn.Module):
  """Initial states for the generator's recurrent units, one per resolution (TrIVD-GAN-FP, appendix A).

  The blocks of the spatial discriminator, down to the generator's lowest resolution, are applied to each conditioning
  frame. At each resolution, time is folded into channels, and a 3x3 convolution with ReLU produces the state.

  Attributes:
    widths: channels of the blocks, each of which halves height and width.
    state_features: channels of the states, coarsest first; one for each block.
  """

  widths: tuple[int, ...]
  state_features: tuple[int, ...]
  spectral_norm: bool = True
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, frames: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
    """Maps frames [B, Tc, H, W, C] in [-1, 1] to states [B, H / 2^i, W / 2^i, features], coarsest first."""
    block_type = nn.remat(DiscriminatorBlock, static_argnums=(2,)) if self.remat else DiscriminatorBlock
    states = []
    x = frames.astype(self.dtype)
    shared: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    for i, (width, features) in enumerate(zip(self.widths, reversed(self.state_features), strict=True)):
      x = block_type(width, preactivation=i > 0, **shared, name=f"block_{i}")(x, train)
      conv = Conv(features, **shared, name=f"state_{i}")
      states.append(nn.relu(conv(fold_time(x), train=train)))
    return tuple(reversed(states))


def fold_time(x: jax.Array) -> jax.Array:
  """Folds time into channels: [B, T, H, W, C] to [B, H, W, T * C], frame t in channels t * C to (t + 1) * C."""
  batch, frames, height, width, channels = x.shape
  return jnp.moveaxis(x, 1, 3).reshape(batch, height, width, frames * channels)


class Generator(nn.Module):
  """Predicts the frames that follow the conditioning frames (TrIVD-GAN-FP, appendix A).

  A linear map of a latent and a class vector produces the coarsest features, equal for all frames. Every stage applies
  a recurrent unit over time, whose initial state encodes the conditioning frames at that resolution, then frame by
  frame a convolution and residual blocks; the last block doubles the resolution and sets the width there.

  Attributes:
    stage_widths: channels of each stage before its upsampling, coarsest first; also those of its recurrent state.
    upsampled_widths: channels of each stage's output.
    encoder_widths: channels of the encoder's blocks, finest first; one for each stage.
    recurrent_unit: a name in `RECURRENT_UNITS`.
    blocks_per_stage: residual blocks per stage.
    class_features: length of the class vector.
    spectral_norm: whether kernels are spectrally normalised, except the first linear map (appendix A).
  """

  stage_widths: tuple[int, ...]
  upsampled_widths: tuple[int, ...]
  encoder_widths: tuple[int, ...]
  recurrent_unit: str = "tsru_p"
  blocks_per_stage: int = 2
  num_classes: int = 1
  class_features: int = 128
  channels: int = 3
  bn_momentum: float = 0.9
  spectral_norm: bool = True
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, conditioning: jax.Array, latent: jax.Array, label: jax.Array, *, num_frames: int, train: bool
  ) -> jax.Array:
    """Predicts frames, float32 [B, num_frames, H, W, C], from conditioning frames [B, Tc, H, W, C] and z [B, D].

    Frames have values in [-1, 1]. Height and width must be multiples of 2 to the number of stages.
    """
    batch, _, height, width, _ = conditioning.shape
    factor = 2 ** len(self.stage_widths)
    shared: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    encoder = Encoder(self.encoder_widths, self.stage_widths, remat=self.remat, **shared, name="encoder")
    states = encoder(conditioning, train=train)
    embedded = Embed(self.num_classes, self.class_features, spectral_norm=self.spectral_norm, name="class_embedding")
    condition = jnp.concatenate([latent, embedded(label, train=train)], axis=-1)

    shape = (batch, 1, height // factor, width // factor, self.stage_widths[0])
    first = Dense(shape[2] * shape[3] * shape[4], spectral_norm=False, dtype=self.dtype, name="input")
    x = first(condition, train=train).reshape(shape)
    for i, state in enumerate(states):
      x = self._stage(i, x, state, condition, num_frames=num_frames, train=train)
    x = nn.relu(BatchNorm(momentum=self.bn_momentum, dtype=self.dtype, name="output_norm")(x, train=train))
    x = Conv(self.channels, **shared, name="output")(x, train=train)
    return jnp.tanh(x.astype(jnp.float32))

  def _stage(
    self, i: int, x: jax.Array, state: jax.Array, condition: jax.Array, *, num_frames: int, train: bool
  ) -> jax.Array:
    width = self.stage_widths[i]
    shared: dict[str, Any] = {"spectral_norm": self.spectral_norm, "dtype": self.dtype}
    unit_type = RECURRENT_UNITS[self.recurrent_unit]
    unit = unit_type(width, remat=self.remat, **shared, name=f"stage_{i}_unit")
    x = unit(x, state, num_steps=num_frames, train=train)
    x = Conv(width, **shared, name=f"stage_{i}_conv")(x, train=train)
    keep = jax.checkpoint_policies.save_only_these_names(MOMENTS)
    block_type = nn.remat(GeneratorBlock, static_argnums=(3,), policy=keep) if self.remat else GeneratorBlock
    for j in range(self.blocks_per_stage):
      last = j == self.blocks_per_stage - 1
      features = self.upsampled_widths[i] if last else width
      block = block_type(features, upsample=last, bn_momentum=self.bn_momentum, **shared, name=f"stage_{i}_block_{j}")
      x = block(x, condition, train)
    return x
