"""Conditioning frames of the clips to generate: from evaluation clips, or from the user's videos or images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import flax.struct
import jax
import numpy as np
from absl import logging

from vidgen_jax.data import pipeline, records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError, decode_video
from vidgen_jax.data.still_images import read_image
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError
from vidgen_jax.ops.conditioning import frames_needed, take_frames


@flax.struct.dataclass
class Clips:
  """Conditioning frames of N clips, with the whole clips where they are known."""

  conditioning: np.ndarray
  """uint8[N, G, H, W, C]; G may be 0."""
  truth: np.ndarray | None
  """uint8[N, T, H, W, C], the real clips; None unless all of them are known."""
  label: np.ndarray
  """int32[N]."""

  def __len__(self) -> int:
    return len(self.label)

  def __getitem__(self, part: slice) -> "Clips":
    return jax.tree.map(lambda array: array[part], self)

  def known_truth(self) -> np.ndarray:
    """`truth`; raises ValueError if it is None."""
    if self.truth is None:
      raise ValueError("the truth of these clips is unknown")
    return self.truth

  def batch(self) -> dict[str, np.ndarray]:
    """The model's inputs as a host batch."""
    return {"conditioning": self.conditioning, "label": self.label}

  def of_classes(self, labels: Sequence[int]) -> "Clips":
    """All clips with the first label, then all clips with the second one, and so on."""
    repeated = jax.tree.map(lambda array: np.concatenate([array] * len(labels)), self)
    return dataclasses.replace(repeated, label=np.repeat(np.asarray(labels, np.int32), len(self)))


def empty_clips(data: DataConfig, *, num_clips: int) -> Clips:
  """Clips without conditioning frames, for models that generate from noise; all labels are 0."""
  shape = (num_clips, 0, data.resolution, data.resolution, data.channels)
  return Clips(conditioning=np.zeros(shape, np.uint8), truth=None, label=np.zeros(num_clips, np.int32))


@dataclass(frozen=True)
class ClipSpec:
  """The clips that a model generates."""

  data: DataConfig
  """Data set of the evaluation clips, with the model's resolution, channels and frame stride."""
  num_frames: int
  """T, replaces the length in `data`."""
  conditioning_indices: tuple[int, ...]
  """0-based and in ascending order."""
  split: str = dataclasses.field(default="test", kw_only=True)
  """Split of the evaluation clips."""
  class_names: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
  """Class names by label; empty for a model without classes."""

  @property
  def clip_data(self) -> DataConfig:
    """`data` for whole clips."""
    return dataclasses.replace(self.data, num_frames=self.num_frames)

  @property
  def conditioning_data(self) -> DataConfig:
    """`data` for clips up to the last conditioning frame."""
    return dataclasses.replace(self.data, num_frames=frames_needed(self.conditioning_indices))


def evaluation_clips(spec: ClipSpec, *, num_clips: int) -> Clips:
  """The first evaluation clips of the data set, at most `num_clips`; without truth if all clips are shorter than T.

  Labels are 0 for a model without classes.

  Raises:
    UserError: the data set is missing or has other classes, or no clip contains the last conditioning frame.
  """
  if spec.class_names:
    records.check_class_names(spec.class_names, spec.data, what="the model")
  info = records.load_info(spec.data.name, spec.data.data_dir)
  lengths = info.num_frames.get(spec.split, np.zeros(0, np.int32))
  known = bool((lengths >= spec.clip_data.clip_length).any())
  data = spec.clip_data if known else spec.conditioning_data
  batch = next(pipeline.eval_batches(data, spec.split, batch_size=num_clips, num_clips=num_clips))
  label = np.asarray(batch["label"], np.int32)
  return Clips(
    conditioning=take_frames(batch["video"], spec.conditioning_indices),
    truth=batch["video"] if known else None,
    label=label if spec.class_names else np.zeros_like(label),
  )


def video_clips(path: str | Path, spec: ClipSpec, *, num_clips: int) -> Clips:
  """Conditioning frames from at most `num_clips` videos, centre-cropped to the model's resolution; all labels are 0.

  `path` is a video file, a frame strip, or a folder of them: it is searched recursively in the order of the names;
  unreadable and too short files are skipped with a warning. If the clip's last frame is a conditioning frame, the
  conditioning frames are spread over the whole video. Otherwise they come from its start, with the model's stride. The
  truth is known if every video has at least the clip's length, or in the first case exactly that length.

  Raises:
    UserError: no video is usable.
  """
  path = Path(path).expanduser()
  if not path.exists():
    raise UserError(f"--input={path} does not exist; give a video file, a frame strip or a folder of them")
  files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
  conditioning, truths = [], []
  for file in files:
    if len(conditioning) == num_clips:
      break
    try:
      known, truth = _read_video(file, spec)
    except (UnreadableVideoError, OSError) as error:
      if not path.is_dir():
        raise UserError(f"--input={file} cannot be used: {error}") from error
      logging.warning("skipped %s: %s", file, error)
      continue
    conditioning.append(known)
    truths += [] if truth is None else [truth]
  if not conditioning:
    raise UserError(f"--input={path} contains no readable video of at least {_min_length(spec)} frames")
  return Clips(
    conditioning=np.stack(conditioning),
    truth=np.stack(truths) if len(truths) == len(conditioning) else None,
    label=np.zeros(len(conditioning), np.int32),
  )


def image_clip(paths: Sequence[str | Path], spec: ClipSpec) -> Clips:
  """One clip of label 0 from an image for each conditioning frame, centre-cropped to the model's resolution.

  Raises:
    UserError: the numbers of images and conditioning frames differ, or an image is unreadable.
  """
  indices = spec.conditioning_indices
  if not indices:
    raise UserError("--conditioning_images: the model generates from noise; leave the flag out")
  if len(paths) != len(indices):
    frames = f"frame{'s' * (len(indices) > 1)} {', '.join(map(str, indices))} of {spec.num_frames}"
    raise UserError(
      f"--conditioning_images: got {len(paths)} image{'s' * (len(paths) != 1)}, the model needs {len(indices)}: "
      f"{frames}, counted from 0, in this order"
    )
  squares = [_read_square(Path(path).expanduser(), spec.data, i) for path, i in zip(paths, indices, strict=True)]
  return Clips(conditioning=np.concatenate(squares)[None], truth=None, label=np.zeros(1, np.int32))


def _spans_video(spec: ClipSpec) -> bool:
  return spec.num_frames - 1 in spec.conditioning_indices


def _min_length(spec: ClipSpec) -> int:
  return len(spec.conditioning_indices) if _spans_video(spec) else spec.conditioning_data.clip_length


def _read_video(file: Path, spec: ClipSpec) -> tuple[np.ndarray, np.ndarray | None]:
  """(conditioning frames uint8[G, H, W, C], the clip uint8[T, H, W, C] if known)."""
  data, indices = spec.data, spec.conditioning_indices
  with file.open("rb") as opened:
    encoding, side = FrameEncoding(encoding="png"), data.resize_to or data.resolution
    video = decode_video(opened, DecodeOptions(size=side, resize=data.resize, encoding=encoding))
  decoded, changes = video.frames, [f"{subject} {change}" for subject, change in video.conversions.items()]
  changes += [f"variable frame rate, {video.variable_rate}"] if video.variable_rate else []
  if changes:
    logging.info("%s: %s", file, ", ".join(changes))
  length, whole = len(decoded), spec.clip_data.clip_length
  if length < _min_length(spec):
    raise UnreadableVideoError(f"it has {length} frames, at least {_min_length(spec)} are needed")
  if _spans_video(spec):
    known, frames = length == whole, [round(i * (length - 1) / (spec.num_frames - 1)) for i in indices]
  else:
    known, frames = length >= whole, [i * data.frame_stride for i in indices]
  logging.info("%s: conditioning frames %s of %d", file, ", ".join(map(str, frames)) or "none", length)
  if known:
    truth = transforms.decode_window(transforms.window_frames(decoded, 0, spec.clip_data), data)
    return take_frames(truth, indices), truth
  if not frames:
    return empty_clips(data, num_clips=1).conditioning[0], None
  return transforms.decode_window([decoded[frame] for frame in frames], data), None


def _read_square(path: Path, data: DataConfig, frame: int) -> np.ndarray:
  """The image as uint8[1, H, W, C]; logs how it was changed."""
  image, changes = read_image(path)
  side = data.resize_to or data.resolution
  kept = image.size == (data.resolution, data.resolution) and side == data.resolution
  done = changes if kept else (*changes, data.framing)
  logging.info("frame %d: %s, %dx%d, %s", frame, path, *image.size, ", ".join(done) or "unchanged")
  # The path of a training frame: resized first, then encoded, decoded and cropped.
  resized = transforms.resize(image, side, mode=data.resize)
  return transforms.decode_window([FrameEncoding(encoding="png").encode(resized)], data)
