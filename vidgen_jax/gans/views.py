"""Inputs of the discriminators: frames or whole clips, at full size, downsampled or cropped (TrIVD-GAN-FP, 3.1)."""

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
    on: 'frames' for randomly drawn frames, scored one by one; 'video' for whole clips.
    spatial: 'full', 'downsampled' (average pooling) or 'cropped' (a random window); the latter two by the factor s.
  """

  net: str
  on: Literal["frames", "video"]
  spatial: Literal["full", "downsampled", "cropped"]

  @property
  def abbreviation(self) -> str:
    """Symbol in Table 1: F for frames, dF for downsampled frames; clV, dV, crV for full, downsampled, cropped video."""
    kind = {"full": "" if self.on == "frames" else "cl", "downsampled": "d", "cropped": "cr"}[self.spatial]
    return f"{kind}{'F' if self.on == 'frames' else 'V'}"

  def pixels(self, clip: tuple[int, int, int], *, num_frames: int, factor: int) -> int:
    """Number of pixels per clip in this view: K x H x W for full frames, T x H/s x W/s for a downsampled video.

    Args:
      clip: (T, H, W): frames, height and width.
      num_frames: K, number of frames drawn.
      factor: s, divisor of height and width in downsampled and cropped views.
    """
    frames, height, width = clip
    divisor = 1 if self.spatial == "full" else factor
    return (num_frames if self.on == "frames" else frames) * (height // divisor) * (width // divisor)


def apply_view(view: View, video: Video, key: PRNGKey, *, first_frame: int, num_frames: int, factor: int) -> jax.Array:
  """Extracts a discriminator's input from clips.

  Args:
    view: the discriminator's view.
    video: conditioning frames followed by real or generated frames, [B, T, H, W, C].
    key: key of the drawn frames and windows, which are independent for every clip.
    first_frame: first frame that may be drawn; the conditioning frames before it are always real.
    num_frames: K, number of frames drawn.
    factor: s, divisor of height and width in downsampled and cropped views.

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
