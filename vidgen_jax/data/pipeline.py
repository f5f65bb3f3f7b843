"""Batches from a built data set, read with Grain: seeded, sharded by process, and resumable to the bit.

Nothing is normalised here: video leaves as uint8 and becomes float on the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import logging

from vidgen_jax.data import sources, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.training_stream import TrainingStream
from vidgen_jax.errors import UserError

EVALUATION_SEED = 0
"""Of the windows of `eval_window='random'`: evaluation never depends on a run's seed."""


class ClipSource:
  """The records of one split that are long enough for a window.

  A `grain.sources.RandomAccessDataSource`. Clips that are too short are counted in the log and left out.

  Args:
    config: names the data set and gives the length that is needed.
    split: which split to read.

  Raises:
    UserError: if the data set or the split is missing, or every clip is too short.
  """

  def __init__(self, config: DataConfig, split: str):
    info = sources.load_info(config.name, config.data_dir)
    self._records = sources.open_split(info, split)
    lengths = info.num_frames[split]
    self._indices = np.flatnonzero(lengths >= config.clip_length)
    self._description = f"{config.name}/{split}"
    self.class_names = info.class_names
    if not len(self._indices):
      raise UserError(
        f"data set {config.name!r} has no clip of {config.clip_length} frames in split {split!r} (the longest has "
        f"{lengths.max(initial=0)}); lower data.num_frames or data.frame_stride"
      )
    self.num_skipped = len(lengths) - len(self._indices)
    if self.num_skipped:
      logging.warning(
        "%s: skipped %d of %d clips, which have fewer than %d frames",
        *(self._description, self.num_skipped, len(lengths), config.clip_length),
      )

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    return self._records[int(self._indices[index])]

  def read(self, index: int) -> bytes:
    """The record as it is stored; see `StoredClips.read`."""
    return self._records.read(int(self._indices[index]))

  def __repr__(self) -> str:
    # Grain compares this string with the one in a checkpoint.
    return f"ClipSource({self._description}, clips={len(self)})"


def train_batches(
  config: DataConfig, *, batch_size: int, microbatches: int, seed: int, places: Sequence[int] | None = None
) -> TrainingStream:
  """An endless stream of training batches.

  Every epoch is shuffled anew and is the data set, each clip once; a batch may span two epochs, so a data set smaller
  than a batch works. Windows differ from epoch to epoch. The batches of all processes together do not depend on the
  number of processes, nor on `config.workers`, `config.num_threads` and `config.prefetch`.

  Args:
    config: what to read.
    batch_size: clips of one micro-batch, over all processes.
    microbatches: K.
    seed: of the order and of the windows; the same on all processes.
    places: this process's places in a micro-batch, see `mesh.local_batch_indices`; B of them; None for all.

  Returns:
    An iterator of {'video': uint8[K, B, T, H, W, C], 'label': int32[K, B]}. `get_state` and `set_state` save and
    restore its place exactly, within an epoch too, and with another number of workers and of processes.

  Raises:
    UserError: if the data set is missing, or has only clips that are too short.
  """
  source = ClipSource(config, config.train_split)
  clips = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  # A seed of its own, so that windows say nothing of the order.
  window_seed = int(np.random.SeedSequence([seed, 0]).generate_state(1)[0])
  clips = clips.random_map(transforms.RandomWindow(config), seed=window_seed)
  return TrainingStream(clips, config, microbatches=microbatches, batch_size=batch_size, places=places)


def eval_batches(
  config: DataConfig, *, batch_size: int, num_clips: int | None, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """The evaluation clips, once, always the same: `config.eval_window`, middle square, in the order of the records.

  Args:
    config: what to read.
    batch_size: B, clips of one batch of *this* process.
    num_clips: how many clips, over all processes; None for all.
    process_index: which of the processes this one is.
    process_count: number of processes.

  Returns:
    An iterator of {'video': uint8[B, T, H, W, C], 'label': int32[B]}; the last batch may be shorter. Every process gets
    the same number of batches, so each may run collectives for every batch; where the clips do not divide evenly, the
    first processes deliver one clip more, and the last batch of the others may be empty: B = 0.

  Raises:
    UserError: if the data set or the split is missing, or has only clips that are too short, or `num_clips` < 1.
  """
  if num_clips is not None and num_clips < 1:
    raise UserError(f"the number of evaluation clips must be at least 1, got {num_clips}")
  source = ClipSource(config, config.eval_split)
  clips = grain.MapDataset.source(source).random_map(transforms.EvaluationWindow(config), seed=EVALUATION_SEED)
  clips = clips[:num_clips]
  most_clips = -(-len(clips) // process_count)
  return _padded(
    _eval_stream(clips[process_index::process_count], config, batch_size), config, -(-most_clips // batch_size)
  )


def num_eval_clips(config: DataConfig) -> int:
  """Clips of the evaluation split that are long enough.

  Raises:
    UserError: as `eval_batches`.
  """
  return len(ClipSource(config, config.eval_split))


def example_batch(config: DataConfig, leading: Sequence[int]) -> dict[str, np.ndarray]:
  """Zeros of a batch's shapes and types, for initialisation and compilation without reading anything.

  Args:
    config: what would be read.
    leading: the leading axes: (K, B) as in training, or (B,).
  """
  size = config.resolution
  return {
    "video": np.zeros((*leading, config.num_frames, size, size, config.channels), np.uint8),
    "label": np.zeros(leading, np.int32),
  }


def _eval_stream(clips: grain.MapDataset, config: DataConfig, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  if not len(clips):
    return iter(())
  buffered = max(config.prefetch * batch_size, config.num_threads)
  options = grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=buffered)
  return iter(clips.to_iter_dataset(options).batch(batch_size, drop_remainder=False))


def _padded(
  batches: Iterator[dict[str, np.ndarray]], config: DataConfig, count: int
) -> Iterator[dict[str, np.ndarray]]:
  """`count` batches, the last of which are empty where `batches` ends before."""
  for _ in range(count):
    yield next(batches, None) or example_batch(config, (0,))
