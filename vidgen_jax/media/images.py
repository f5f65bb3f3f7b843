"""Clips as images: contact sheets, PNG files and animated GIFs. All arrays are numpy uint8.

Files are written atomically and their folders are created; a file that cannot be written is a UserError.
"""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from PIL import Image, ImageDraw, ImageFont

from vidgen_jax.buckets import user_path
from vidgen_jax.files import atomic_write
from vidgen_jax.media.gif import encode_gif

BACKGROUND = 255
"""Grey level of gaps and label strips: white, so that the edges of black frames are visible."""

CONDITIONING_COLOUR = (0, 160, 0)
"""Border of conditioning frames."""

ANCHOR_COLOUR = (255, 200, 0)
"""Border of anchors: conditioning frames of a model that accepts any frames, as in the figures of SR-cGAN."""

GENERATED_COLOUR = (200, 200, 200)
"""Border of all other frames."""

_BORDER = 2
_LABEL_SIZE = 10
_PALETTE = 256


def as_rgb(video: np.ndarray) -> np.ndarray:
  """uint8[..., H, W, 3] from uint8[..., H, W, C] with C 1 or 3; TypeError or ValueError for another array."""
  video = np.asarray(video)
  if video.dtype != np.uint8:
    raise TypeError(f"images are made from uint8 video, got {video.dtype}; convert with to_uint8 first")
  if video.ndim < 3 or video.shape[-1] not in (1, 3):
    raise ValueError(f"images need [..., H, W, C] with 1 or 3 channels, got shape {video.shape}")
  return np.repeat(video, 3, axis=-1) if video.shape[-1] == 1 else video


def contact_sheet(
  videos: np.ndarray, *, column_labels: Sequence[str] = (), row_labels: Sequence[str] = (), gap: int = 2
) -> np.ndarray:
  """Lays clips out on one sheet: rows are clips, columns are frames.

  Args:
    videos: uint8[..., T, H, W, C] with C 1 or 3; N clips.
    column_labels: T short texts above the columns.
    row_labels: N short texts to the left of the rows, in a strip as wide as the longest.
    gap: pixels between frames and around the sheet.

  Returns:
    uint8[label strip + gap + N (H + gap), label strip + gap + T (W + gap), 3]; without labels there is no label strip.
  """
  videos = as_rgb(videos)
  cells = np.pad(
    videos.reshape(-1, *videos.shape[-4:]), [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=BACKGROUND
  )
  num_clips, num_frames, height, width, _ = cells.shape
  font = ImageFont.load_default(_LABEL_SIZE)
  top = gap + (_LABEL_SIZE + 4 if column_labels else 0)
  left = gap + (math.ceil(max(map(font.getlength, row_labels))) + 4 if row_labels else 0)
  rows = cells.swapaxes(1, 2).reshape(num_clips * height, num_frames * width, 3)
  sheet = Image.fromarray(np.pad(rows, [(top, 0), (left, 0), (0, 0)], constant_values=BACKGROUND))
  draw = ImageDraw.Draw(sheet)
  for column, label in enumerate(column_labels):
    draw.text((left + column * width + 1, 1), label, fill=(0, 0, 0), font=font)
  for row, label in enumerate(row_labels):
    draw.text((2, top + row * height + (height - gap) // 2), label, fill=(0, 0, 0), font=font, anchor="lm")
  return np.array(sheet)


def mark_conditioning(
  videos: np.ndarray, conditioning_indices: Sequence[int], *, colour: tuple[int, int, int] = CONDITIONING_COLOUR
) -> np.ndarray:
  """Enlarges small frames and adds borders: grey, or `colour` for the conditioning frames.

  Returns uint8[..., T, h, w, 3] of whole clips uint8[..., T, H, W, C] with C 1 or 3; indices are 0-based.
  """
  # Frames below 64 pixels are enlarged by an integer factor, so that their pixels are visible.
  zoom = max(1, 64 // videos.shape[-3])
  large = as_rgb(videos).repeat(zoom, axis=-3).repeat(zoom, axis=-2)
  *lead, height, width, _ = large.shape
  framed = np.full((*lead, height + 2 * _BORDER, width + 2 * _BORDER, 3), GENERATED_COLOUR, np.uint8)
  framed[..., np.asarray(conditioning_indices, np.intp), :, :, :] = colour
  framed[..., _BORDER:-_BORDER, _BORDER:-_BORDER, :] = large
  return framed


def frame_labels(conditioning_indices: Sequence[int], num_frames: int) -> list[str]:
  """Labels for the columns of a sheet, by 0-based index in the clip: 'cond 0' (a conditioning frame), 't=1'."""
  return [f"cond {frame}" if frame in conditioning_indices else f"t={frame}" for frame in range(num_frames)]


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
  """Writes one image uint8[H, W, C] with C 1 or 3."""
  png = Image.fromarray(as_rgb(image))
  with atomic_write(path) as temporary:
    png.save(temporary, format="PNG")


def save_comparison(
  path: str | os.PathLike[str], versions: Mapping[str, np.ndarray], conditioning_indices: Sequence[int]
) -> None:
  """Writes a PNG with one row for each version of the first clip, then of the second, and so on.

  `versions` are whole clips, uint8[N, T, H, W, C] with C 1 or 3, by the label of their rows. Conditioning frames have a
  green border.
  """
  videos = mark_conditioning(np.stack(list(versions.values()), axis=1), conditioning_indices)
  labels = frame_labels(conditioning_indices, videos.shape[2])
  save_png(path, contact_sheet(videos, column_labels=labels, row_labels=list(versions) * len(videos)))


def save_prediction_images(
  folder: str | os.PathLike[str],
  step: int,
  *,
  conditioning_indices: Sequence[int],
  prediction: np.ndarray,
  truth: np.ndarray,
  guess: np.ndarray,
) -> np.ndarray:
  """Writes `contact_sheet_<step>.png` and `prediction_<step>.gif` of whole clips; returns the sheet uint8[H, W, 3].

  The sheet has two rows per clip, the truth above the prediction. The GIF shows guess | prediction | truth of every
  clip. Conditioning frames have a green border.

  `guess`, the clips of a baseline, `prediction` and `truth` are uint8[N, T, H, W, C] with C 1 or 3.
  """
  videos = mark_conditioning(np.stack([guess, prediction, truth], axis=1), conditioning_indices)
  sheet = contact_sheet(videos[:, [2, 1]], column_labels=frame_labels(conditioning_indices, videos.shape[2]))
  folder = user_path(folder)
  sheet_path, gif_path = folder / f"contact_sheet_{step:08d}.png", folder / f"prediction_{step:08d}.gif"
  save_png(sheet_path, sheet)
  save_gif(gif_path, videos, columns=3 if len(videos) < 4 else 6)
  logging.info("contact sheet %s, GIF %s", sheet_path, gif_path)
  return sheet


def save_gif(
  path: str | os.PathLike[str], videos: np.ndarray, *, fps: float = 8.0, columns: int = 1, gap: int = 2
) -> None:
  """Writes clips in a grid, played side by side, as one GIF that repeats forever.

  Equal frames are kept. Frames with at most 256 colours are exact. The others share a palette of 256 in which a colour
  has the same weight however many pixels have it, so that a small object keeps its colour on a large background.

  Args:
    path: the .gif file.
    videos: uint8[..., T, H, W, C] with C 1 or 3.
    fps: frames per second, see `encode_gif`; most viewers play at most 50.
    columns: clips per row.
    gap: pixels between and around the clips.
  """
  videos = as_rgb(videos)
  videos = videos.reshape(-1, *videos.shape[-4:])
  empty = np.full((-len(videos) % columns, *videos.shape[1:]), BACKGROUND, np.uint8)
  grid = np.concatenate([videos, empty]).reshape(-1, columns, *videos.shape[1:])
  frames = _palette_images(np.stack([contact_sheet(clips, gap=gap) for clips in np.moveaxis(grid, 2, 0)]))
  content = encode_gif(frames, fps=fps)
  with atomic_write(path) as temporary:
    temporary.write_bytes(content)


def _palette_images(frames: np.ndarray) -> list[Image.Image]:
  """Frames uint8[T, H, W, 3] as palette images: exact up to 256 colours, otherwise dithered with a common palette."""
  packed = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
  distinct = [np.unique(frame, return_inverse=True) for frame in packed]
  rich = [colours for colours, _ in distinct if len(colours) > _PALETTE]
  palette = _common_palette(np.unique(np.concatenate(rich))) if rich else None
  images = []
  for frame, (colours, index) in zip(frames, distinct, strict=True):
    if len(colours) > _PALETTE:
      images.append(Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
      continue
    image = Image.fromarray(index.reshape(frame.shape[:2]).astype(np.uint8), mode="P")
    image.putpalette(_unpack(colours).tobytes())
    images.append(image)
  return images


def _common_palette(colours: np.ndarray) -> Image.Image:
  """An image whose palette covers the packed colours uint32[n], with the same weight for every region of colours."""
  # One colour from each 8x8x8 cell, since k-means over all of them takes seconds. Without k-means, median cut merges an
  # isolated colour with distant ones.
  _, first = np.unique(colours >> 3 & 0x1F1F1F, return_index=True)
  samples = Image.fromarray(_unpack(colours[first])[None])
  return samples.quantize(_PALETTE, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _unpack(colours: np.ndarray) -> np.ndarray:
  """Colours uint32[n], 0xRRGGBB, as uint8[n, 3]."""
  return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)
