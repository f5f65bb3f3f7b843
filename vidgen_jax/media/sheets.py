"""Sheets that compare several versions of the same clips, one below the other."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from vidgen_jax.media.images import frame_labels, mark_conditioning, save_png
from vidgen_jax.ops.video import contact_sheet


def save_comparison(
  path: str | os.PathLike[str], versions: Mapping[str, np.ndarray], conditioning_indices: Sequence[int]
) -> None:
  """Writes a sheet with a row for each version of the first clip, then of the second, and so on.

  Args:
    path: the .png file; its folder is created.
    versions: uint8[N, T, H, W, C] with C 1 or 3, whole clips, by what stands beside their rows.
    conditioning_indices: 0-based indices of the frames that get a green border; may be none.

  Raises:
    TypeError, ValueError: see `vidgen_jax.ops.video.contact_sheet`.
    UserError: if the file cannot be written.
  """
  videos = np.stack(list(versions.values()), axis=1)
  num_clips, _, num_frames = videos.shape[:3]
  sheet = contact_sheet(
    mark_conditioning(videos.reshape(-1, *videos.shape[2:]), conditioning_indices),
    column_labels=frame_labels(conditioning_indices, num_frames),
    row_labels=list(versions) * num_clips,
  )
  save_png(path, sheet)
