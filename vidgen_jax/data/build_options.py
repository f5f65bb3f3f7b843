"""What all builds from videos can be told."""

import dataclasses
from collections.abc import Sequence

from vidgen_jax.data.cutting import CutOptions
from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoBuildOptions:
  """What to read, and how to store it.

  Attributes:
    source: folder or archive to read.
    name: name of the data set.
    data_dir: folder of all data sets.
    size: pixels of the stored frames' smallest side; 0 keeps the size.
    encoding: 'jpeg' or 'png'.
    quality: of JPEG, 1..100.
    min_frames: a shorter video is skipped.
    clip_frames: cuts a video into clips of that many frames and drops the rest; 0 keeps each video as one clip.
    stride: stores every so many-th frame of a video, whose frame rate is divided by it.
    max_skipped: part of the videos that may be missing, damaged or too short; more is an error.
    num_workers: processes that decode; 0 for one per core.
    beam_options: of an Apache Beam pipeline that does it in their place, 'runner=DataflowRunner', ...; () for none.
      Its workers must see `source` and `data_dir` under the same paths.
    overwrite: whether to replace a data set of that name.
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
    least = {"size": 0, "min_frames": 1, "clip_frames": 0, "stride": 1, "num_workers": 0}
    for field, bound in least.items():
      if getattr(self, field) < bound:
        raise UserError(f"--{field} must be at least {bound}, got {getattr(self, field)}")
    if not 0 <= self.max_skipped <= 1:
      raise UserError(f"--max_skipped must be in [0, 1], got {self.max_skipped}")
    _ = self.frame_encoding

  @property
  def frame_encoding(self) -> FrameEncoding:
    """How the frames are stored."""
    return FrameEncoding(encoding=self.encoding, quality=self.quality)

  @property
  def cut_options(self) -> CutOptions:
    """How videos are cut."""
    return CutOptions(min_frames=self.min_frames, clip_frames=self.clip_frames, stride=self.stride)
