"""From a stored clip to a window of pixels: which frames, decoded, resized and cut."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from PIL import Image

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data.config import DataConfig


def decode_squares(
  frames: Iterable[bytes],
  *,
  resolution: int,
  channels: int = 3,
  offset: tuple[float, float] = (0.5, 0.5),
  flip: bool = False,
) -> np.ndarray:
  """Decodes frames, resizes their smallest side to `resolution` and cuts the same square out of each.

  Args:
    frames: T frames as JPEG or PNG bytes, all of one size.
    resolution: H = W of the result in pixels.
    channels: C: 3 for RGB, 1 for luma.
    offset: place of the square along height and width, in [0, 1]: 0 is top or left, 0.5 the centre.
    flip: mirrors left to right.

  Returns:
    uint8[T, H, W, C].
  """
  images = (frames_lib.decode_frame(data, channels=channels) for data in frames)
  video = np.stack([cut_square(image, resolution=resolution, offset=offset) for image in images])
  return np.ascontiguousarray(video[:, :, ::-1]) if flip else video


def cut_square(image: Image.Image, *, resolution: int, offset: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
  """Resizes the smallest side of a frame to `resolution` and cuts a square out of it.

  Args:
    image: of mode 'RGB' or 'L'.
    resolution: see `decode_squares`.
    offset: see `decode_squares`.

  Returns:
    uint8[H, W, C].
  """
  image = frames_lib.resize_smallest_side(image, resolution)
  if image.size != (resolution, resolution):
    width, height = image.size
    top, left = round(offset[0] * (height - resolution)), round(offset[1] * (width - resolution))
    image = image.crop((left, top, left + resolution, top + resolution))
  return np.asarray(image).reshape(resolution, resolution, -1)


def window_frames(frames: Sequence[bytes], start: int, config: DataConfig) -> list[bytes]:
  """The T frames of the window that begins at `start`; the others are never decoded."""
  return [frames[index] for index in range(start, start + config.clip_length, config.frame_stride)]


@dataclasses.dataclass(frozen=True)
class RandomWindow(grain.transforms.RandomMap):
  """Training: a window at a random time and place, mirrored at random if the config says so.

  Three draws are made for every record whether or not they are needed, so an option changes only what it names.
  """

  config: DataConfig

  def random_map(self, element: Mapping[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Record -> {'video': uint8[T, H, W, C], 'label': int32[]}."""
    frames = element["frames"]
    start = int(rng.integers(len(frames) - self.config.clip_length + 1))
    offset = tuple(rng.random(2))
    flip = bool(rng.random() < 0.5) and self.config.random_flip
    video = decode_squares(
      window_frames(frames, start, self.config),
      resolution=self.config.resolution,
      channels=self.config.channels,
      offset=offset,
      flip=flip,
    )
    return {"video": video, "label": np.int32(element["label"])}


@dataclasses.dataclass(frozen=True)
class EvaluationWindow(grain.transforms.RandomMap):
  """Evaluation: the square in the middle of the frame, at the time that `config.eval_window` says."""

  config: DataConfig

  def random_map(self, element: Mapping[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Record -> {'video': uint8[T, H, W, C], 'label': int32[]}."""
    frames = element["frames"]
    last = len(frames) - self.config.clip_length
    start = last // 2 if self.config.eval_window == "centre" else int(rng.integers(last + 1))
    window = window_frames(frames, start, self.config)
    video = decode_squares(window, resolution=self.config.resolution, channels=self.config.channels)
    return {"video": video, "label": np.int32(element["label"])}
