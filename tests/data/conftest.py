"""Videos whose pixel values are the numbers of clip and frame."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder


def make_strip(frames: np.ndarray, *, image_format: str = "PNG", tall: bool = False) -> bytes:
  """uint8[T, H, W, C] -> bytes of one image with the frames in a row or a column."""
  image = np.concatenate(list(frames), axis=0 if tall else 1)
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, image_format)
  return buffer.getvalue()


def make_marked_clip(clip: int, num_frames: int, size: int = 8) -> np.ndarray:
  """uint8[T, size, size, 3]: red is the number of the clip, green that of the frame, blue 200."""
  frames = np.empty((num_frames, size, size, 3), np.uint8)
  frames[..., 0], frames[..., 2] = clip, 200
  frames[..., 1] = np.arange(num_frames)[:, None, None]
  return frames


def make_video(path: Path, levels: list[int], *, codec: str, container: str, rate: int = 25, size=(48, 32)) -> Path:
  """Writes a video of uniform grey frames; `size` is (width, height)."""
  pixel_format = {"gif": "gray", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
  with av.open(path, "w", format=container) as output:
    stream = output.add_stream(codec, rate=Fraction(rate))
    stream.width, stream.height = size
    stream.pix_fmt = pixel_format
    for level in levels:
      image = np.full((size[1], size[0], 3), level, np.uint8)
      output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)))
    output.mux(stream.encode())
  return path


@pytest.fixture(scope="session")
def strip() -> Callable[..., bytes]:
  return make_strip


@pytest.fixture(scope="session")
def marked_clip() -> Callable[..., np.ndarray]:
  return make_marked_clip


@pytest.fixture(scope="session")
def video() -> Callable[..., Path]:
  return make_video


@pytest.fixture(scope="session")
def marked_dataset(tmp_path_factory) -> Path:
  """data_dir of 'marked': train clips 0..10 and test clips 11..16, of 12 frames except for clips 3 and 14, of 4."""
  root = tmp_path_factory.mktemp("marked")
  for clip in range(17):
    folder = root / "source" / ("train" if clip < 11 else "test") / f"class{clip % 2}"
    folder.mkdir(parents=True, exist_ok=True)
    frames = make_marked_clip(clip, 4 if clip in (3, 14) else 12)
    (folder / f"{clip}.png").write_bytes(make_strip(frames))
  build_video_folder(
    VideoFolderOptions(source=str(root / "source"), name="marked", data_dir=str(root / "built"), encoding="png")
  )
  return root / "built"
