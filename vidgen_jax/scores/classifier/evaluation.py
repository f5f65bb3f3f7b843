"""How many clips of a split a classifier recognises."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.scores.classifier.config import window_of
from vidgen_jax.scores.classifier.network import MEAN, STD, predict
from vidgen_jax.scores.networks import build_network
from vidgen_jax.scores.weights.weight_file import WeightFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
  """What became of every class.

  Attributes:
    class_names: names of the labels, in the order of their indices.
    confusion: int64[true class, predicted class], clips.
  """

  class_names: tuple[str, ...]
  confusion: np.ndarray

  @property
  def num_clips(self) -> int:
    """Clips that were classified."""
    return int(self.confusion.sum())

  @property
  def num_right(self) -> int:
    """Clips whose most probable class is the true one."""
    return int(np.trace(self.confusion))

  @property
  def top1(self) -> float:
    """Share of the clips whose most probable class is the true one, in [0, 1]."""
    return self.num_right / self.num_clips

  @property
  def per_class(self) -> dict[str, float]:
    """The same for each class by itself; NaN for a class without clips."""
    counts = self.confusion.sum(axis=1)
    shares = np.where(counts, np.diag(self.confusion) / np.maximum(counts, 1), np.nan)
    return dict(zip(self.class_names, shares.tolist(), strict=True))


def accuracy(
  weights: WeightFile, data: DataConfig, split: str, mesh: jax.sharding.Mesh, *, batch_size: int = 32, windows: int = 1
) -> Accuracy:
  """Classifies a whole split.

  Args:
    weights: a classifier that was trained here.
    data: the data set; its windows must be those the classifier was trained on.
    split: of the data set.
    mesh: the devices; the result does not depend on it.
    batch_size: windows at a time, over all devices; rounded up to what the devices divide.
    windows: of each clip, see `ClassifierConfig.test_windows`.

  Raises:
    UserError: if data set or split are missing, its class names are not the classifier's in the same order, or the
      windows differ.
  """
  owner = f"the classifier trained on {weights.details.get('data', '?')!r}"
  records.check_class_names(weights.class_names, data, what=owner)
  trained = {field: weights.preprocessing.get(field) for field in window_of(data)}
  if trained != window_of(data):
    raise UserError(f"the classifier was trained on windows of {trained}, got {window_of(data)}; choose the same")
  network = build_network(weights.network, weights.settings)
  preprocessing = {name: tuple(weights.preprocessing[name]) for name in ("mean", "std")}
  variables = jax.device_put(jax.tree.map(np.asarray, weights.variables), meshes.replicated(mesh))
  count = ConfusionCounter(network, mesh, len(weights.class_names), preprocessing=preprocessing)
  batches = SplitBatches(data, split, batch_size=batch_size, windows=windows, mesh=mesh)
  return Accuracy(class_names=tuple(weights.class_names), confusion=count(variables, batches))


class SplitBatches:
  """The clips of a split, in the order of the records, this process's share of them in batches of one size.

  Every process yields the same number of batches; those that run out of clips fill up with `label` -1.

  Args:
    data: what to read; the middle square of every frame.
    split: which split.
    batch_size: windows of a batch over all processes; the clips of a batch are rounded up to what the devices divide.
    windows: of each clip, evenly spread from its first to its last frame; 1 is the centre.
    mesh: the devices.

  Raises:
    UserError: if the data set or the split is missing, or has only clips that are too short.
  """

  def __init__(self, data: DataConfig, split: str, *, batch_size: int, windows: int, mesh: jax.sharding.Mesh):
    self._data = data
    self._windows = windows
    self._source = records.open_clips(data, split)
    self._mesh = mesh
    clips = max(1, batch_size // windows)
    self._local_size = -(-clips // mesh.size) * mesh.size // jax.process_count()

  @property
  def num_clips(self) -> int:
    """Clips over all processes."""
    return len(self._source)

  def __iter__(self) -> Iterator[dict[str, jax.Array]]:
    """Global arrays {'video': uint8[B, windows, T, H, W, C], 'label': int32[B]}."""
    clips = grain.MapDataset.source(self._source).map(_Windows(self._data, self._windows))
    clips = clips[jax.process_index() :: jax.process_count()]
    options = grain.ReadOptions(num_threads=self._data.num_threads, prefetch_buffer_size=2 * self._local_size)
    batches = iter(clips.to_iter_dataset(options).batch(self._local_size, drop_remainder=False) if len(clips) else ())
    most_clips = -(-self.num_clips // jax.process_count())
    for _ in range(-(-most_clips // self._local_size)):
      batch = self._filled(next(batches, None))
      yield meshes.global_batch(batch, meshes.batch_sharding(self._mesh, microbatches=False))

  def _filled(self, batch: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    data = self._data
    shape = (self._local_size, self._windows, data.num_frames, data.resolution, data.resolution, data.channels)
    full = {"video": np.zeros(shape, np.uint8), "label": np.full(self._local_size, -1, np.int32)}
    for name, values in (batch or {}).items():
      full[name][: len(values)] = values
    return full


@dataclasses.dataclass(frozen=True)
class _Windows(grain.transforms.Map):
  """Record -> {'video': uint8[windows, T, H, W, C], 'label': int32[]}."""

  data: DataConfig
  windows: int

  def map(self, element: Mapping[str, Any]) -> dict[str, np.ndarray]:
    frames = element["frames"]
    cut = functools.partial(transforms.decode_squares, resolution=self.data.resolution, channels=self.data.channels)
    starts = window_starts(len(frames) - self.data.clip_length, self.windows)
    video = np.stack([cut(transforms.window_frames(frames, start, self.data)) for start in starts])
    return {"video": video, "label": np.int32(element["label"])}


def window_starts(last: int, windows: int) -> list[int]:
  """First frames of `windows` windows, evenly spread over 0 .. `last`; one alone begins at `last // 2`."""
  return [last // 2] if windows == 1 else [round(last * index / (windows - 1)) for index in range(windows)]


class ConfusionCounter:
  """Counts a network's confusions; compiled once.

  Args:
    network: gives `logits`.
    mesh: the devices.
    num_classes: of the data set.
    preprocessing: `mean` and `std`, see `network_input`.
  """

  def __init__(
    self,
    network: nn.Module,
    mesh: jax.sharding.Mesh,
    num_classes: int,
    *,
    preprocessing: Mapping[str, Sequence[float]] | None = None,
  ):
    self._num_classes = num_classes
    self._count: Callable[..., jax.Array] = jax.jit(
      functools.partial(
        _count_confusions,
        apply=network.apply,
        num_classes=num_classes,
        preprocessing=dict(preprocessing or {"mean": MEAN, "std": STD}),
      ),
      out_shardings=meshes.replicated(mesh),
    )

  def __call__(self, variables: Mapping[str, Any], batches: SplitBatches) -> np.ndarray:
    """int64[true class, predicted class] over all clips; the same on every process."""
    total = np.zeros((self._num_classes, self._num_classes), np.int64)
    for batch in batches:
      total += np.asarray(self._count(variables, batch))
    return total


def _count_confusions(
  variables: Mapping[str, Any],
  batch: Mapping[str, jax.Array],
  *,
  apply: Callable[..., Any],
  num_classes: int,
  preprocessing: Mapping[str, Sequence[float]],
) -> jax.Array:
  """int32[true class, predicted class]; clips with label -1 count nowhere."""
  video, label = batch["video"], batch["label"]
  windows = video.shape[1]
  # Windows stand next to each other along the batch axis, so every device keeps its own clips.
  probabilities = predict(apply, variables, video.reshape(-1, *video.shape[2:]), **preprocessing)
  predicted = probabilities.reshape(-1, windows, num_classes).mean(axis=1).argmax(axis=-1)
  true = jax.nn.one_hot(label, num_classes, dtype=jnp.int32)
  return true.T @ jax.nn.one_hot(predicted, num_classes, dtype=jnp.int32)
