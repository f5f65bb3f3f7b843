"""The clips that are to be continued: evaluation clips of a data set, or the user's own videos."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.data import pipeline, sources, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.decode import UnreadableVideoError, decode_video
from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.errors import UserError


@dataclass(frozen=True)
class Clips:
  """Clips to continue."""

  conditioning: np.ndarray
  """uint8[N, Tc, H, W, C]."""
  truth: np.ndarray | None
  """uint8[N, T - Tc, H, W, C], what really followed, where that is known of all clips."""
  label: np.ndarray
  """int32[N]."""

  def __len__(self) -> int:
    return len(self.label)


def evaluation_clips(data: DataConfig, *, num_clips: int, num_frames: int, conditioning_frames: int) -> Clips:
  """The first evaluation clips of the data set.

  Args:
    data: the data set; its `num_frames` does not count.
    num_clips: at most so many.
    num_frames: T, length of the clips to be made. Where no clip of the data set is as long, the truth is left out.
    conditioning_frames: Tc.

  Raises:
    UserError: if the data set is missing, or has no clip of Tc frames.
  """
  info = sources.load_info(data.name, data.data_dir)
  whole = dataclasses.replace(data, num_frames=num_frames)
  lengths = info.num_frames.get(data.eval_split, np.zeros(0, np.int32))
  known = bool((lengths >= whole.clip_length).any())
  read = whole if known else dataclasses.replace(data, num_frames=conditioning_frames)
  batch = next(pipeline.eval_batches(read, batch_size=num_clips, num_clips=num_clips))
  given, truth = np.split(batch["video"], [conditioning_frames], axis=1)
  return Clips(conditioning=given, truth=truth if known else None, label=np.asarray(batch["label"], np.int32))


def video_clips(
  path: str | Path, data: DataConfig, *, num_clips: int, num_frames: int, conditioning_frames: int
) -> Clips:
  """The beginnings of videos, their middle square in the model's resolution. The labels are 0.

  Args:
    path: a video file or a frame strip, or a folder of them (with its subfolders), in the order of their names. Files
      of a folder that cannot be read or are too short are skipped with a warning.
    data: gives resolution, channels and the distance between frames.
    num_clips: at most so many.
    num_frames: T, length of the clips to be made. Where a video is shorter, the truth is left out.
    conditioning_frames: Tc.

  Raises:
    UserError: if no video can be used.
  """
  path = Path(path).expanduser()
  if not path.exists():
    raise UserError(f"--input={path} does not exist; give a video file, a frame strip or a folder of them")
  files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
  videos: list[np.ndarray] = []
  for file in files:
    if len(videos) == num_clips:
      break
    try:
      videos.append(_read(file, data, num_frames=num_frames, conditioning_frames=conditioning_frames))
    except (UnreadableVideoError, OSError) as error:
      if not path.is_dir():
        raise UserError(f"--input={file} cannot be used: {error}") from error
      logging.warning("skipped %s: %s", file, error)
  if not videos:
    raise UserError(f"--input={path} holds no video of at least {conditioning_frames} frames that can be read")
  known = min(map(len, videos)) == num_frames
  truth = np.stack([video[conditioning_frames:] for video in videos]) if known else None
  given = np.stack([video[:conditioning_frames] for video in videos])
  return Clips(conditioning=given, truth=truth, label=np.zeros(len(videos), np.int32))


def _read(file: Path, data: DataConfig, *, num_frames: int, conditioning_frames: int) -> np.ndarray:
  """uint8[T, H, W, C] with Tc <= T <= num_frames."""
  with file.open("rb") as opened:
    decoded = decode_video(opened, size=data.resolution, encoding=FrameEncoding(encoding="png"))
  frames = decoded.frames[:: data.frame_stride][:num_frames]
  if len(frames) < conditioning_frames:
    needed = (conditioning_frames - 1) * data.frame_stride + 1
    raise UnreadableVideoError(f"it has {len(decoded.frames)} frames, {needed} are needed")
  return transforms.decode_squares(frames, resolution=data.resolution, channels=data.channels)
