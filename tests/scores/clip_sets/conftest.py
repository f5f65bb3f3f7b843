"""Clips whose pixels encode the clip and the frame, in every readable format."""

import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

SUFFIX_CODECS = {
  ".mp4": "mpeg4",
  ".avi": "mpeg4",
  ".mkv": "libx264",
  ".h264": "libx264",
  ".webm": "libvpx",
  ".gif": "gif",
}


def marked_clip(clip, num_frames=6, height=8, width=8):
  """uint8[T, H, W, 3]: red is 10 clip, green is 20 frame, blue 200, so that lossy codecs keep them apart."""
  frames = np.empty((num_frames, height, width, 3), np.uint8)
  frames[..., 0], frames[..., 2] = 10 * clip, 200
  frames[..., 1] = 20 * np.arange(num_frames)[:, None, None]
  return frames


def marks(clip):
  """[(clip, frame), ...] from the pixels of a marked clip, rounded because codecs are lossy."""
  means = np.asarray(clip, float).mean(axis=(1, 2))
  return [(round(red / 10), round(green / 20)) for red, green, _ in means]


def write_video(path: Path, frames, *, rate=25) -> Path:
  """Writes uint8[T, H, W, 3] as a video in the format of the suffix; H and W are even and at least 16."""
  codec = SUFFIX_CODECS[path.suffix]
  path.parent.mkdir(parents=True, exist_ok=True)
  # A palette of grey levels would lose the colours.
  pixel_format = {"gif": "rgb8"}.get(codec, "yuv420p")
  with av.open(path, "w") as output:
    stream = output.add_stream(codec, rate=Fraction(rate))
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = pixel_format
    stream.bit_rate = 2_000_000
    for frame in frames:
      output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format)))
    output.mux(stream.encode())
  return path


def strip_bytes(frames) -> bytes:
  """Returns uint8[T, H, W, 3] as a PNG with the frames side by side."""
  buffer = io.BytesIO()
  Image.fromarray(np.concatenate(list(frames), axis=1)).save(buffer, "PNG")
  return buffer.getvalue()


def write_strip(path: Path, frames) -> Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(strip_bytes(frames))
  return path


def write_frames(folder: Path, frames, *, name="{:04d}.png") -> Path:
  """Writes uint8[T, H, W, 3] as one image per frame."""
  folder.mkdir(parents=True, exist_ok=True)
  for index, frame in enumerate(frames):
    Image.fromarray(frame).save(folder / name.format(index))
  return folder


@pytest.fixture(scope="session")
def make():
  """Writers of marked clips, and the reader of the marks."""
  return SimpleNamespace(
    clip=marked_clip, marks=marks, video=write_video, strip=write_strip, frames=write_frames, strip_bytes=strip_bytes
  )
