"""Data sets built from the archives that their owners distribute."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vidgen_jax.data.layouts import Layout
from vidgen_jax.data.video_folder import VideoFolderOptions, build_video_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedOptions:
  """What to read, and how to store it; see `VideoFolderOptions` for what is not said here.

  Attributes:
    source: folder or zip that holds the data set as its owners lay it out.
    name: name of the data set.
    data_dir: folder of all data sets.
    split_rule: one of the layout's; '' for its first.
    size: see `VideoFolderOptions`.
    encoding: see there.
    quality: see there.
    min_frames: see there.
    clip_frames: see there.
    stride: see there.
    max_skipped: see there.
    num_workers: see there.
    beam_options: see there.
    overwrite: see there.
  """

  source: str
  name: str
  data_dir: str
  split_rule: str = ""
  size: int = 0
  encoding: str = "jpeg"
  quality: int = 95
  min_frames: int = 2
  clip_frames: int = 0
  stride: int = 1
  max_skipped: float = 0.5
  num_workers: int = 0
  beam_options: Sequence[str] = ()
  overwrite: bool = False


def build_published(layout: Layout, options: PublishedOptions) -> Path:
  """Builds a published data set; videos that are missing, damaged or short are listed in the manifest.

  Args:
    layout: which file is what.
    options: what to read, and how to store it.

  Returns:
    The folder of the complete data set.

  Raises:
    UserError: as `build_video_folder`, or if the source does not hold the data set or has no such split rule.
  """
  values = dataclasses.asdict(options)
  rule = values.pop("split_rule") or next(iter(layout.num_videos))
  return build_video_folder(VideoFolderOptions(**values, fps=layout.fps), layout=layout, split_rule=rule)
