"""The conditioning frames of clips that are to be made: from evaluation clips, or from the user's own videos or images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from vidgen_jax.data import pipeline, sources, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError, decode_video
from vidgen_jax.data.frames import FrameEncoding, resize_smallest_side
from vidgen_jax.data.images import read_image
from vidgen_jax.errors import UserError
from vidgen_jax.ops.conditioning import frames_needed, take_frames


@dataclass(frozen=True)
class Clips:
  """Clips of which some frames are given."""

  conditioning: np.ndarray
  """uint8[N, G, H, W, C]; G may be 0."""
  truth: np.ndarray | None
  """uint8[N, T, H, W, C], the whole clips as they really were, where that is known of all of them."""
  label: np.ndarray
  """int32[N]."""

  def __len__(self) -> int:
    return len(self.label)

  def of_classes(self, labels: Sequence[int]) -> "Clips":
    """Each clip once for every one of these labels; clips of one label lie together."""
    times = len(labels)
    return Clips(
      conditioning=np.concatenate([self.conditioning] * times),
      truth=None if self.truth is None else np.concatenate([self.truth] * times),
      label=np.repeat(np.asarray(labels, np.int32), len(self)),
    )


def empty_clips(data: DataConfig, *, num_clips: int) -> Clips:
  """Clips of which nothing is given and nothing known but their size, for models that make clips from noise."""
  side = data.resolution
  return Clips(
    conditioning=np.zeros((num_clips, 0, side, side, data.channels), np.uint8),
    truth=None,
    label=np.zeros(num_clips, np.int32),
  )


def evaluation_clips(data: DataConfig, *, num_clips: int, num_frames: int, conditioning_indices: Sequence[int]) -> Clips:
  """The first evaluation clips of the data set.

  Args:
    data: the data set; its `num_frames` does not count.
    num_clips: at most so many.
    num_frames: T, length of the clips to be made. Where no clip of the data set is as long, the truth is left out.
    conditioning_indices: 0-based indices of the conditioning frames, in ascending order.

  Raises:
    UserError: if the data set is missing, or no clip of it reaches to the last conditioning frame.
  """
  info = sources.load_info(data.name, data.data_dir)
  whole = dataclasses.replace(data, num_frames=num_frames)
  lengths = info.num_frames.get(data.eval_split, np.zeros(0, np.int32))
  known = bool((lengths >= whole.clip_length).any())
  read = whole if known else dataclasses.replace(data, num_frames=frames_needed(conditioning_indices))
  batch = next(pipeline.eval_batches(read, batch_size=num_clips, num_clips=num_clips))
  video, label = batch["video"], np.asarray(batch["label"], np.int32)
  return Clips(conditioning=take_frames(video, conditioning_indices), truth=video if known else None, label=label)


def video_clips(
  path: str | Path, data: DataConfig, *, num_clips: int, num_frames: int, conditioning_indices: Sequence[int]
) -> Clips:
  """The conditioning frames of videos, their middle square in the model's resolution. The labels are 0.

  A model that is given the first frames of a clip gets the first ones of the video, at the model's distance. One that
  is also given the last frame gets the video's first and last ones, however many lie between: the conditioning frames are
  spread over the whole video as over the clip.

  Args:
    path: a video file or a frame strip, or a folder of them (with its subfolders), in the order of their names. Files
      of a folder that cannot be read or are too short are skipped with a warning.
    data: gives resolution, channels and the distance between frames.
    num_clips: at most so many.
    num_frames: T, length of the clips to be made. The truth is known where the videos have as many at the model's
      distance: as many and no more where the last frame is given.
    conditioning_indices: 0-based indices of the conditioning frames, in ascending order.

  Raises:
    UserError: if no video can be used.
  """
  path = Path(path).expanduser()
  if not path.exists():
    raise UserError(f"--input={path} does not exist; give a video file, a frame strip or a folder of them")
  files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
  window = _Window(dataclasses.replace(data, num_frames=num_frames), tuple(conditioning_indices))
  videos: list[_Video] = []
  for file in files:
    if len(videos) == num_clips:
      break
    try:
      videos.append(_read_video(file, window))
    except (UnreadableVideoError, OSError) as error:
      if not path.is_dir():
        raise UserError(f"--input={file} cannot be used: {error}") from error
      logging.warning("skipped %s: %s", file, error)
  if not videos:
    raise UserError(f"--input={path} holds no video of at least {window.needed} frames that can be read")
  known = all(video.truth is not None for video in videos)
  return Clips(
    conditioning=np.stack([video.conditioning for video in videos]),
    truth=np.stack([video.truth for video in videos]) if known else None,
    label=np.zeros(len(videos), np.int32),
  )


def image_clip(
  paths: Sequence[str | Path], data: DataConfig, *, num_frames: int, conditioning_indices: Sequence[int]
) -> Clips:
  """One clip whose conditioning frames are images, their middle square in the model's resolution. The label is 0.

  Args:
    paths: an image for each conditioning frame, in their order; see `vidgen_jax.data.images.read_image`.
    data: gives resolution and channels.
    num_frames: T, length of the clip to be made.
    conditioning_indices: 0-based indices of the conditioning frames, in ascending order.

  Raises:
    UserError: if there are more or fewer images than conditioning frames, or one cannot be read.
  """
  if not conditioning_indices:
    raise UserError("--conditioning_images: the model makes clips without being given a frame; leave it out")
  if len(paths) != len(conditioning_indices):
    frames = f"frame{'s' * (len(conditioning_indices) > 1)} {', '.join(map(str, conditioning_indices))} of {num_frames}"
    raise UserError(
      f"--conditioning_images: got {len(paths)} image{'s' * (len(paths) != 1)}, the model needs {len(conditioning_indices)}: {frames}, "
      "counted from 0, in this order"
    )
  squares = [
    _read_square(Path(path).expanduser(), data, frame) for path, frame in zip(paths, conditioning_indices, strict=True)
  ]
  return Clips(conditioning=np.concatenate(squares)[None], truth=None, label=np.zeros(1, np.int32))


@dataclass(frozen=True)
class _Window:
  """Which frames are taken of a video."""

  data: DataConfig
  """Its `num_frames` is T."""
  conditioning_indices: tuple[int, ...]

  @property
  def to_the_end(self) -> bool:
    """Whether the clip's last frame is given, and so the video's last one is taken."""
    return self.data.num_frames - 1 in self.conditioning_indices

  @property
  def needed(self) -> int:
    """Frames that a video must have."""
    if self.to_the_end:
      return len(self.conditioning_indices)
    return dataclasses.replace(self.data, num_frames=frames_needed(self.conditioning_indices)).clip_length

  def taken(self, length: int) -> list[int]:
    """The frames of a video of this length that are given."""
    if not self.to_the_end:
      return [frame * self.data.frame_stride for frame in self.conditioning_indices]
    return [round(frame * (length - 1) / (self.data.num_frames - 1)) for frame in self.conditioning_indices]

  def knows_truth(self, length: int) -> bool:
    """Whether a video of this length shows what lies between and behind the conditioning frames."""
    return length == self.data.clip_length if self.to_the_end else length >= self.data.clip_length


class _Video(NamedTuple):
  conditioning: np.ndarray
  """uint8[G, H, W, C]."""
  truth: np.ndarray | None
  """uint8[T, H, W, C]."""


def _read_video(file: Path, window: _Window) -> _Video:
  data = window.data
  with file.open("rb") as opened:
    decoded = decode_video(opened, DecodeOptions(size=data.resolution, encoding=FrameEncoding(encoding="png")))
  length = len(decoded.frames)
  if length < window.needed:
    raise UnreadableVideoError(f"it has {length} frames, {window.needed} are needed")
  taken = window.taken(length)
  logging.info("%s: of %d frames %s are given", file, length, ", ".join(map(str, taken)) or "none")
  shape = {"resolution": data.resolution, "channels": data.channels}
  if window.knows_truth(length):
    truth = transforms.decode_squares(transforms.window_frames(decoded.frames, 0, data), **shape)
    return _Video(take_frames(truth, window.conditioning_indices), truth)
  if not taken:
    return _Video(np.zeros((0, data.resolution, data.resolution, data.channels), np.uint8), None)
  return _Video(transforms.decode_squares([decoded.frames[frame] for frame in taken], **shape), None)


def _read_square(path: Path, data: DataConfig, frame: int) -> np.ndarray:
  """uint8[1, H, W, C] of an image; says what was done to it."""
  image, changes = read_image(path)
  side, done = min(image.size), list(changes)
  if image.width != image.height:
    done.append(f"middle {side}x{side}")
  if side != data.resolution:
    done.append(f"resized to {data.resolution}x{data.resolution}")
  logging.info("%s %dx%d: %s; it is frame %d", path, *image.size, ", ".join(done) or "as it is", frame)
  # The same way as a frame of a video: the images that the model has seen were made so.
  stored = FrameEncoding(encoding="png").encode(resize_smallest_side(image, data.resolution))
  return transforms.decode_squares([stored], resolution=data.resolution, channels=data.channels)
