"""Options of all builds from videos, and the clips that videos are cut into."""

import dataclasses
import itertools
from collections.abc import Sequence

from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.data.listing import SourceFile
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoBuildOptions:
  """Source, conversion and destination of a data set of videos.

  Attributes:
    source: folder or archive of the videos.
    name: name of the data set.
    data_dir: folder of all data sets.
    size: smallest side of the stored frames in pixels; 0 keeps the size.
    encoding: encoding of the stored frames, 'jpeg' or 'png'.
    quality: JPEG quality, 1..100.
    min_frames: smallest number of frames; shorter videos are skipped.
    clip_frames: number of frames of the clips that videos are cut into, dropping the rest; 0 does not cut.
    stride: distance between the frames of a video to store; divides its frame rate.
    max_skipped: largest fraction of videos that may be missing, damaged or too short.
    num_workers: number of decoding processes; 0 for one per core.
    beam_options: options NAME=VALUE of an Apache Beam pipeline that decodes instead ('runner=DataflowRunner', ...); ()
      for none. Its workers must see `source` and `data_dir` under the same paths.
    overwrite: whether an existing data set of that name is replaced.
  """

  source: str
  name: str
  data_dir: str
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

  def __post_init__(self):
    bounds = {"size": 0, "min_frames": 1, "clip_frames": 0, "stride": 1, "num_workers": 0}
    for field, bound in bounds.items():
      if getattr(self, field) < bound:
        raise UserError(f"--{field} must be at least {bound}, got {getattr(self, field)}")
    if not 0 <= self.max_skipped <= 1:
      raise UserError(f"--max_skipped must be in [0, 1], got {self.max_skipped}")
    _ = self.frame_encoding

  @property
  def frame_encoding(self) -> FrameEncoding:
    """Encoding of the stored frames."""
    return FrameEncoding(encoding=self.encoding, quality=self.quality)


def clips_of(
  file: SourceFile, num_frames: int, cuts: Sequence[int], options: VideoBuildOptions
) -> list[tuple[str, int, int]]:
  """Cuts each part of a video into clips, up to the end of its stored frames; `cuts` are those of `DecodedVideo`.

  Returns:
    (path of the video, with the clip's index for files with several clips; first stored frame; frame after the last).
  """
  if file.clips is not None:
    borders = [0, *cuts, num_frames]
    pieces = [(f"{file.path}[{file.clips[0] + i}]", *pair) for i, pair in enumerate(itertools.pairwise(borders))]
  else:
    # Parts count all frames; stored are frames 0, stride, 2 stride, ... of the whole video.
    pieces = [(file.path, -(-first // options.stride), -(-last // options.stride)) for first, last in file.parts]
  clips = []
  for source, first, last in pieces or [(file.path, 0, num_frames)]:
    last = min(last, num_frames)
    length = options.clip_frames or last - first
    if last - first >= max(options.min_frames, length):
      clips += [(source, start, start + length) for start in range(first, last - length + 1, length)]
  return clips
