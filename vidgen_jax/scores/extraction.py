"""Features of clips: a network, its weights, and the preprocessing of its protocol, on all devices."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import batch_sharding, global_batch, local_batch_indices, replicated
from vidgen_jax.scores.metrics.preprocessing import (
  C3D_PROTOCOLS,
  FID_PROTOCOLS,
  FVD_PROTOCOLS,
  NETWORK_PROTOCOLS,
  Preprocessing,
)
from vidgen_jax.scores.networks import FRAME_NETWORKS, build_network
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file

CONSTANTS, VOLUME = "constants", "mean_volume"
"""Collection and name of the mean volume in the variables of C3D."""

Variant = Callable[[np.ndarray], np.ndarray]
"""Function from uint8[B, T, H, W, C] to clips of the same shape, such as a baseline."""


class IndexedClips(Protocol):
  """Clips that can be read in any order, such as a `vidgen_jax.scores.clip_sets.ClipSet`."""

  def __len__(self) -> int: ...

  def batches(self, batch_size: int, *, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """uint8[<= batch_size, T, H, W, C] of the clips with these indices, in this order."""


@dataclasses.dataclass(frozen=True)
class Features:
  """Output of a network for N clips."""

  features: np.ndarray
  """float32[N, D], last layer but one; of F frames of each clip [N, F, D]."""
  logits: np.ndarray
  """float32[N, K]; of F frames of each clip [N, F, K]."""

  @property
  def num_frames(self) -> int:
    """Number of vectors for each clip."""
    return self.logits.shape[1] if self.logits.ndim == 3 else 1

  def vectors(self, layer: str) -> np.ndarray:
    """All vectors of 'features' or 'logits' in one axis: [N, D], of frames [N * F, D]."""
    array = getattr(self, layer)
    return array.reshape(-1, array.shape[-1])

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

  Args:
    weights: weights from `vidgen weights import` or `vidgen classify`; UserError if their network is unknown.
    mesh: mesh over whose devices the clips are split.
    batch_size: clips per forward pass; rounded up to a multiple of the devices.
    fvd_protocol: key of `FVD_PROTOCOLS`, for I3D.
    c3d_protocol: key of `C3D_PROTOCOLS`, for a C3D with a mean volume.
    fid_protocol: key of `FID_PROTOCOLS`, for Inception-v3.
    fid_frames: frames of each clip for Inception-v3: 'all', or 'middle' for one.
    name: name in messages; the network's by default.

  Attributes:
    label: network and number of classes, for scores: 'i3d, 400 classes'.
    hash: first twelve hexadecimal digits of the weights' hash, for scores.
    unbiased: whether the protocol divides covariances by N - 1, see `frechet_distance`.
  """

  def __init__(
    self,
    weights: WeightFile,
    *,
    mesh: jax.sharding.Mesh,
    batch_size: int = 16,
    fvd_protocol: str = "reference",
    c3d_protocol: str = "tgan2",
    fid_protocol: str = "pytorch_fid",
    fid_frames: str = "all",
    name: str = "",
  ) -> None:
    self.weights, self.network, self.name = weights, weights.network, name or weights.network
    self.batch_size = -(-batch_size // mesh.size) * mesh.size
    self._mesh = mesh
    # Indices in a batch of this process's clips.
    self._places = np.array(local_batch_indices(self.batch_size, mesh, microbatches=False))
    settings, variables = dict(weights.settings), dict(weights.variables)
    self._volume = variables.pop(CONSTANTS, {}).get(VOLUME)
    self._own = weights.preprocessing
    if self.network == "i3d":
      self.preprocessing = FVD_PROTOCOLS[fvd_protocol]
      settings["epsilon"] = self.preprocessing.epsilon
    elif self._volume is not None:
      self.preprocessing = C3D_PROTOCOLS[c3d_protocol]
    elif self.network == "inception":
      self.preprocessing = FID_PROTOCOLS[fid_protocol]
    elif self.network in NETWORK_PROTOCOLS:
      self.preprocessing = NETWORK_PROTOCOLS[self.network]
    else:
      self.preprocessing = own_preprocessing(self._own, self.name)
    self._frames = fid_frames if self.network in FRAME_NETWORKS else ""
    classes = settings.get("num_classes")
    if weights.class_names and len(weights.class_names) != classes:
      names = f"its description names {len(weights.class_names)} classes"
      raise UserError(f"{self.name}: {names}, but num_classes is {classes}")
    self.label = f"{self.network}, {classes} classes" if classes else self.network
    self.hash, self.unbiased = weights.short_hash, self.preprocessing.unbiased
    self._module = build_network(self.network, settings)
    # An argument of the compiled function, because constants would be compiled into the program.
    self._placed = jax.device_put((variables, self._volume), replicated(mesh))
    self._apply = jax.jit(self._forward, out_shardings=replicated(mesh))

  def protocol(self, clip_shape: Sequence[int]) -> str:
    """The preprocessing of clips [T, H, W, C], in words."""
    preprocessing, trained = self._preprocessing(clip_shape), self._own.get("num_frames")
    height, width = preprocessing.size or clip_shape[1:3]
    method = f" {preprocessing.method.replace('_', ' ')}" if preprocessing.size else ""
    note = f" (trained on {trained})" if trained not in (None, clip_shape[0]) else ""
    name = "" if preprocessing.name == "own" else f"{preprocessing.name}, "
    return f"{name}{height}x{width}{method}, {f'{self._frames} of ' * bool(self._frames)}{clip_shape[0]} frames{note}"

  def check(self, clip_shape: Sequence[int]) -> None:
    """Raises UserError, with the reason, if the network does not accept clips of shape (T, H, W, C)."""
    frames, channels = clip_shape[0], clip_shape[3]
    if channels not in (1, 3):
      raise UserError(f"{self.name} takes clips of 1 or 3 channels, got {channels}")
    if frames < (least := self.preprocessing.min_frames):
      raise UserError(
        f"FVD needs at least {least} frames (--fvd_protocol={self.preprocessing.name}), got clips of {frames}; "
        "score longer clips, or use weights from `vidgen classify` instead of I3D's"
      )
    if self._volume is not None and frames != self._volume.shape[0]:
      raise UserError(f"{self.name} takes clips of {self._volume.shape[0]} frames, got {frames}; see --num_frames")
    try:
      jax.eval_shape(self._forward, self._placed, jax.ShapeDtypeStruct((1, *clip_shape), jnp.uint8))
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
      raise UserError(f"{self.name} cannot take clips of {'x'.join(map(str, clip_shape))}: {error}") from error

  def extract(self, video: np.ndarray) -> Features:
    """Features of clips uint8[N, T, H, W, C], N >= 1, which every process has.

    Raises:
      UserError: if the clips are not uint8, the network does not accept them, or a feature is not finite.
    """
    rows = self._local_rows(len(video))
    return concatenate(self._extract_batch(video[local], index, len(video)) for index, local in enumerate(rows))

  def embed_frames(self, video: np.ndarray) -> np.ndarray:
    """Features float32[N, T, D] of each frame of uint8[N, T, H, W, C]; for an extractor of `load_frame_extractor`."""
    frames = video.reshape(-1, 1, *video.shape[2:])
    return self.extract(frames).features.reshape(*video.shape[:2], -1)

  def extract_all(
    self, clips: IndexedClips, *, variants: Mapping[str, Variant] | None = None, description: str = ""
  ) -> dict[str, Features]:
    """Features of all clips for each variant, in one pass over the files. Each process reads its own clips only.

    Args:
      clips: clips of one shape.
      variants: functions of a batch of clips, by name; None for the clips themselves, with the name ''.
      description: description of the progress bar, which is shown on a terminal.
    """
    variants = {"": lambda video: video} if variants is None else variants
    rows = self._local_rows(len(clips))
    parts: dict[str, list[Features]] = {name: [] for name in variants}
    disabled = None if jax.process_index() == 0 else True  # None: on a terminal only
    with tqdm(total=len(clips), desc=description, unit=" clips", disable=disabled) as bar:
      # All rows of this process in one stream, so that reading continues while the devices compute.
      for index, local in enumerate(clips.batches(len(self._places), indices=np.concatenate(rows))):
        for name, variant in variants.items():
          parts[name].append(self._extract_batch(variant(local), index, len(clips)))
        bar.update(min(self.batch_size, len(clips) - index * self.batch_size))
    return {name: concatenate(found) for name, found in parts.items()}

  def _local_rows(self, count: int) -> list[np.ndarray]:
    """For each batch, the clips of this process; the last batch is padded with the last clip."""
    return [np.minimum(start + self._places, count - 1) for start in range(0, count, self.batch_size)]

  def _extract_batch(self, local: np.ndarray, index: int, count: int) -> Features:
    # Floats in [0, 1] would be scaled as values of 0..255: nearly black clips, at a distance near 0 from each other.
    if local.dtype != np.uint8:
      raise UserError(f"{self.name} takes clips of uint8 in 0..255, got {local.dtype}; scale, round and cast them")
    batch = global_batch(local, batch_sharding(self._mesh, microbatches=False))
    output = jax.device_get(self._apply(self._placed, batch))
    valid = min(self.batch_size, count - index * self.batch_size)
    found = Features(output.features[:valid], output.logits[:valid])
    layers = (array.reshape(len(found), -1) for array in (found.features, found.logits))
    finite = np.all([np.isfinite(layer).all(axis=1) for layer in layers], axis=0)
    if not finite.all():
      where = index * self.batch_size + int(np.argmin(finite))
      raise UserError(f"{self.name}: the features of clip {where} are not finite; the weights are damaged")
    return found

  def _forward(self, placed: tuple, video: jax.Array) -> Any:
    variables, volume = placed
    if self._frames == "middle":
      video = video[:, video.shape[1] // 2][:, None]
    return self._module.apply(variables, self._preprocessing(video.shape[1:])(video, volume=volume))

  def _preprocessing(self, clip_shape: Sequence[int]) -> Preprocessing:
    # A classifier gets clips of the size that it was trained on.
    side = self._own.get("resolution")
    if self.preprocessing.name != "own" or side is None or tuple(clip_shape[1:3]) == (side, side):
      return self.preprocessing
    return dataclasses.replace(self.preprocessing, size=(side, side), fit="short_side")


def own_preprocessing(description: dict[str, Any], name: str) -> Preprocessing:
  """The preprocessing of a classifier; its description may have been edited, as the hash covers the tensors only."""
  fields: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resolution": 1} | description
  for field, shape, least in (("mean", (3,), -np.inf), ("std", (3,), 0), ("resolution", (), 0)):
    value = np.asarray(fields[field])
    is_number = value.dtype.kind in ("iuf" if shape else "iu") and value.shape == shape
    if not is_number or not np.isfinite(value).all() or value.min() <= least:
      raise UserError(
        f"{name}: invalid {field} {fields[field]!r} in its description; mean and std must be three finite numbers, "
        "resolution a whole number, std and resolution above 0"
      )
  return Preprocessing(name="own", mean=tuple(fields["mean"]), std=tuple(fields["std"]))


def load_extractor(path: str | Path, *, mesh: jax.sharding.Mesh, **options: Any) -> FeatureExtractor:
  """The extractor of a weight file, UserError if it is missing or damaged; `options` as in `FeatureExtractor`."""
  return FeatureExtractor(read_weight_file(path), mesh=mesh, name=str(path), **options)


def load_frame_extractor(path: str | Path, *, mesh: jax.sharding.Mesh, batch_size: int = 64) -> FeatureExtractor:
  """An extractor of features of single frames from the weight file of a TSN (a ResNet-50), for example of faces.

  Raises:
    UserError: if the file is missing or damaged, or the network needs clips.
  """
  weights = read_weight_file(path, network="tsn")
  if weights.network != "tsn":
    raise UserError(f"{path} holds {weights.network}, which takes clips; embedding single frames needs a tsn")
  single = dataclasses.replace(weights, settings=weights.settings | {"segments": 1})
  return FeatureExtractor(single, mesh=mesh, batch_size=batch_size, name=str(path))
