"""What each discriminator of TrIVD-GAN-FP looks at (section 3.1, Fig. 1, Table 1)."""

from dataclasses import dataclass
from typing import Literal

import jax

from vidgen_jax.ops import resampling
from vidgen_jax.types import PRNGKey, Video


@dataclass(frozen=True, kw_only=True)
class View:
  """The input of one discriminator.

  Attributes:
    net: name of the discriminator.
    on: 'frames' for frames drawn at random, judged one by one; 'video' for whole clips.
    spatial: 'full', 'downsampled' (average pooling) or 'cropped' (a random window), the latter two by the factor s.
  """

  net: str
  on: Literal["frames", "video"]
  spatial: Literal["full", "downsampled", "cropped"]

  @property
  def abbreviation(self) -> str:
    """As in Table 1: F for frames, dF for downsampled ones; clV, dV, crV for full, downsampled and cropped video."""
    kind = {"full": "" if self.on == "frames" else "cl", "downsampled": "d", "cropped": "cr"}[self.spatial]
    return f"{kind}{'F' if self.on == 'frames' else 'V'}"

  def pixels(self, clip: tuple[int, int, int], *, num_frames: int, factor: int) -> int:
    """Pixels of a clip that are judged (3.1): K x H x W for full frames, T x H/s x W/s for a downsampled video.

    Args:
      clip: (T, H, W), its frames, height and width.
      num_frames: K, how many frames are drawn.
      factor: s, by which height and width shrink in downsampled and cropped views.
    """
    frames, height, width = clip
    shrunk = 1 if self.spatial == "full" else factor
    return (num_frames if self.on == "frames" else frames) * (height // shrunk) * (width // shrunk)


FRAMES = View(net="frame_disc", on="frames", spatial="full")
DOWNSAMPLED_FRAMES = View(net="downsampled_frame_disc", on="frames", spatial="downsampled")
VIDEO = View(net="video_disc", on="video", spatial="full")
DOWNSAMPLED_VIDEO = View(net="downsampled_video_disc", on="video", spatial="downsampled")
CROPPED_VIDEO = View(net="cropped_video_disc", on="video", spatial="cropped")

DECOMPOSITIONS: dict[str, tuple[View, ...]] = {
  "clip": (VIDEO,),
  "downsampled": (DOWNSAMPLED_VIDEO,),
  "cropped": (CROPPED_VIDEO,),
  "cropped_downsampled": (CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
  "mocogan_like": (FRAMES, VIDEO),
  "dvd_gan_fp": (FRAMES, DOWNSAMPLED_VIDEO),
  "faster": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO),
  "stronger": (DOWNSAMPLED_FRAMES, CROPPED_VIDEO, DOWNSAMPLED_VIDEO),
}
"""Discriminators by the name of their decomposition, in the order of Table 1."""


def apply_view(view: View, video: Video, key: PRNGKey, *, first_frame: int, num_frames: int, factor: int) -> jax.Array:
  """Cuts a discriminator's input out of clips.

  Args:
    view: of the discriminator.
    video: conditioning frames followed by real or generated ones, [B, T, H, W, C].
    key: of the frames and windows, drawn independently for every clip.
    first_frame: frames are drawn from this one on (the conditioning frames before it are always real).
    num_frames: K, how many frames are drawn.
    factor: s, by which height and width shrink in downsampled and cropped views.

  Returns:
    [B, K or T, H', W', C].
  """
  frames_key, crop_key = jax.random.split(key)
  if view.on == "frames":
    video = resampling.random_frames(frames_key, video[:, first_frame:], num_frames)
  if view.spatial == "downsampled":
    return resampling.average_pool(video, factor)
  if view.spatial == "cropped":
    return resampling.random_crop(crop_key, video, (video.shape[2] // factor, video.shape[3] // factor))
  return video
