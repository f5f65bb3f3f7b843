"""The networks of MVT-GAN (4.1, 4.2, figure 2, appendix A)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.nn.biggan import GeneratorBlock, SelfAttention
from vidgen_jax.nn.convolution import convolve
from vidgen_jax.nn.norm import MOMENTS, BatchNorm
from vidgen_jax.nn.spectral import Conv, Dense, Embed, add_bias, kernel_param


class SequenceGenerator(nn.Module):
  """A linear map, a GRU that receives its own output, and a batch normalisation for each time step.

  The paper specifies the linear map d -> d and a GRU cell with 2048 units. The authors' code adds the rest: the cell
  starts from zeros; its state is projected to d values, the next input; the outputs are normalised over the batch, with
  statistics for each time step and without a learned scale.

  Attributes:
    hidden_features: units of the cell.
    spectral_norm: whether the two linear maps, but not the cell, have a spectral norm.
  """

  hidden_features: int = 2048
  spectral_norm: bool = True
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, latent: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Maps latents [B, d] to float32 [B, num_frames, d]."""
    features = latent.shape[-1]
    output = None
    if self.spectral_norm:
      x = Dense(features, dtype=self.dtype, name="input")(latent, train=train)
      output = _Linear(features, name="output")(self.hidden_features, train=train)
    else:
      x = nn.Dense(features, dtype=self.dtype, name="input")(latent.astype(self.dtype))
    state = jnp.zeros((latent.shape[0], self.hidden_features), self.dtype)
    options: dict[str, Any] = {"length": num_frames, "in_axes": nn.broadcast, "out_axes": 1}
    cell = nn.scan(_Cell, variable_broadcast="params", split_rngs={"params": False}, **options)(
      features=features, hidden_features=self.hidden_features, dtype=self.dtype, name="cell"
    )
    _, outputs = cell((state, x), output)
    norm = BatchNorm(momentum=self.bn_momentum, affine=False, dtype=jnp.float32, name="norm")
    return norm(outputs[:, :, None, None, :], train=train)[:, :, 0, 0]


class _Linear(nn.Module):
  """A spectrally normalised linear map, as (kernel [inputs, features], bias [features]).

  Made outside of the loop over frames that uses it: one power iteration per pass.
  """

  features: int

  @nn.compact
  def __call__(self, inputs: int, *, train: bool) -> tuple[jax.Array, jax.Array]:
    kernel = kernel_param(self, "kernel", (inputs, self.features), spectral_norm=True, train=train)
    return kernel, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


class _Cell(nn.Module):
  """One time step: (state, input) to (state, output); the output is also the next input.

  Its linear map is `output`, (kernel [hidden_features, features], bias [features]); None for its own.
  """

  features: int
  hidden_features: int
  dtype: Any

  @nn.compact
  def __call__(
    self, carry: tuple[jax.Array, jax.Array], output: tuple[jax.Array, jax.Array] | None
  ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    state, x = carry
    state, _ = nn.GRUCell(self.hidden_features, dtype=self.dtype, name="gru")(state, x)
    if output is None:
      x = nn.Dense(self.features, dtype=self.dtype, name="output")(state)
    else:
      x = add_bias(state @ output[0].astype(self.dtype), output[1])
    return (state, x), x


class FrameGenerator(nn.Module):
  """BigGAN's generator: a frame from each Z_F[t], which also conditions the batch normalisations (4.1, figure 4).

  Batch statistics span all frames of all clips. In the temporal self-attention variant (MVT-TSA) the first blocks begin
  with a temporal shift, the only layer that mixes frames.

  Attributes:
    widths: channels after the first linear map and after each block; each block doubles height and width.
    first_size: (height, width) after the linear map: 4x4 for frames of 128x128, 3x3 for 96x96.
    attention_after: 0-based index of the block that is followed by self-attention within each frame; -1 for none.
    shifted_blocks: number of leading blocks that begin with a temporal shift: 0, or 2 in MVT-TSA.
    shift_divisor: divisor of the shift, see `temporal_shift`.
    conditional_bias: whether the maps from the condition to gains and offsets have biases.
  """

  widths: tuple[int, ...]
  first_size: tuple[int, int] = (4, 4)
  channels: int = 3
  attention_after: int = -1
  shifted_blocks: int = 0
  shift_divisor: int = 3
  conditional_bias: bool = True
  bn_momentum: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, condition: jax.Array, *, train: bool) -> jax.Array:
    """Maps Z_F [B, T, D] to frames, float32 [B, T, H, W, channels] in [-1, 1]."""
    height, width = self.first_size
    x = Dense(height * width * self.widths[0], dtype=self.dtype, name="input")(condition, train=train)
    x = x.reshape(*condition.shape[:2], height, width, self.widths[0])
    keep = jax.checkpoint_policies.save_only_these_names(MOMENTS)
    block_type = nn.remat(GeneratorBlock, static_argnums=(3,), policy=keep) if self.remat else GeneratorBlock
    for i, features in enumerate(self.widths[1:]):
      x = block_type(
        features,
        upsample=True,
        shift_divisor=self.shift_divisor if i < self.shifted_blocks else 0,
        conditional_bias=self.conditional_bias,
        bn_per_frame=False,
        bn_momentum=self.bn_momentum,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x, condition, train)
      if i == self.attention_after:
        x = SelfAttention(dtype=self.dtype, name="attention")(x, train=train)
    norm = BatchNorm(per_frame=False, momentum=self.bn_momentum, dtype=self.dtype, name="output_norm")
    x = Conv(self.channels, dtype=self.dtype, name="output")(nn.relu(norm(x, train=train)), train=train)
    return jnp.tanh(x.astype(jnp.float32))


class Generator(nn.Module):
  """Generates clips of a class from one latent per clip: Z_F[t] = [z_gru[t]; e(y)].

  Attributes:
    sequence: generator of z_gru.
    frames: generator of a frame from each Z_F[t].
    class_features: length of the class embedding e(y).
    embedding_spectral_norm: whether the class embedding has a spectral norm; BigGAN's has none.
  """

  sequence: SequenceGenerator
  frames: FrameGenerator
  num_classes: int = 1
  class_features: int = 120
  embedding_spectral_norm: bool = True

  def setup(self) -> None:
    """Creates the class embedding."""
    self.class_embedding = Embed(self.num_classes, self.class_features, spectral_norm=self.embedding_spectral_norm)

  def __call__(self, latent: jax.Array, label: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Generates clips, float32 [B, T, H, W, C] in [-1, 1], from latents Z_ABC [B, d]."""
    return self.decode(latent, self.embed(label, train=train), num_frames=num_frames, train=train)

  def embed(self, label: jax.Array, *, train: bool = False) -> jax.Array:
    """Embeddings e(y), [B, class_features], of labels int [B]; `train` advances the power iteration."""
    return self.class_embedding(label, train=train)

  def decode(self, latent: jax.Array, embedding: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """Generates clips from embeddings [B, class_features] instead of labels, e.g. between classes (figure 8)."""
    sequence = self.sequence(latent, num_frames=num_frames, train=train)
    repeated = jnp.broadcast_to(embedding[:, None].astype(sequence.dtype), (*sequence.shape[:2], embedding.shape[-1]))
    return self.frames(jnp.concatenate([sequence, repeated], axis=-1), train=train)


class VideoDiscriminator(nn.Module):
  """4x4x4 convolutions with stride 2, leaky ReLUs, and a projection head on the features' sum over time and space.

  Attributes:
    widths: channels of the convolutions; each halves time, height and width.
    batch_norm: whether all convolutions except the first are followed by batch normalisation over all frames of all
      clips, and none has a bias; the clips of a call must then be all real or all generated.
  """

  widths: tuple[int, ...] = (96, 192, 384, 768)
  batch_norm: bool = True
  num_classes: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, label: jax.Array, *, train: bool) -> jax.Array:
    """Logits float32 [B] of clips [B, T, H, W, C] in [-1, 1] and labels int [B]."""
    x = video.astype(self.dtype)
    for i, width in enumerate(self.widths):
      shape = (4, 4, 4, x.shape[-1], width)
      kernel = kernel_param(self, f"kernel_{i}", shape, spectral_norm=True, train=train)
      x = convolve(x, kernel, strides=(2, 2, 2), padding=((1, 1),) * 3, precision=None)
      if not self.batch_norm:
        x = add_bias(x, self.param(f"bias_{i}", nn.initializers.zeros, (width,), jnp.float32))
      elif i:
        x = BatchNorm(per_frame=False, dtype=self.dtype, name=f"norm_{i}")(x, train=train)
      x = nn.leaky_relu(x, 0.2)
    features = jnp.sum(x.astype(jnp.float32), axis=(1, 2, 3))
    unconditional = Dense(1, name="output")(features, train=train)[:, 0]
    embedded = Embed(self.num_classes, features.shape[-1], name="class_embedding")(label, train=train)
    return unconditional + jnp.sum(features * embedded, axis=-1)
