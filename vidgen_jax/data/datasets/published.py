"""Registration and build of data sets that their owners distribute as archives of videos or images."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from vidgen_jax.data.build_options import VideoBuildOptions
from vidgen_jax.data.datasets import Dataset, register
from vidgen_jax.data.datasets.layout import Layout, SplitRule
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.listing import Source, SourceFile

ListFiles = Callable[[Source, str], list[SourceFile]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedOptions(VideoBuildOptions):
  """Options of a published data set, in addition to those of `VideoBuildOptions`.

  Attributes:
    split_rule: name of a split rule of the layout; '' for the first.
  """

  split_rule: str = ""


def published(
  *, name: str, title: str, split_rules: Mapping[str, SplitRule], obtain: str, fps: float = 0.0
) -> Callable[[ListFiles], ListFiles]:
  """Registers a published data set by its listing function; see `Dataset` and `Layout` for the arguments."""

  def add(list_files: ListFiles) -> ListFiles:
    layout = Layout(name=name, list_files=list_files, split_rules=split_rules, obtain=obtain, fps=fps)
    build = functools.partial(build_published, layout)
    register(Dataset(name=name, title=title, options_type=PublishedOptions, build=build, layout=layout))
    return list_files

  return add


def build_published(layout: Layout, options: PublishedOptions) -> Path:
  """Builds a published data set; the manifest lists missing, damaged and short videos.

  Raises:
    UserError: as `build_video_folder`, or if the source lacks the data set or the split rule is unknown.
  """
  values = dataclasses.asdict(options)
  rule = values.pop("split_rule") or next(iter(layout.split_rules))
  return build_video_folder(VideoFolderOptions(**values, fps=layout.fps), layout=layout, split_rule=rule)
