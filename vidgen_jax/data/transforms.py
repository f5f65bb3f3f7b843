"""From a stored clip to a window of pixels: which frames, decoded, resized and cut."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from vidgen_jax.data import frames as frames_lib
from vidgen_jax.data.config import DataConfig


def decode_window(
  frames: Sequence[bytes],
  *,
  start: int,
  config: DataConfig,
  offset: tuple[float, float] = (0.5, 0.5),
  flip: bool = False,
) -> np.ndarray:
  """Decodes one window of a clip; the frames outside it are never decoded.

  Args:
    frames: JPEG or PNG bytes of every frame of the clip.
    start: index of the window's first frame.
    config: gives T, stride, resolution and channels.
    offset: place of the square along height and width, in [0, 1]: 0 is top or left, 0.5 the centre. The same for all frames.
    flip: mirrors left to right.

  Returns:
    uint8[T, H, W, C].
  """
  stop = start + config.clip_length
  window = [_decode(frames[index], config, offset) for index in range(start, stop, config.frame_stride)]
  video = np.stack(window)
  return np.ascontiguousarray(video[:, :, ::-1]) if flip else video


def _decode(data: bytes, config: DataConfig, offset: tuple[float, float]) -> np.ndarray:
  """uint8[H, W, C] of one frame."""
  size = config.resolution
  image = frames_lib.resize_smallest_side(frames_lib.decode_frame(data, channels=config.channels), size)
  if image.size != (size, size):
    width, height = image.size
    top, left = round(offset[0] * (height - size)), round(offset[1] * (width - size))
    image = image.crop((left, top, left + size, top + size))
  return np.asarray(image).reshape(size, size, config.channels)


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
    video = decode_window(frames, start=start, config=self.config, offset=offset, flip=flip)
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
    video = decode_window(frames, start=start, config=self.config)
    return {"video": video, "label": np.int32(element["label"])}


@dataclasses.dataclass(frozen=True)
class StackMicrobatches(grain.transforms.Map):
  """[K B, ...] -> [K, B, ...] for every array."""

  microbatches: int

  def map(self, element: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits the leading axis."""
    return {name: array.reshape(self.microbatches, -1, *array.shape[1:]) for name, array in element.items()}
