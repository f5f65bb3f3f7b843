"""Accuracy of a classifier on a split of a data set."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import batch_sharding, global_batch, replicated
from vidgen_jax.scores.classifier.algorithm import class_probabilities
from vidgen_jax.scores.classifier.config import window_of
from vidgen_jax.scores.networks import build_network
from vidgen_jax.scores.weights.weight_file import WeightFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
  """Predicted classes of a set of clips: `confusion` int64 [true class, predicted class] counts them."""

  class_names: tuple[str, ...]
  confusion: np.ndarray

  @property
  def num_clips(self) -> int:
    """Number of classified clips."""
    return int(self.confusion.sum())

  @property
  def num_right(self) -> int:
    """Number of clips whose most probable class is the true one."""
    return int(np.trace(self.confusion))

  @property
  def top1(self) -> float:
    """`num_right / num_clips`, in [0, 1]."""
    return self.num_right / self.num_clips


def accuracy(
  weights: WeightFile, data: DataConfig, split: str, mesh: jax.sharding.Mesh, *, batch_size: int = 32, windows: int = 1
) -> Accuracy:
  """Classifies a split with a classifier trained by `vidgen classify`; the result does not depend on the devices.

  Args:
    weights: classifier.
    data: data set, with the windows that the classifier was trained on.
    split: name of the split.
    mesh: devices.
    batch_size: number of windows per batch, over all devices; rounded up to a multiple of the devices.
    windows: number of windows of each clip; see `ClassifierConfig.test_windows`.

  Raises:
    UserError: if data set or split are missing, or its classes or windows are not the classifier's.
  """
  owner = f"the classifier trained on {weights.details.get('data', '?')!r}"
  records.check_class_names(weights.class_names, data, what=owner)
  trained = {field: weights.preprocessing.get(field) for field in window_of(data)}
  if trained != window_of(data):
    raise UserError(f"the classifier was trained on windows of {trained}, got {window_of(data)}; choose the same")
  variables = jax.device_put(jax.tree.map(np.asarray, weights.variables), replicated(mesh))
  preprocessing = {name: weights.preprocessing[name] for name in ("mean", "std")}
  network = build_network(weights.network, weights.settings)
  count = ConfusionCounter(network, mesh, len(weights.class_names), **preprocessing)
  batches = SplitBatches(data, split, batch_size=batch_size, windows=windows, mesh=mesh)
  return Accuracy(class_names=tuple(weights.class_names), confusion=count(variables, batches))


class SplitBatches:
  """Iterable over all clips of a split in record order, in batches of one size, divided between the processes.

  Every process yields the same number of batches, padded with clips of label -1.

  Args:
    data: data set and windows; frames are cropped to their centre square.
    split: name of the split.
    batch_size: number of windows per batch, over all devices; rounded up to whole clips on every device.
    windows: number of windows of each clip, evenly spread; 1 is the centre.
    mesh: devices.

  Raises:
    UserError: if the data set or the split is missing, or all its clips are too short.
  """

  def __init__(self, data: DataConfig, split: str, *, batch_size: int, windows: int, mesh: jax.sharding.Mesh):
    self._data = data
    self._windows = windows
    self._source = records.open_clips(data, split)
    self._mesh = mesh
    clips = max(1, batch_size // windows)
    self._local_size = -(-clips // mesh.size) * mesh.size // jax.process_count()

  def __iter__(self) -> Iterator[dict[str, jax.Array]]:
    """Global arrays {'video': uint8 [B, windows, T, H, W, C], 'label': int32 [B]}."""
    clips = grain.MapDataset.source(self._source).map(_Windows(self._data, self._windows))
    clips = clips[jax.process_index() :: jax.process_count()]
    options = grain.ReadOptions(num_threads=self._data.num_threads, prefetch_buffer_size=2 * self._local_size)
    batches = iter(clips.to_iter_dataset(options).batch(self._local_size, drop_remainder=False) if len(clips) else ())
    most_clips = -(-len(self._source) // jax.process_count())
    for _ in range(-(-most_clips // self._local_size)):
      batch = self._padded(next(batches, {}))
      yield global_batch(batch, batch_sharding(self._mesh, microbatches=False))

  def _padded(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    data = self._data
    shape = (self._local_size, self._windows, data.num_frames, data.resolution, data.resolution, data.channels)
    full = {"video": np.zeros(shape, np.uint8), "label": np.full(self._local_size, -1, np.int32)}
    for name, values in batch.items():
      full[name][: len(values)] = values
    return full


@dataclasses.dataclass(frozen=True)
class _Windows(grain.transforms.Map):
  """Record -> {'video': uint8 [windows, T, H, W, C], 'label': int32 []}."""

  data: DataConfig
  windows: int

  def map(self, element: Mapping[str, Any]) -> dict[str, np.ndarray | np.generic]:
    frames = element["frames"]
    cut = functools.partial(transforms.decode_squares, resolution=self.data.resolution, channels=self.data.channels)
    starts = window_starts(len(frames) - self.data.clip_length, self.windows)
    video = np.stack([cut(transforms.window_frames(frames, start, self.data)) for start in starts])
    return {"video": video, "label": np.int32(element["label"])}


def window_starts(last: int, windows: int) -> list[int]:
  """First frames of `windows` windows, evenly spread over 0..`last`; a single window starts at `last // 2`."""
  return [last // 2] if windows == 1 else [round(last * index / (windows - 1)) for index in range(windows)]


class ConfusionCounter:
  """Confusion matrix of a network, compiled once.

  Args:
    network: module whose output has `logits`.
    mesh: devices.
    num_classes: number of classes.
    **preprocessing: `mean` and `std` of `network_input`.
  """

  def __init__(self, network: nn.Module, mesh: jax.sharding.Mesh, num_classes: int, **preprocessing: Sequence[float]):
    def count(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> jax.Array:
      video, label = batch["video"], batch["label"]
      # The windows of a clip are adjacent on the batch axis, so every device keeps its own clips.
      flat = video.reshape(-1, *video.shape[2:])
      probabilities = class_probabilities(network, variables, flat, **preprocessing)
      predicted = probabilities.reshape(-1, video.shape[1], num_classes).mean(axis=1).argmax(axis=-1)
      true = jax.nn.one_hot(label, num_classes, dtype=jnp.int32)  # All zeros for label -1.
      return true.T @ jax.nn.one_hot(predicted, num_classes, dtype=jnp.int32)

    self._num_classes = num_classes
    self._count: Callable[..., jax.Array] = jax.jit(count, out_shardings=replicated(mesh))

  def __call__(self, variables: Mapping[str, Any], batches: Iterable[Mapping[str, jax.Array]]) -> np.ndarray:
    """int64 [true class, predicted class] over all clips; equal on all processes."""
    total = np.zeros((self._num_classes, self._num_classes), np.int64)
    for batch in batches:
      total += np.asarray(self._count(variables, batch))
    return total
