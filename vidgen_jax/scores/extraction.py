"""Features of clips: a network, its weights, and the preprocessing that its protocol prescribes, over all devices."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from vidgen_jax.errors import UserError
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS, FVD_PROTOCOLS, Preprocessing
from vidgen_jax.scores.networks import build_network
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file

I3D_MIN_FRAMES = 9
"""I3D halves time three times, and its last average pool is two frames long."""

CONSTANTS, VOLUME = "constants", "mean_volume"


Variant = Callable[[np.ndarray], np.ndarray]
"""From uint8[B, T, H, W, C] to as many clips of the same shape, such as a baseline's predictions of them."""


class IndexedClips(Protocol):
  """Clips that can be read in any order, such as a `vidgen_jax.scores.clip_sets.ClipSet`."""

  def __len__(self) -> int:
    """How many there are."""

  def batches(self, batch_size: int, *, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """uint8[<= batch_size, T, H, W, C] of the clips with these indices, in their order."""


@dataclasses.dataclass(frozen=True)
class Features:
  """What a network says of N clips."""

  features: np.ndarray
  """float32[N, D]: the layer before the last."""
  logits: np.ndarray
  """float32[N, K]."""

  def __len__(self) -> int:
    return len(self.logits)

  def __getitem__(self, index: np.ndarray | slice) -> "Features":
    return Features(self.features[index], self.logits[index])


def concatenate(parts: Iterable[Features]) -> Features:
  """The features of all parts, in their order."""
  parts = list(parts)
  return Features(np.concatenate([p.features for p in parts]), np.concatenate([p.logits for p in parts]))


class FeatureExtractor:
  """A feature network on a mesh: uint8 clips in, features out, the same on every process.

  Attributes:
    weights: of the network.
    network: its name, see `vidgen_jax.scores.networks.NETWORKS`.
    preprocessing: what happens to clips first.
    unbiased: which covariance the protocol takes, see `frechet_distance`.
    batch_size: clips at a time, over all devices.
  """

  def __init__(
    self,
    weights: WeightFile,
    *,
    mesh: jax.sharding.Mesh,
    batch_size: int = 16,
    fvd_protocol: str = "reference",
    c3d_protocol: str = "tgan2",
    name: str = "",
  ) -> None:
    """Puts the weights on the devices.

    Args:
      weights: from `vidgen weights import` or `vidgen classify`.
      mesh: of the devices; clips are split over all of them.
      batch_size: clips at a time; rounded up to a multiple of the devices.
      fvd_protocol: one of `FVD_PROTOCOLS`, for I3D.
      c3d_protocol: one of `C3D_PROTOCOLS`, for a C3D that has a mean volume.
      name: of the weights, for messages; their network by default.

    Raises:
      UserError: if the weights are of an unknown network, or of settings that it does not take.
    """
    self.weights, self.network, self.name = weights, weights.network, name or weights.network
    _check_description(weights, self.name)
    self.batch_size = -(-batch_size // mesh.size) * mesh.size
    self._mesh = mesh
    settings, self.unbiased = dict(weights.settings), True
    variables = dict(weights.variables)
    self._volume = variables.pop(CONSTANTS, {}).get(VOLUME)
    self._own = weights.preprocessing
    if self.network == "i3d":
      protocol = FVD_PROTOCOLS[fvd_protocol]
      self.preprocessing, self.unbiased = protocol.preprocessing, protocol.unbiased
      settings["epsilon"] = protocol.epsilon
    elif self._volume is not None:
      self.preprocessing = C3D_PROTOCOLS[c3d_protocol]
    else:
      mean, std = self._own.get("mean", (0.5,) * 3), self._own.get("std", (0.5,) * 3)
      self.preprocessing = Preprocessing(name="own", mean=tuple(mean), std=tuple(std))
    self._module = build_network(self.network, settings)
    # The weights are an argument of the compiled function: as constants they would be compiled into it.
    self._placed = jax.device_put((variables, self._volume), meshes.replicated(mesh))
    self._apply = jax.jit(self._forward, out_shardings=meshes.replicated(mesh), static_argnums=2)

  @property
  def label(self) -> str:
    """Network and number of classes, for scores: 'i3d, 400 classes'."""
    classes = self.weights.settings.get("num_classes")
    return f"{self.network}, {classes} classes" if classes else self.network

  @property
  def hash(self) -> str:
    """The first twelve hexadecimal digits of the weights' hash."""
    return self.weights.short_hash

  def protocol(self, clip_shape: Sequence[int]) -> str:
    """How clips [T, H, W, C] become the network's input, in words."""
    preprocessing = self._preprocessing(tuple(clip_shape))
    if preprocessing.size is None:
      how = f"{clip_shape[1]}x{clip_shape[2]}"
    else:
      how = f"{preprocessing.size[0]}x{preprocessing.size[1]} {preprocessing.method.replace('_', ' ')}"
    trained = self._own.get("num_frames")
    frames = f"{clip_shape[0]} frames" + (f" (trained on {trained})" if trained not in (None, clip_shape[0]) else "")
    return ", ".join([preprocessing.name, how, frames] if preprocessing.name != "own" else [how, frames])

  def check(self, clip_shape: Sequence[int]) -> None:
    """Checks that the network takes clips of this shape.

    Args:
      clip_shape: (T, H, W, C).

    Raises:
      UserError: saying what it needs.
    """
    frames, channels = clip_shape[0], clip_shape[3]
    if channels not in (1, 3):
      raise UserError(f"{self.name} takes clips of 1 or 3 channels, got {channels}")
    if self.network == "i3d" and frames < I3D_MIN_FRAMES:
      raise UserError(
        f"FVD needs at least {I3D_MIN_FRAMES} frames, got clips of {frames}; "
        "score longer clips, or give weights made by `vidgen classify` in place of I3D's"
      )
    if self._volume is not None and frames != self._volume.shape[0]:
      raise UserError(f"{self.name} takes clips of {self._volume.shape[0]} frames, got {frames}; see --num_frames")
    one = jax.ShapeDtypeStruct((1, *clip_shape), jnp.uint8)
    try:
      jax.eval_shape(lambda placed, video: self._forward(placed, video, tuple(clip_shape)), self._placed, one)
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
      raise UserError(f"{self.name} cannot take clips of {_size(clip_shape)}: {error}") from error

  def extract(self, video: np.ndarray) -> Features:
    """Features of clips that every process has.

    Args:
      video: uint8[N, T, H, W, C], N >= 1.

    Raises:
      UserError: if the network does not take such clips, or a feature is not finite.
    """
    rows = self._local_rows(len(video))
    return concatenate(self._extract_batch(video[local], index, len(video)) for index, local in enumerate(rows))

  def embed_frames(self, video: np.ndarray) -> np.ndarray:
    """Features of every frame by itself, for `average_content_distance`; see `load_frame_extractor`.

    Args:
      video: uint8[N, T, H, W, C].

    Returns:
      float32[N, T, D].

    Raises:
      UserError: as `extract`.
    """
    frames = video.reshape(-1, 1, *video.shape[2:])
    return self.extract(frames).features.reshape(*video.shape[:2], -1)

  def extract_all(
    self, clips: IndexedClips, *, variants: Mapping[str, Variant] | None = None, description: str = ""
  ) -> dict[str, Features]:
    """Features of all clips, and of what becomes of them, in one pass over the files.

    A process reads only the clips that its devices work on.

    Args:
      clips: N of them.
      variants: by name, what is made of a batch of clips; None for the clips alone, under the name ''.
      description: of the progress bar, which is shown on a terminal.

    Returns:
      For each variant the features of N clips.

    Raises:
      UserError: as `extract`.
    """
    variants = {"": lambda video: video} if variants is None else variants
    rows = self._local_rows(len(clips))
    parts: dict[str, list[Features]] = {name: [] for name in variants}
    disabled = None if jax.process_index() == 0 else True  # None: on a terminal only
    with tqdm(total=len(clips), desc=description, unit=" clips", disable=disabled) as bar:
      # All rows of this process in one stream, so that reading goes on while the devices work.
      for index, local in enumerate(clips.batches(len(self._places), indices=np.concatenate(rows))):
        for name, variant in variants.items():
          parts[name].append(self._extract_batch(variant(local), index, len(clips)))
        bar.update(min(self.batch_size, len(clips) - index * self.batch_size))
    return {name: concatenate(found) for name, found in parts.items()}

  @functools.cached_property
  def _places(self) -> np.ndarray:
    """Which clips of a batch this process works on."""
    return np.array(meshes.local_batch_indices(self.batch_size, self._mesh))

  def _local_rows(self, count: int) -> list[np.ndarray]:
    """For each batch the clips that this process works on; the last batch is filled up with its last clip."""
    starts = range(0, count, self.batch_size)
    return [np.minimum(start + self._places, count - 1) for start in starts]

  def _extract_batch(self, local: np.ndarray, index: int, count: int) -> Features:
    batch = meshes.global_batch(local, meshes.batch_sharding(self._mesh, microbatches=False))
    output = jax.device_get(self._apply(self._placed, batch, tuple(local.shape[1:])))
    valid = min(self.batch_size, count - index * self.batch_size)
    found = Features(np.asarray(output.features)[:valid], np.asarray(output.logits)[:valid])
    finite = np.isfinite(found.features).all(axis=1) & np.isfinite(found.logits).all(axis=1)
    if not finite.all():
      where = index * self.batch_size + int(np.argmin(finite))
      raise UserError(f"{self.name}: the features of clip {where} are not finite; the weights are damaged")
    return found

  def _forward(self, placed: tuple, video: jax.Array, clip_shape: tuple[int, ...]):
    variables, volume = placed
    return self._module.apply(variables, self._preprocessing(clip_shape)(video, volume=volume))

  def _preprocessing(self, clip_shape: tuple[int, ...]) -> Preprocessing:
    """Ours, with a resize for clips of another size than a classifier was trained on."""
    side = self._own.get("resolution")
    if self.preprocessing.name != "own" or side is None or clip_shape[1:3] == (side, side):
      return self.preprocessing
    return dataclasses.replace(self.preprocessing, size=(side, side), fit="short_side")


def _check_description(weights: WeightFile, name: str) -> None:
  """The hash covers the tensors; what else a description says may have been edited."""
  own = weights.preprocessing
  for field in ("mean", "std"):
    values = own.get(field, (0.5,) * 3)
    if (
      not isinstance(values, (list, tuple))
      or len(values) != 3
      or not np.isfinite(values).all()
      or (field == "std" and min(values) <= 0)
    ):
      raise UserError(f"{name}: its description has {field} {values!r}; it takes three finite numbers, spreads above 0")
  side = own.get("resolution")
  if side is not None and (not isinstance(side, int) or side < 1):
    raise UserError(f"{name}: its description has resolution {side!r}; a whole number of pixels is needed")
  classes = weights.settings.get("num_classes")
  if weights.class_names and len(weights.class_names) != classes:
    raise UserError(f"{name}: its description names {len(weights.class_names)} classes of {classes}")


def load_extractor(
  path: str | Path,
  *,
  mesh: jax.sharding.Mesh,
  batch_size: int = 16,
  fvd_protocol: str = "reference",
  c3d_protocol: str = "tgan2",
) -> FeatureExtractor:
  """The extractor of a weight file; arguments as in `FeatureExtractor`.

  Raises:
    UserError: if there is no such file, or it is damaged.
  """
  return FeatureExtractor(
    read_weight_file(path),
    mesh=mesh,
    batch_size=batch_size,
    fvd_protocol=fvd_protocol,
    c3d_protocol=c3d_protocol,
    name=str(path),
  )


def load_frame_extractor(path: str | Path, *, mesh: jax.sharding.Mesh, batch_size: int = 64) -> FeatureExtractor:
  """An extractor for single frames, of a network that looks at frames one by one.

  Args:
    path: weight file of a TSN, which is a ResNet-50: of faces, say.
    mesh: see `FeatureExtractor`.
    batch_size: frames at a time.

  Raises:
    UserError: if the file is missing or damaged, or of a network that needs clips.
  """
  weights = read_weight_file(path)
  if weights.network != "tsn":
    raise UserError(f"{path} holds {weights.network}, which takes clips; embedding single frames needs a tsn")
  settings = weights.settings | {"segments": 1}
  single = dataclasses.replace(weights, settings=settings)
  return FeatureExtractor(single, mesh=mesh, batch_size=batch_size, name=str(path))


def _size(clip_shape: Sequence[int]) -> str:
  return "x".join(map(str, clip_shape))
