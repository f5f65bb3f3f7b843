"""Clips laid out as images: borders, contact sheets, panels. All arrays are numpy uint8."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
"""Colour of gaps and label strips: white, so that the edges of black frames are visible."""

_LABEL_SIZE = 10


def as_rgb(video: np.ndarray) -> np.ndarray:
  """uint8[..., H, W, 3] from uint8[..., H, W, C] with C 1 or 3; TypeError or ValueError for another array."""
  video = np.asarray(video)
  if video.dtype != np.uint8:
    raise TypeError(f"images are made from uint8 video, got {video.dtype}; convert with to_uint8 first")
  if video.ndim < 3 or video.shape[-1] not in (1, 3):
    raise ValueError(f"images need [..., H, W, C] with 1 or 3 channels, got shape {video.shape}")
  return np.repeat(video, 3, axis=-1) if video.shape[-1] == 1 else video


def add_border(video: np.ndarray, *, colour: tuple[int, int, int], width: int = 2) -> np.ndarray:
  """Adds a border around every frame of uint8[..., H, W, C]; returns uint8[..., H + 2 width, W + 2 width, 3]."""
  video = as_rgb(video)
  *lead, height, columns, _ = video.shape
  framed = _filled((*lead, height + 2 * width, columns + 2 * width), colour)
  framed[..., width : width + height, width : width + columns, :] = video
  return framed


def contact_sheet(
  videos: np.ndarray,
  *,
  column_labels: Sequence[str] | None = None,
  row_labels: Sequence[str] | None = None,
  gap: int = 2,
  zoom: int = 1,
) -> np.ndarray:
  """Lays clips out on one sheet: rows are clips, columns are frames.

  Args:
    videos: uint8[N, T, H, W, C] with C 1 or 3.
    column_labels: T short texts above the columns; a text wider than its column is cut.
    row_labels: N short texts to the left of the rows, in a strip as wide as the longest.
    gap: pixels between frames and around the sheet.
    zoom: factor by which frames are enlarged; every pixel becomes a square.

  Returns:
    uint8[label strip + gap + N (zoom H + gap), label strip + gap + T (zoom W + gap), 3]; without labels there is no
    label strip.
  """
  videos = as_rgb(videos)
  if videos.ndim != 5 or 0 in videos.shape:
    raise ValueError(f"contact_sheet needs non-empty videos [N, T, H, W, C], got shape {videos.shape}")
  if gap < 0 or zoom < 1:
    raise ValueError(f"contact_sheet needs gap >= 0 and zoom >= 1, got {gap=}, {zoom=}")
  num_frames = videos.shape[1]
  if column_labels is not None and len(column_labels) != num_frames:
    raise ValueError(f"contact_sheet got {len(column_labels)} column labels for {num_frames} frames")
  if row_labels is not None and len(row_labels) != len(videos):
    raise ValueError(f"contact_sheet got {len(row_labels)} row labels for {len(videos)} clips")
  videos = videos.repeat(zoom, axis=2).repeat(zoom, axis=3)
  num_clips, _, height, width, _ = videos.shape
  sheet = _filled((gap + num_clips * (height + gap), gap + num_frames * (width + gap)), BACKGROUND)
  lefts = [gap + column * (width + gap) for column in range(num_frames)]
  tops = [gap + row * (height + gap) for row in range(num_clips)]
  for row, top in enumerate(tops):
    for column, left in enumerate(lefts):
      sheet[top : top + height, left : left + width] = videos[row, column]
  if column_labels is not None:
    strip = _column_labels(column_labels, lefts, width, sheet.shape[1])
    sheet, tops = np.concatenate([strip, sheet]), [len(strip) + top for top in tops]
  if row_labels is not None:
    sheet = np.concatenate([_row_labels(row_labels, tops, height, len(sheet)), sheet], axis=1)
  return sheet


def side_by_side(guess: np.ndarray, prediction: np.ndarray, truth: np.ndarray, *, gap: int = 2) -> np.ndarray:
  """Puts guess | prediction | truth of one clip, uint8[T, H, W, C], next to each other: uint8[T, H, 3 W + 2 gap, 3]."""
  if np.ndim(truth) != 4 or not np.shape(guess) == np.shape(prediction) == np.shape(truth):
    shapes = f"guess {np.shape(guess)}, prediction {np.shape(prediction)}, truth {np.shape(truth)}"
    raise ValueError(f"side_by_side needs three clips [T, H, W, C] of one shape, got {shapes}")
  panels = [as_rgb(clip) for clip in (guess, prediction, truth)]
  spacer = _filled((*truth.shape[:2], gap), BACKGROUND)
  return np.concatenate([panels[0], spacer, panels[1], spacer, panels[2]], axis=2)


def _filled(shape: Sequence[int], colour: tuple[int, int, int]) -> np.ndarray:
  return np.full((*shape, 3), colour, np.uint8)


def _column_labels(labels: Sequence[str], lefts: Sequence[int], cell: int, width: int) -> np.ndarray:
  """A strip of the sheet's width; each label starts at the left edge of its column and is cut at the right edge."""
  strip = Image.fromarray(_filled((_LABEL_SIZE + 4, width), BACKGROUND))
  font = ImageFont.load_default(_LABEL_SIZE)
  for label, left in zip(labels, lefts, strict=True):
    tile = Image.fromarray(_filled((_LABEL_SIZE + 4, cell), BACKGROUND))
    ImageDraw.Draw(tile).text((1, 1), label, fill=(0, 0, 0), font=font)
    strip.paste(tile, (left, 0))
  return np.array(strip)


def _row_labels(labels: Sequence[str], tops: Sequence[int], cell: int, height: int) -> np.ndarray:
  """A strip of the sheet's height, as wide as the widest label; each label is centred vertically in its row."""
  font = ImageFont.load_default(_LABEL_SIZE)
  width = max(math.ceil(font.getlength(label)) for label in labels) + 4
  strip = Image.fromarray(_filled((height, width), BACKGROUND))
  for label, top in zip(labels, tops, strict=True):
    ImageDraw.Draw(strip).text((2, top + cell // 2), label, fill=(0, 0, 0), font=font, anchor="lm")
  return np.array(strip)
