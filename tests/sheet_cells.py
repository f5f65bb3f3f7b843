"""Reads the frames back from a contact sheet."""

from pathlib import Path

import numpy as np
from PIL import Image


def read_cells(path: Path, rows: int, columns: int, zoom: int = 1) -> tuple[np.ndarray, np.ndarray]:
  """Frames [rows, columns, h, w, 3] on a sheet of 64-pixel cells, and the colours of their borders."""
  sheet = np.asarray(Image.open(path))
  below, right = sheet.shape[0] - rows * 70, sheet.shape[1] - columns * 70
  cells = sheet[below:, right:].reshape(rows, 70, columns, 70, 3).swapaxes(1, 2)
  return cells[:, :, 2:66:zoom, 2:66:zoom], cells[:, :, 0, 0]
