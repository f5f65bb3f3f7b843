"""Clips as PNG sheets and animated GIFs.

Files are written atomically and their folders are created; a file that cannot be written is a UserError. Wrong arrays
are a TypeError or ValueError, as in `vidgen_jax.media.layout`.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vidgen_jax.buckets import AnyPath, user_path
from vidgen_jax.files import atomic_write
from vidgen_jax.media.layout import add_border, as_rgb, contact_sheet, side_by_side

CONDITIONING_COLOUR = (0, 160, 0)
"""Border of conditioning frames."""

ANCHOR_COLOUR = (255, 200, 0)
"""Border of anchors: conditioning frames of a model that accepts any frames, as in the figures of SR-cGAN."""

GENERATED_COLOUR = (200, 200, 200)
"""Border of all other frames."""

_PALETTE = 256


class PredictionImages(NamedTuple):
  """The files of `save_prediction_images`, and the contact sheet uint8[H, W, 3]."""

  sheet_path: AnyPath
  gif_path: AnyPath
  sheet: np.ndarray


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
  """Writes one image uint8[H, W, C] with C 1 or 3."""
  png = Image.fromarray(as_rgb(image))
  with atomic_write(path) as temporary:
    png.save(temporary, format="PNG")


def save_gif(
  path: str | os.PathLike[str],
  videos: np.ndarray,
  *,
  fps: float = 8.0,
  columns: int | None = None,
  gap: int = 2,
  zoom: int = 1,
) -> None:
  """Writes clips in a grid, played side by side, as one GIF that repeats forever.

  Frames with at most 256 colours are exact. The others share a palette of 256 in which a colour has the same weight
  however many pixels have it, so that a small object keeps its colour on a large background.

  Args:
    path: the .gif file.
    videos: uint8[N, T, H, W, C] with C 1 or 3.
    fps: frames per second; GIF counts in 1/100 s, and most viewers play at most 50.
    columns: clips per row; by default the grid is about square.
    gap: pixels between and around the clips.
    zoom: factor by which frames are enlarged.
  """
  if not 0 < fps <= 50:
    raise ValueError(f"save_gif needs fps in (0, 50], got {fps=}")
  frames = _palette_images(_grid(videos, columns, gap, zoom))
  with atomic_write(path) as temporary:
    frames[0].save(
      temporary, format="GIF", save_all=True, append_images=frames[1:], duration=round(100 / fps) * 10, loop=0
    )


def mark_conditioning(
  videos: np.ndarray, conditioning_indices: Sequence[int], *, colour: tuple[int, int, int] = CONDITIONING_COLOUR
) -> np.ndarray:
  """Enlarges small frames and adds borders: grey, or `colour` for the conditioning frames.

  Args:
    videos: uint8[..., T, H, W, C] with C 1 or 3, whole clips.
    conditioning_indices: 0-based indices; may be empty.
    colour: border of the conditioning frames.

  Returns:
    uint8[..., T, h, w, 3].
  """
  zoom = _zoom(videos)
  large = as_rgb(videos).repeat(zoom, axis=-3).repeat(zoom, axis=-2)
  framed = add_border(large, colour=GENERATED_COLOUR)
  chosen = np.asarray(conditioning_indices, np.intp)
  framed[..., chosen, :, :, :] = add_border(large[..., chosen, :, :, :], colour=colour)
  return framed


def frame_labels(conditioning_indices: Sequence[int], num_frames: int) -> list[str]:
  """Labels for the columns of a sheet, by 0-based index in the clip: 'given 0' (a conditioning frame), 't=1'."""
  return [f"given {frame}" if frame in conditioning_indices else f"t={frame}" for frame in range(num_frames)]


def save_comparison(
  path: str | os.PathLike[str], versions: Mapping[str, np.ndarray], conditioning_indices: Sequence[int]
) -> None:
  """Writes a PNG with one row for each version of the first clip, then of the second, and so on.

  `versions` are whole clips, uint8[N, T, H, W, C] with C 1 or 3, by the label of their rows. Conditioning frames have a
  green border.
  """
  videos = np.stack(list(versions.values()), axis=1)
  num_clips, _, num_frames = videos.shape[:3]
  sheet = contact_sheet(
    mark_conditioning(videos.reshape(-1, *videos.shape[2:]), conditioning_indices),
    column_labels=frame_labels(conditioning_indices, num_frames),
    row_labels=list(versions) * num_clips,
  )
  save_png(path, sheet)


def save_prediction_images(
  folder: str | os.PathLike[str],
  step: int,
  *,
  conditioning_indices: Sequence[int],
  prediction: np.ndarray,
  truth: np.ndarray,
  guess: np.ndarray,
  fps: float = 8.0,
) -> PredictionImages:
  """Writes `contact_sheet_<step>.png` and `prediction_<step>.gif` of whole clips.

  The sheet has two rows per clip, the truth above the prediction, and green borders around conditioning frames. The GIF
  shows guess | prediction | truth of every clip.

  `guess`, the clips of a baseline, `prediction` and `truth` are uint8[N, T, H, W, C] with C 1 or 3.
  """
  panels = np.stack([side_by_side(*clip) for clip in zip(guess, prediction, truth, strict=True)])
  rows = np.stack([truth, prediction], axis=1).reshape(-1, *truth.shape[1:])
  sheet = contact_sheet(
    mark_conditioning(rows, conditioning_indices), column_labels=frame_labels(conditioning_indices, truth.shape[1])
  )
  folder = user_path(folder)
  sheet_path, gif_path = folder / f"contact_sheet_{step:08d}.png", folder / f"prediction_{step:08d}.gif"
  save_png(sheet_path, sheet)
  save_gif(gif_path, panels, fps=fps, columns=1 if len(panels) < 4 else 2, gap=4, zoom=_zoom(truth))
  return PredictionImages(sheet_path, gif_path, sheet)


def _zoom(videos: np.ndarray) -> int:
  # Frames below 64 pixels are enlarged by an integer factor, so that their pixels are visible.
  return max(1, 64 // videos.shape[-3])


def _grid(videos: np.ndarray, columns: int | None, gap: int, zoom: int) -> np.ndarray:
  """The grid as one video, uint8[T, h, w, 3]; empty cells are white."""
  videos = as_rgb(videos)
  if videos.ndim != 5 or 0 in videos.shape:
    raise ValueError(f"save_gif needs non-empty videos [N, T, H, W, C], got shape {videos.shape}")
  columns = columns or math.ceil(math.sqrt(len(videos)))
  missing = -len(videos) % columns
  videos = np.concatenate([videos, np.full((missing, *videos.shape[1:]), 255, np.uint8)])
  videos = videos.reshape(-1, columns, *videos.shape[1:])
  return np.stack([contact_sheet(videos[:, :, time], gap=gap, zoom=zoom) for time in range(videos.shape[2])])


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
