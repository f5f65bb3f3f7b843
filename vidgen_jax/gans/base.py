"""What an algorithm must offer to be trained, sampled and exported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
from flax import linen as nn

from vidgen_jax.core.state import Nets
from vidgen_jax.core.update import Update
from vidgen_jax.types import Batch, PRNGKey, Video


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
  """How clips are sampled.

  Attributes:
    num_frames: length of the whole clip, the conditioning frames included; may differ from the trained length unless
      `Algorithm.fixed_length`.
    truncation: latents are drawn from a normal distribution cut at +-truncation; 0 gives the constant 0, None no cut.
  """

  num_frames: int
  truncation: float | None = None


@dataclass(frozen=True, kw_only=True)
class FrozenNetwork:
  """A network that losses use and nothing trains.

  Attributes:
    module: of the network.
    network: its registered name, which the weight file must bear.
    weights: path of the .safetensors file.
  """

  module: nn.Module
  network: str
  weights: str


class Algorithm(Protocol):
  """Networks and losses, bound into updates. Implementations are frozen dataclasses without arrays."""

  @property
  def phases(self) -> tuple[str, ...]:
    """Names of the training phases, in order."""

  @property
  def microbatches(self) -> int:
    """K: the pipeline delivers [K, B, T, H, W, C] for every train step."""

  @property
  def ema_nets(self) -> tuple[str, ...]:
    """Nets whose parameters are averaged."""

  @property
  def fixed_length(self) -> bool:
    """Whether parameters belong to clips of the trained length, so that no others can be sampled."""

  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """Which frames of a clip are given, not generated: indices in ascending order, () for none.

    Args:
      num_frames: length of the whole clip.

    Raises:
      UserError: if clips of this length cannot be made.
    """

  def networks(self) -> Mapping[str, nn.Module]:
    """Trained networks by name."""

  def frozen_networks(self) -> Mapping[str, FrozenNetwork]:
    """Networks that losses use and nothing trains, by the names under which losses find them; {} normally."""

  def init(self, key: PRNGKey, batch: Batch) -> Nets:
    """Fresh nets for micro-batches of this shape: video uint8 [B, T, H, W, C]."""

  def phase_at(self, step: int) -> str:
    """The phase of the train step that follows `step` completed ones; called on the host."""

  def updates(self, phase: str) -> tuple[Update, ...]:
    """The updates of a train step, in order."""

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Whole clips [B, num_frames, H, W, C] in [-1, 1], the conditioning frames in their places.

    Args:
      nets: with standing statistics for `options.num_frames`.
      batch: given uint8 [B, G, H, W, C], the frames that `conditioning_indices(options.num_frames)` names, in that order (G may
        be 0); label int32 [B].
      key: of the latents.
      options: length and truncation.
    """

  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """The latents that `sample` would draw, float32 [batch_size, D]; see `SampleOptions.truncation`."""

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """As `sample` with given latents: deterministic, which is what an export needs.

    Args:
      nets: with standing statistics for `num_frames`.
      batch: see `sample`.
      latent: float32 [B, D], see `latent`.
      num_frames: length of the whole clip, the conditioning frames included.
    """

  def batch_moments(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Nets:
    """One forward pass in train mode whose 'batch_stats' are the batch's own moments (see `standing_statistics`).

    Arguments as of `sample`.
    """


@runtime_checkable
class PredictsMotion(Protocol):
  """An `Algorithm` that can be asked how the content of its clips moves; not every model of it need know."""

  def motion_levels(self) -> int:
    """At how many resolutions the model moves content; level 0 is the coarsest.

    Raises:
      UserError: if a model of these settings moves none, saying which do.
    """

  def predict_motion(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, levels: Sequence[int]
  ) -> tuple[Video, jax.Array]:
    """As `Algorithm.predict`, with the motion fields of the generated frames.

    Args:
      nets: see `Algorithm.predict`.
      batch: see `Algorithm.predict`.
      latent: see `Algorithm.predict`.
      num_frames: T, see `Algorithm.predict`.
      levels: whose motion is combined, in ascending order.

    Returns:
      The clips, and for each of their T - G generated frames the motion since the frame before, float32
      [B, T - G, H, W, 2]: (dx, dy) in pixels, x to the right and y down, of the content that has arrived at a pixel.
    """


@runtime_checkable
class DecodesBlocks(Protocol):
  """An `Algorithm` that can show what each latent block of its generator's last level contributes."""

  def last_blocks(self) -> tuple[int, ...]:
    """Numbers of the last level's blocks, counted from 1 over all levels; () for a model without latent blocks."""

  def decode_blocks(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """As `Algorithm.predict`, but [blocks, B, num_frames, H, W, C], one clip for each of `last_blocks`."""


@runtime_checkable
class InfersClips(Protocol):
  """An `Algorithm` that makes clips of frames at any times, and what it makes of these frames is not what they are."""

  def infer(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """As `Algorithm.predict`, with what the model makes of the conditioning frames in their places.

    Args:
      nets: see `Algorithm.predict`.
      batch: see `Algorithm.predict`; on request with `times` int32 [B, G], where clips differ in them, negative ones
        being padding.
      latent: see `Algorithm.predict`.
      num_frames: see `Algorithm.predict`.
    """

  def interpolate(self, nets: Nets, batch: Batch, *, num_frames: int) -> Video:
    """The naive baseline: decoded straight lines between the latents of the conditioning frames; arguments as of `infer`."""


@runtime_checkable
class MixesClasses(Protocol):
  """An `Algorithm` that makes clips of a class from noise, and can be asked for what lies between classes."""

  def latent_parts(self) -> Mapping[str, tuple[int, int]]:
    """The parts of the latent by name: their first index and the one behind their last."""

  def embed_classes(self, nets: Nets, label: jax.Array) -> jax.Array:
    """Embeddings [B, E] of classes int [B]."""

  def predict_mixed(
    self, nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array, *, num_frames: int
  ) -> Video:
    """As `Algorithm.predict`, with class embeddings [B, E] in the place of the batch's labels."""
