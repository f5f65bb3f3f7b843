"""Clips as files that people open: PNG sheets and animated GIFs. A file appears whole or not at all."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vidgen_jax.buckets import AnyPath, user_path
from vidgen_jax.files import atomic_write
from vidgen_jax.ops.video import add_border, as_rgb, contact_sheet, side_by_side

GIVEN_COLOUR = (0, 160, 0)
"""Border of the frames that the model was given."""

ANCHOR_COLOUR = (255, 200, 0)
"""Border of frames that the model was given and made anew, as in SR-cGAN."""

GENERATED_COLOUR = (200, 200, 200)
"""Border of all others."""

_PALETTE = 256
_SHOWN_SIDE = 64
"""Frames smaller than this are enlarged, by a whole factor, so that their pixels can be seen."""


class PredictionImages(NamedTuple):
  """What `save_prediction_images` wrote."""

  sheet_path: AnyPath
  gif_path: AnyPath
  sheet: np.ndarray
  """uint8[H, W, 3], the contact sheet, for `MetricWriter.write_images`."""


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
  """Writes one image.

  Args:
    path: the .png file; its folder is created.
    image: uint8[H, W, C] with C 1 or 3.

  Raises:
    TypeError, ValueError: see `vidgen_jax.ops.video.as_rgb`.
    UserError: if the file cannot be written.
  """
  image = Image.fromarray(as_rgb(image))
  with atomic_write(path) as temporary:
    image.save(temporary, format="PNG")


def save_gif(
  path: str | os.PathLike[str],
  videos: np.ndarray,
  *,
  fps: float = 8.0,
  columns: int | None = None,
  gap: int = 2,
  zoom: int = 1,
) -> None:
  """Writes clips, laid out in a grid and played side by side, as one GIF that repeats for ever.

  A frame with at most 256 colours keeps every one exactly. The others share a palette of 256 in which a colour weighs
  the same however many pixels have it, so that a small object on a large ground keeps its own.

  Args:
    path: the .gif file; its folder is created.
    videos: uint8[N, T, H, W, C] with C 1 or 3.
    fps: frames per second; GIF counts in 1/100 s, and most viewers play at 50 at most.
    columns: clips in a row; by default the grid is about square.
    gap: pixels between and around the clips.
    zoom: every pixel becomes a square of zoom x zoom.

  Raises:
    TypeError, ValueError: see `vidgen_jax.ops.video.contact_sheet`; ValueError if `fps` is not in (0, 50].
    UserError: if the file cannot be written.
  """
  if not 0 < fps <= 50:
    raise ValueError(f"save_gif needs fps in (0, 50], got {fps=}")
  frames = _palette_images(_grid(videos, columns, gap, zoom))
  with atomic_write(path) as temporary:
    frames[0].save(
      temporary, format="GIF", save_all=True, append_images=frames[1:], duration=round(100 / fps) * 10, loop=0
    )


def mark_conditioning(videos: np.ndarray, conditioning_indices: Sequence[int]) -> np.ndarray:
  """Enlarges the frames of clips if they are small, and gives them borders: green where the frame was given.

  Args:
    videos: uint8[..., T, H, W, C] with C 1 or 3, whole clips.
    conditioning_indices: 0-based indices; may be none.

  Returns:
    uint8[..., T, h, w, 3].
  """
  return _marked(videos, conditioning_indices, GIVEN_COLOUR)


def _marked(videos: np.ndarray, frames: Sequence[int], colour: tuple[int, int, int]) -> np.ndarray:
  zoom = _zoom(videos)
  large = as_rgb(videos).repeat(zoom, axis=-3).repeat(zoom, axis=-2)
  framed = add_border(large, colour=GENERATED_COLOUR)
  chosen = np.asarray(frames, np.intp)
  framed[..., chosen, :, :, :] = add_border(large[..., chosen, :, :, :], colour=colour)
  return framed


def mark_anchors(videos: np.ndarray, anchors: Sequence[int]) -> np.ndarray:
  """As `mark_conditioning`, but yellow, as SR-cGAN marks anchors: frames of a model that takes any.

  Args:
    videos: see `mark_conditioning`.
    anchors: 0-based indices.

  Returns:
    See `mark_conditioning`.
  """
  return _marked(videos, anchors, ANCHOR_COLOUR)


def frame_labels(conditioning_indices: Sequence[int], num_frames: int) -> list[str]:
  """What stands above the columns of a sheet: 'given 0', 't=1', by 0-based index in the clip."""
  return [f"given {frame}" if frame in conditioning_indices else f"t={frame}" for frame in range(num_frames)]


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
  """Writes `contact_sheet_<step>.png` and `prediction_<step>.gif` of some whole clips.

  The sheet has two rows for each clip, the truth above the prediction; the frames that the model was given have a green
  border. The GIF shows guess | prediction | truth of every clip; see `vidgen_jax.ops.video.side_by_side`.

  Args:
    folder: it is created if it is missing.
    step: completed train steps, for the files' names.
    conditioning_indices: 0-based indices of the frames that the model was given; may be none.
    prediction: uint8[N, T, H, W, C] with C 1 or 3.
    truth: the same shape.
    guess: the same shape: what a trivial baseline makes of the conditioning frames.
    fps: of the GIF.

  Returns:
    Both paths and the sheet.

  Raises:
    TypeError, ValueError: if the arrays are not uint8 video of one shape.
    UserError: if a file cannot be written.
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
  """By which factor frames [..., H, W, C] are enlarged."""
  return max(1, _SHOWN_SIDE // videos.shape[-3])


def _grid(videos: np.ndarray, columns: int | None, gap: int, zoom: int) -> np.ndarray:
  """The grid as one video, uint8[T, h, w, 3]; places without a clip are left white."""
  videos = as_rgb(videos)
  if videos.ndim != 5 or 0 in videos.shape:
    raise ValueError(f"save_gif needs non-empty videos [N, T, H, W, C], got shape {videos.shape}")
  columns = columns or math.ceil(math.sqrt(len(videos)))
  missing = -len(videos) % columns
  videos = np.concatenate([videos, np.full((missing, *videos.shape[1:]), 255, np.uint8)])
  videos = videos.reshape(-1, columns, *videos.shape[1:])
  return np.stack([contact_sheet(videos[:, :, time], gap=gap, zoom=zoom) for time in range(videos.shape[2])])


def _palette_images(frames: np.ndarray) -> list[Image.Image]:
  """uint8[T, H, W, 3] as palette images: exact where 256 colours suffice, else dithered with a palette for all."""
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
  """An image whose palette suits the packed colours uint32[n], each region of colours having the same weight."""
  # One colour from each 8x8x8 cell: k-means over all of them takes seconds. Without k-means, median cut puts a lone
  # colour into one entry with others that are far away.
  _, first = np.unique(colours >> 3 & 0x1F1F1F, return_index=True)
  samples = Image.fromarray(_unpack(colours[first])[None])
  return samples.quantize(_PALETTE, method=Image.Quantize.MEDIANCUT, kmeans=1)


def _unpack(colours: np.ndarray) -> np.ndarray:
  """uint32[n], 0xRRGGBB, as uint8[n, 3]."""
  return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)
