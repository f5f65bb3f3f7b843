"""Data sets built from the archives that their owners distribute."""

import dataclasses
from pathlib import Path

from vidgen_jax.data.build_options import VideoBuildOptions
from vidgen_jax.data.datasets import Layout
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedOptions(VideoBuildOptions):
  """What to read, and how to store it; see `VideoBuildOptions` for what is not said here.

  Attributes:
    source: folder or archive that holds the data set as its owners lay it out.
    split_rule: one of the layout's; '' for its first.
  """

  split_rule: str = ""


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
