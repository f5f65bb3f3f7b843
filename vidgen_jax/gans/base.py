"""The sampling contract: what sampling, scoring and export need from a GAN, and what some GANs offer in addition."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.core.algorithm import Algorithm
from vidgen_jax.core.state import Nets
from vidgen_jax.gans import settings
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.types import Batch, PRNGKey, Video

T = TypeVar("T", bound="Gan")


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
  """How clips are sampled.

  Attributes:
    num_frames: length of the whole clip, conditioning frames included; may differ from the trained length unless
      `Gan.fixed_length`.
    truncation: latents are drawn from a normal distribution cut at +-truncation; 0 gives the constant 0, None no cut.
  """

  num_frames: int
  truncation: float | None = None


class Gan(Algorithm, Protocol):
  """An algorithm that generates clips from conditioning frames, class labels or noise."""

  @property
  def fixed_length(self) -> bool:
    """Whether only clips of the trained length can be sampled, because some parameters belong to single frames."""
    return False

  @abstractmethod
  def conditioning_indices(self, num_frames: int) -> tuple[int, ...]:
    """Indices of the conditioning frames in a clip of `num_frames` frames, ascending; () for none.

    Raises UserError if the model cannot generate clips of this length.
    """

  @abstractmethod
  def latent(self, key: PRNGKey, batch_size: int, *, truncation: float | None = None) -> jax.Array:
    """Latents float32 [batch_size, D]; see `SampleOptions.truncation`."""

  def training_latent(self, key: PRNGKey, batch_size: int) -> jax.Array:
    """Latents in training."""
    return self.latent(key, batch_size)

  @abstractmethod
  def generate(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, train: bool = False, bn_momentum: float = 0.9
  ) -> tuple[Video, Nets]:
    """One forward pass of the generator nets.

    Args:
      nets: all nets.
      batch: conditioning uint8 [B, G, H, W, C], frames `conditioning_indices(num_frames)` (G may be 0); label int32
        [B].
      latent: [B, D], as from `latent`.
      num_frames: length of the whole clip.
      train: whether to normalise with the batch's own statistics and to advance power iterations.
      bn_momentum: `BatchNorm.momentum`, for train mode.

    Returns:
      (whole clips [B, num_frames, H, W, C] in [-1, 1], the nets that train mode changes: with `train` with updated
      variables, otherwise unchanged).
    """

  def predict(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Whole clips; conditioning frames keep their positions and values.

    Deterministic, as an export requires. The arguments are those of `generate`; `nets` have standing statistics for
    `num_frames`.
    """
    return self.generate(nets, batch, latent, num_frames=num_frames)[0]

  def sample(self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions) -> Video:
    """Whole clips as from `predict`, for latents drawn with `key`."""
    latent = self.latent(key, batch["label"].shape[0], truncation=options.truncation)
    return self.predict(nets, batch, latent, num_frames=options.num_frames)

  def batch_moments(
    self, nets: Nets, batch: Batch, key: PRNGKey, *, options: SampleOptions, num_clips: int | None = None
  ) -> Nets:
    """Nets whose 'batch_stats' are the moments of one forward pass in train mode, for `standing_statistics`.

    The arguments are those of `sample`. `num_clips` is the number of clips that the batch repeats in turn, with their
    latents, which leaves the moments unchanged; None if each is there once.
    """
    rows = batch["label"].shape[0]
    latent = self.latent(key, num_clips or rows, truncation=options.truncation)
    latent = jnp.tile(latent, (rows // latent.shape[0], 1))
    # The pass creates the statistics, because their shape may depend on the length.
    variables = {name: {k: v for k, v in net.variables.items() if k != BATCH_STATS} for name, net in nets.items()}
    free = {name: net.replace(variables=variables[name]) for name, net in nets.items()}
    _, refreshed = self.generate(free, batch, latent, num_frames=options.num_frames, train=True, bn_momentum=0.0)
    return {**nets, **refreshed}

  def fake_video(self, nets: Nets, batch: Batch, key: PRNGKey) -> tuple[Video, Nets]:
    """`generate` in train mode for the conditioning frames and labels of a micro-batch, with latents from `key`."""
    video, label = batch["video"], batch["label"]
    indices = np.array(self.conditioning_indices(video.shape[1]), int)
    known = {"conditioning": video[:, indices], "label": label}
    return self.generate(nets, known, self.training_latent(key, label.shape[0]), num_frames=video.shape[1], train=True)


GANS: dict[str, tuple[type, type[Gan]]] = {}
"""Config type and class by the name that experiment files use; `vidgen_jax.gans` fills it."""


def register(name: str, config_type: type) -> Callable[[type[T]], type[T]]:
  """Decorator that adds a `Gan` to `GANS`; its constructor takes a `config_type`."""

  def add(gan: type[T]) -> type[T]:
    GANS[name] = (config_type, gan)
    settings.REGISTERED[name] = config_type
    return gan

  return add


@runtime_checkable
class PredictsMotion(Protocol):
  """A GAN that reports how the content of its clips moves."""

  def motion_levels(self) -> int:
    """Number of resolutions at which the model moves content; level 0 is the coarsest.

    If none, raises a UserError that lists the settings that do.
    """

  def predict_motion(
    self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int, levels: Sequence[int]
  ) -> tuple[Video, jax.Array]:
    """Clips as from `Gan.predict`, and their motion; combines the motion of `levels`, in ascending order.

    Returns:
      The clips, and for each of their T - G generated frames the motion since the previous frame, float32
      [B, T - G, H, W, 2]: displacement (dx, dy) in pixels, x to the right and y down, of the content now at each pixel.
    """


@runtime_checkable
class DecodesBlocks(Protocol):
  """A GAN that shows what each latent block of its generator's last level contributes."""

  def last_blocks(self) -> tuple[int, ...]:
    """Numbers of the last level's blocks, counted from 1 over all levels; () for a model without latent blocks."""

  def decode_blocks(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips [blocks, B, num_frames, H, W, C], one for each of `last_blocks`; arguments as for `Gan.predict`."""


@runtime_checkable
class InfersClips(Protocol):
  """A GAN that accepts conditioning frames at arbitrary times and reconstructs them as well."""

  def infer(self, nets: Nets, batch: Batch, latent: jax.Array, *, num_frames: int) -> Video:
    """Clips as from `Gan.predict`, but with reconstructions instead of the conditioning frames.

    The batch may contain `times` int32 [B, G] for clips whose conditioning frames differ in time; negative times mark
    padding.
    """

  def interpolate(self, nets: Nets, batch: Batch, *, num_frames: int) -> Video:
    """Naive baseline: decoded linear interpolation between the conditioning frames' latents; see `infer`."""


@runtime_checkable
class MixesClasses(Protocol):
  """A GAN that generates clips of a class from noise, and clips between classes."""

  def latent_parts(self) -> Mapping[str, tuple[int, int]]:
    """Index ranges [first, end) of the latent's parts, by name."""

  def embed_classes(self, nets: Nets, label: jax.Array) -> jax.Array:
    """Embeddings [B, E] of class labels int [B]."""

  def predict_mixed(
    self, nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array, *, num_frames: int
  ) -> Video:
    """Clips as from `Gan.predict`, with class embeddings [B, E] instead of the batch's labels."""
