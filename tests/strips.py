"""Random videos and frame strips."""

from pathlib import Path

import numpy as np
from PIL import Image


def random_video(num_frames: int, size: int = 16, *, seed: int = 0) -> np.ndarray:
  """uint8[T, H, H, 3]."""
  return np.random.default_rng(seed).integers(256, size=(num_frames, size, size, 3), dtype=np.uint8)


def save_strip(path: Path, frames: np.ndarray) -> None:
  """Saves square frames uint8[T, H, H, 3] side by side as one PNG image."""
  Image.fromarray(np.concatenate(list(frames), axis=1)).save(path, "PNG")
