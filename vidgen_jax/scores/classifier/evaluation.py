"""Accuracy of a classifier on a split of a data set."""

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
from vidgen_jax.parallel.mesh import batch_sharding, global_batch, replicated
from vidgen_jax.scores.classifier.config import MEAN, STD, window_of
from vidgen_jax.scores.metrics.preprocessing import normalise
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

  @property
  def chance(self) -> float:
    """Accuracy of always predicting the most frequent class of the clips, in [0, 1]."""
    return float(self.confusion.sum(axis=1).max() / self.num_clips)


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
  preprocessing = {name: weights.preprocessing[name] for name in ("mean", "std")}
  network = build_network(weights.network, weights.settings)
  count = ConfusionCounter(network, data, split, mesh, batch_size=batch_size, windows=windows, **preprocessing)
  variables = jax.device_put(jax.tree.map(np.asarray, weights.variables), replicated(mesh))
  return Accuracy(class_names=tuple(weights.class_names), confusion=count(variables))


class ConfusionCounter:
  """Confusion matrix of a network on all clips of a split, compiled once.

  Args:
    network: module whose output has `logits`.
    data: data set and windows; frames are cropped to their centre square.
    split: name of the split.
    mesh: devices.
    batch_size: number of windows per batch, over all devices; rounded up to whole clips on every device.
    windows: number of windows of each clip, evenly spread; 1 is the centre.
    mean: mean of the network's input by RGB channel, see `normalise`.
    std: deviation by channel.

  Raises:
    UserError: if the data set or the split is missing, or all its clips are too short.
  """

  def __init__(
    self,
    network: nn.Module,
    data: DataConfig,
    split: str,
    mesh: jax.sharding.Mesh,
    *,
    batch_size: int,
    windows: int,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
  ):
    self._data, self._windows, self._mesh = data, windows, mesh
    self._source = records.open_clips(data, split)
    self._batch_size = -(-max(1, batch_size // windows) // mesh.size) * mesh.size
    count = functools.partial(count_predictions, network, mean=mean, std=std)
    self._count: Callable[..., jax.Array] = jax.jit(count, out_shardings=replicated(mesh))

  def batches(self) -> Iterator[dict[str, jax.Array]]:
    """Global arrays {'video': uint8 [B, windows, T, H, W, C], 'label': int32 [B]}, in record order.

    The batches have one size; the last one is padded with clips of label -1.
    """
    count, local_size = jax.process_count(), self._batch_size // jax.process_count()
    end = -(-len(self._source) // self._batch_size) * self._batch_size
    clips = grain.MapDataset.range(jax.process_index(), end, count).map(self._read)
    options = grain.ReadOptions(num_threads=self._data.num_threads, prefetch_buffer_size=2 * local_size)
    for batch in clips.to_iter_dataset(options).batch(local_size, drop_remainder=True):
      yield global_batch(batch, batch_sharding(self._mesh, microbatches=False))

  def __call__(self, variables: Mapping[str, Any]) -> np.ndarray:
    """int64 [true class, predicted class] over all clips; equal on all processes."""
    return np.sum([np.asarray(self._count(variables, batch), np.int64) for batch in self.batches()], axis=0)

  def _read(self, index: int) -> dict[str, np.ndarray | np.generic]:
    data = self._data
    if index >= len(self._source):
      shape = (self._windows, data.num_frames, data.resolution, data.resolution, data.channels)
      return {"video": np.zeros(shape, np.uint8), "label": np.int32(-1)}
    clip = self._source[index]
    starts = window_starts(len(clip["frames"]) - data.clip_length, self._windows)
    windows = [transforms.window_frames(clip["frames"], start, data) for start in starts]
    videos = [transforms.decode_window(frames, data) for frames in windows]
    return {"video": np.stack(videos), "label": np.int32(clip["label"])}


def count_predictions(
  network: nn.Module,
  variables: Mapping[str, Any],
  batch: Mapping[str, jax.Array],
  *,
  mean: Sequence[float] = MEAN,
  std: Sequence[float] = STD,
) -> jax.Array:
  """int32 [true class, predicted class] of a batch; the probabilities of a clip are the means over its windows."""
  video = batch["video"]
  # The windows of a clip are adjacent on the batch axis, so every device keeps its own clips.
  flat = normalise(video.reshape(-1, *video.shape[2:]), mean=mean, std=std)
  output: Any = network.apply(variables, flat, train=False)
  probabilities = jax.nn.softmax(output.logits.astype(jnp.float32), axis=-1)
  num_classes = probabilities.shape[-1]
  predicted = probabilities.reshape(-1, video.shape[1], num_classes).mean(axis=1).argmax(axis=-1)
  true = jax.nn.one_hot(batch["label"], num_classes, dtype=jnp.int32)  # All zeros for label -1.
  return true.T @ jax.nn.one_hot(predicted, num_classes, dtype=jnp.int32)


def window_starts(last: int, windows: int) -> list[int]:
  """First frames of `windows` windows, evenly spread over 0..`last`; a single window starts at `last // 2`."""
  return [last // 2] if windows == 1 else [round(last * index / (windows - 1)) for index in range(windows)]
