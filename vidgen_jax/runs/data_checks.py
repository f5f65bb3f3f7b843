"""Comparison of a config with its data sets. Imports no JAX, so that a mismatch is reported at once."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from vidgen_jax.data import records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError

if TYPE_CHECKING:
  from vidgen_jax.runs.config import ExperimentConfig


STANDING = "pooling of standing statistics"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
  """Windows that a command reads.

  Attributes:
    data: data set and windows.
    split: name of the split.
    field: config field with this name.
    reader: what reads the windows, for messages.
  """

  data: DataConfig
  split: str
  field: str
  reader: str

  @classmethod
  def of_training(cls, data: DataConfig, *, reader: str) -> "Need":
    """Windows of the training split."""
    return cls(data=data, split=data.train_split, field="data.train_split", reader=reader)

  @property
  def is_training(self) -> bool:
    """Whether one window is cut from each clip."""
    return self.field == "data.train_split"


def count_classes(data: DataConfig) -> int:
  """Number of classes of a data set; 1 if it is missing, because what reads it raises an error about that itself."""
  if not (records.dataset_directory(data.name, data.data_dir) / records.MANIFEST).is_file():
    logging.info("data set %r is not in %s; algorithm.num_classes='data' counts as 1", data.name, data.data_dir)
    return 1
  return len(records.load_info(data.name, data.data_dir).class_names)


def check_training(config: "ExperimentConfig", *, validates: bool = True) -> None:
  """Compares the data sets of a training with its config.

  Logs properties that are likely to be unintended: batches that repeat clips, enlarged frames, grey frames in RGB.
  `validates` is whether the images and scores of the config are computed during training.

  Raises:
    UserError: if a data set, a split or long enough clips are missing, or the number of classes differs.
  """
  data, train, evaluation = config.data, config.train, config.evaluation
  validates = validates and bool(train.image_every or train.evaluate_every)
  needs = [Need.of_training(data, reader="training")]
  if validates:
    reader = f"validation (train.image_every={train.image_every}, train.evaluate_every={train.evaluate_every})"
    split, field = evaluation.selection_split, "evaluation.selection_split"
    needs.append(Need(data=config.for_selection().evaluation_data, split=split, field=field, reader=reader))
    # Their length depends on the conditioning frames, which are unknown without JAX.
    needs.append(Need.of_training(dataclasses.replace(config.standing_data, num_frames=1), reader=STANDING))
  counts = _check(config, needs, remedy="set it to {} or 'data'")
  batches = [(data.name, counts[0], "train.batch_size", train.batch_size)]
  if validates:
    name, size = config.standing_data.name, evaluation.standing_batch_size
    batches.append((name, counts[2], "evaluation.standing_batch_size", size))
  for batch in batches:
    if batch[1] < batch[3]:
      logging.warning("data set %r has %d training clips, less than %s=%d: batches repeat clips", *batch)
  if validates and train.evaluate_every and counts[1] < evaluation.training_clips:
    few = (data.name, counts[1], evaluation.selection_split, evaluation.training_clips)
    logging.info("data set %r has %d clips in split %r, less than evaluation.training_clips=%d; all are scored", *few)
  _warn_about_frames(data)


def check_scoring(config: "ExperimentConfig", *, num_frames: int, standing_frames: int | None, fewest: int = 1) -> int:
  """Compares the data sets of scoring with a trained model's config; returns the number of evaluation windows.

  Clips have `num_frames` frames, and training windows for standing statistics `standing_frames`, None without these;
  `fewest` is the smallest number of evaluation clips.

  Raises:
    UserError: as `check_training`, and for too few clips.
  """
  data = dataclasses.replace(config.evaluation_data, num_frames=num_frames)
  needs = [Need(data=data, split=config.evaluation.split, field="evaluation.split", reader="evaluation")]
  if standing_frames is not None:
    needs.append(
      Need.of_training(dataclasses.replace(config.standing_data, num_frames=standing_frames), reader=STANDING)
    )
  (count, *_) = _check(config, needs, remedy="choose a data set with the classes of the training")
  available = f"data set {data.name!r} has {count} clips of {num_frames} frames in split {config.evaluation.split!r}"
  if count < fewest:
    raise UserError(f"{available}, but the scores need {fewest}; choose another split, or build it with more clips")
  if count < config.evaluation.num_clips:
    logging.warning("%s, fewer than evaluation.num_clips=%d; all are used", available, config.evaluation.num_clips)
  return count


def _check(config: "ExperimentConfig", needs: Iterable[Need], *, remedy: str) -> list[int]:
  """Number of windows of each need; raises the errors of `check_training`.

  `remedy` is that of another number of classes, in which {} stands for the number of the data set.
  """
  counts = []
  for need in needs:
    info = records.load_info(need.data.name, need.data.data_dir)
    _check_classes(info, getattr(config.algorithm, "num_classes", 1), remedy)
    counts.append(_count_windows(info, need))
  return counts


def _check_classes(info: records.DatasetInfo, num_classes: int, remedy: str) -> None:
  found = len(info.class_names)
  # A model with one class ignores labels.
  if num_classes not in (1, found):
    classes = "1 class" if found == 1 else f"{found} classes"
    raise UserError(
      f"data set {info.name!r} has {classes}, algorithm.num_classes is {num_classes}; {remedy.format(found)}"
    )
  for split, labels in info.labels.items():
    if len(wrong := np.setdiff1d(labels, np.arange(found))):
      command = records.build_command(info.name, info.directory.parents[1])
      raise UserError(
        f"data set {info.name!r} has the label {wrong[0]} in split {split!r}, but labels of {found} classes are "
        f"0..{found - 1}; build it again with: {command} --overwrite"
      )


def _count_windows(info: records.DatasetInfo, need: Need) -> int:
  data = need.data
  try:
    indices = records.long_enough(info, need.split, data.clip_length)
    if data.resize == "none":
      clip = records.ClipSource(records.open_builder(info.directory), need.split, indices)[0]
      transforms.check_crop(clip["width"], clip["height"], data.resolution)
  except UserError as error:
    windows = f"windows of {data.num_frames} frames, data.frame_stride={data.frame_stride}"
    raise UserError(f"{need.reader} needs {windows}, in {need.field}={need.split}, but {error}") from error
  lengths = info.num_frames[need.split][indices]
  if need.is_training or data.eval_window != "all":
    return len(lengths)
  return int(((lengths - data.clip_length) // data.eval_window_stride + 1).sum())


def _warn_about_frames(data: DataConfig) -> None:
  """Warns if the first training clip is smaller than its windows, or grey while the windows are RGB."""
  clip = records.open_split(records.load_info(data.name, data.data_dir), data.train_split)[0]
  size, side = (clip["width"], clip["height"]), data.resize_to or data.resolution
  if min(size) < side:
    logging.warning(
      "data set %r has frames of %dx%d pixels, which are enlarged to %d; build it with a larger --size, or lower "
      "data.resolution",
      *(data.name, *size, side),
    )
  image = np.asarray(transforms.decode_frame(clip["frames"][len(clip["frames"]) // 2], channels=3))
  if data.channels == 3 and (image == image[..., :1]).all():
    logging.warning(
      "data set %r seems to be grey, but data.channels is 3; set data.channels and algorithm.channels to 1", data.name
    )
