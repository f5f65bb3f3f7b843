"""Value ranges of video, and laying clips out as images.

Inside the models a video is float in [-1, 1]; outside it is uint8. The two conversions run on the device, also under
`jax.jit`. The layouts are numpy: they make images for people and are never part of a compiled step.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUND = (255, 255, 255)
"""Colour of gaps and label strips: white, so that the edge of a black frame can be seen."""

_LABEL_SIZE = 10


def to_model_range(video: jax.typing.ArrayLike, *, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """Maps uint8 video onto the models' range.

  Args:
    video: uint8[...], values 0..255.
    dtype: floating type of the result.

  Returns:
    dtype[...], values in [-1, 1]: 0 -> -1, 255 -> 1.

  Raises:
    TypeError: if `video` is not uint8 (it may have been converted already) or `dtype` is not floating.
  """
  found = _dtype_of(video)
  if found != np.uint8:
    raise TypeError(f"to_model_range needs uint8 video, got {found}; it may have been converted already")
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(f"to_model_range needs a floating dtype, got {jnp.dtype(dtype)}")
  return (jnp.asarray(video).astype(jnp.float32) / 127.5 - 1.0).astype(dtype)


def to_uint8(video: jax.typing.ArrayLike) -> jax.Array:
  """Maps video from the models' range onto uint8: rounded to the nearest value, clipped; NaN becomes 0.

  `to_uint8(to_model_range(x))` is `x` exactly, in float32.

  Args:
    video: float[...], nominally in [-1, 1].

  Returns:
    uint8[...], values 0..255.

  Raises:
    TypeError: if `video` is not floating.
  """
  found = _dtype_of(video)
  if not jnp.issubdtype(found, jnp.floating):
    raise TypeError(f"to_uint8 needs floating video in [-1, 1], got {found}")
  scaled = jnp.round((jnp.asarray(video).astype(jnp.float32) + 1.0) * 127.5)
  return jnp.clip(jnp.nan_to_num(scaled, nan=0.0), 0.0, 255.0).astype(jnp.uint8)


def as_rgb(video: np.ndarray) -> np.ndarray:
  """Repeats a grey channel three times; leaves colour as it is.

  Args:
    video: uint8[..., H, W, C] with C 1 or 3.

  Returns:
    uint8[..., H, W, 3].

  Raises:
    TypeError: if `video` is not uint8.
    ValueError: if C is neither 1 nor 3.
  """
  video = np.asarray(video)
  if video.dtype != np.uint8:
    raise TypeError(f"images are made of uint8 video, got {video.dtype}; convert with to_uint8 first")
  if video.ndim < 3 or video.shape[-1] not in (1, 3):
    raise ValueError(f"images need [..., H, W, C] with 1 or 3 channels, got shape {video.shape}")
  return np.repeat(video, 3, axis=-1) if video.shape[-1] == 1 else video


def add_border(video: np.ndarray, *, colour: tuple[int, int, int], width: int = 2) -> np.ndarray:
  """Puts a coloured border around every frame.

  Args:
    video: uint8[..., H, W, C] with C 1 or 3.
    colour: RGB, 0..255.
    width: border width in pixels.

  Returns:
    uint8[..., H + 2 width, W + 2 width, 3].
  """
  video = as_rgb(video)
  *lead, height, columns, _ = video.shape
  framed = _ground((*lead, height + 2 * width, columns + 2 * width), colour)
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
    column_labels: T short texts to stand above the columns; a text wider than its column is cut.
    row_labels: N short texts to stand to the left of the rows, in a strip as wide as the longest.
    gap: pixels between frames and around the sheet.
    zoom: every pixel of a frame becomes a square of zoom x zoom.

  Returns:
    uint8[label strip + gap + N (zoom H + gap), label strip + gap + T (zoom W + gap), 3]; a label strip is there only
    with its labels.

  Raises:
    ValueError: if `videos` is not [N, T, H, W, C], `gap` or `zoom` is out of range, or the labels are not as many as
      columns or rows.
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
  sheet = _ground((gap + num_clips * (height + gap), gap + num_frames * (width + gap)), GROUND)
  for row in range(num_clips):
    for column in range(num_frames):
      top, left = gap + row * (height + gap), gap + column * (width + gap)
      sheet[top : top + height, left : left + width] = videos[row, column]
  if column_labels is not None:
    lefts = [gap + column * (width + gap) for column in range(num_frames)]
    sheet = np.concatenate([_label_strip(column_labels, lefts, width, sheet.shape[1]), sheet])
  if row_labels is not None:
    below = sheet.shape[0] - num_clips * (height + gap)
    tops = [below + row * (height + gap) for row in range(num_clips)]
    sheet = np.concatenate([_row_label_strip(row_labels, tops, height, sheet.shape[0]), sheet], axis=1)
  return sheet


def side_by_side(guess: np.ndarray, prediction: np.ndarray, truth: np.ndarray, *, gap: int = 2) -> np.ndarray:
  """Sets guess | prediction | truth of one clip next to each other, as one video.

  Args:
    guess: uint8[T, H, W, C] with C 1 or 3: the whole clip as a trivial baseline has it.
    prediction: the same shape, as the model has it.
    truth: the same shape, as it was.
    gap: pixels between the panels.

  Returns:
    uint8[T, H, 3 W + 2 gap, 3].

  Raises:
    ValueError: if the shapes differ or are no clip's.
  """
  if np.ndim(truth) != 4 or not np.shape(guess) == np.shape(prediction) == np.shape(truth):
    shapes = f"guess {np.shape(guess)}, prediction {np.shape(prediction)}, truth {np.shape(truth)}"
    raise ValueError(f"side_by_side needs three clips [T, H, W, C] of one shape, got {shapes}")
  panels = [as_rgb(clip) for clip in (guess, prediction, truth)]
  spacer = _ground((*truth.shape[:2], gap), GROUND)
  return np.concatenate([panels[0], spacer, panels[1], spacer, panels[2]], axis=2)


def _dtype_of(array: jax.typing.ArrayLike) -> np.dtype:
  return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype


def _ground(shape: Sequence[int], colour: tuple[int, int, int]) -> np.ndarray:
  """uint8[*shape, 3] filled with one colour."""
  return np.full((*shape, 3), colour, np.uint8)


def _label_strip(labels: Sequence[str], lefts: Sequence[int], cell: int, width: int) -> np.ndarray:
  """uint8[_LABEL_SIZE + 4, width, 3]: black labels, each beginning at its column's left edge and cut at its right."""
  strip = Image.fromarray(_ground((_LABEL_SIZE + 4, width), GROUND))
  font = ImageFont.load_default(_LABEL_SIZE)
  for label, left in zip(labels, lefts, strict=True):
    tile = Image.fromarray(_ground((_LABEL_SIZE + 4, cell), GROUND))
    ImageDraw.Draw(tile).text((1, 1), label, fill=(0, 0, 0), font=font)
    strip.paste(tile, (left, 0))
  return np.array(strip)


def _row_label_strip(labels: Sequence[str], tops: Sequence[int], cell: int, height: int) -> np.ndarray:
  """uint8[height, widest label + 4, 3]: black labels, each halfway down its row."""
  font = ImageFont.load_default(_LABEL_SIZE)
  width = max(math.ceil(font.getlength(label)) for label in labels) + 4
  strip = Image.fromarray(_ground((height, width), GROUND))
  for label, top in zip(labels, tops, strict=True):
    ImageDraw.Draw(strip).text((2, top + cell // 2), label, fill=(0, 0, 0), font=font, anchor="lm")
  return np.array(strip)
