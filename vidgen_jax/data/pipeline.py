"""Batches from a built data set, read with Grain: seeded, sharded by process, and resumable to the bit.

Nothing is normalised here: video leaves as uint8 and becomes float on the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags, logging

from vidgen_jax.data import sources, transforms
from vidgen_jax.data.config import DataConfig
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

  def __repr__(self) -> str:
    # Grain compares this string with the one in a checkpoint.
    return f"ClipSource({self._description}, clips={len(self)})"


def train_batches(
  config: DataConfig,
  *,
  batch_size: int,
  microbatches: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """An endless stream of training batches.

  Every epoch is shuffled anew, and over all processes together it is the data set, each clip once; a batch may span two
  epochs, so a data set smaller than a batch works. Windows differ from epoch to epoch.

  Args:
    config: what to read.
    batch_size: B, clips of one micro-batch of *this* process.
    microbatches: K.
    seed: of the order and of the windows; the same on all processes.
    process_index: which of the processes this one is.
    process_count: number of processes.

  Returns:
    An iterator of {'video': uint8[K, B, T, H, W, C], 'label': int32[K, B]}. `get_state` and `set_state` (and
    `grain.checkpoint.CheckpointSave`) save and restore its place exactly, within an epoch too.

  Raises:
    UserError: if the data set is missing, has only clips that are too short, or has fewer clips than processes.
  """
  source = ClipSource(config, config.train_split)
  if len(source) < process_count:
    raise UserError(f"data set {config.name!r} has {len(source)} usable clips for {process_count} processes; use fewer")
  clips = grain.MapDataset.source(source).seed(seed).shuffle()[process_index::process_count].repeat()
  # Grain's generator depends on the seed and the place in the stream, so without this all processes would draw alike.
  window_seed = int(np.random.SeedSequence([seed, process_index]).generate_state(1)[0])
  clips = clips.random_map(transforms.RandomWindow(config), seed=window_seed)
  clips_per_batch = batch_size * microbatches
  stream = clips.to_iter_dataset(_read_options(config, clips_per_batch))
  stream = stream.batch(clips_per_batch, drop_remainder=True).map(transforms.StackMicrobatches(microbatches))
  if config.workers:
    # Grain's processes read its own flags, which are unparsed unless the program was started by `absl.app`.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers))
  return iter(stream)


def fast_forward(iterator: grain.DatasetIterator, *, clips: int) -> None:
  """Puts a fresh iterator of `train_batches` where it has already delivered `clips` clips to this process.

  For a run that continues on another number of processes, where Grain's own state cannot be restored. Without worker
  processes this is immediate; with them the batches are read and thrown away.

  Args:
    iterator: as it came from `train_batches`.
    clips: rounded down to whole batches.
  """
  state = iterator.get_state()
  batch = next(iterator)
  clips_per_batch = batch["label"].size
  batches = clips // clips_per_batch
  if set(state) == {"next_index"}:
    iterator.set_state({"next_index": batches * clips_per_batch})
    return
  iterator.set_state(state)
  for _ in range(batches):
    next(iterator)


def eval_batches(
  config: DataConfig,
  *,
  batch_size: int,
  num_clips: int | None,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """The evaluation clips, once, always the same: `config.eval_window`, middle square, in the order of the records.

  Args:
    config: what to read.
    batch_size: B, clips of one batch of *this* process.
    num_clips: how many clips, over all processes; None for all.
    process_index: which of the processes this one is.
    process_count: number of processes.

  Returns:
    An iterator of {'video': uint8[B, T, H, W, C], 'label': int32[B]}; the last batch may be shorter. Where the clips do
    not divide evenly, the first processes deliver one clip more.

  Raises:
    UserError: if the data set or the split is missing, or has only clips that are too short, or `num_clips` < 1.
  """
  if num_clips is not None and num_clips < 1:
    raise UserError(f"the number of evaluation clips must be at least 1, got {num_clips}")
  source = ClipSource(config, config.eval_split)
  clips = grain.MapDataset.source(source).random_map(transforms.EvaluationWindow(config), seed=EVALUATION_SEED)
  clips = clips[:num_clips][process_index::process_count]
  if not len(clips):
    return iter(())
  stream = clips.to_iter_dataset(_read_options(config, batch_size)).batch(batch_size, drop_remainder=False)
  return iter(stream)


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


def _read_options(config: DataConfig, clips_per_batch: int) -> grain.ReadOptions:
  """Threads, and a buffer of whole batches."""
  buffered = max(config.prefetch * clips_per_batch, config.num_threads)
  return grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=buffered)
