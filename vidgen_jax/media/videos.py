"""Single clips as files: a GIF, an MP4, or a PNG strip with the frames side by side, written atomically."""

import fractions
import io
import os
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from absl import logging

from vidgen_jax.buckets import user_path
from vidgen_jax.files import atomic_write
from vidgen_jax.media.images import as_rgb, save_gif, save_png

FORMATS = ("gif", "mp4", "png")
"""File formats of `save_clips`, by their suffix."""

_CODECS = {"libx264": {"crf": "10"}, "mpeg4": {"qmin": "1", "qmax": "2"}}
"""Encoders, the best first, with options for visually lossless quality."""


def save_clips(
  folder: str | os.PathLike[str], samples: np.ndarray, *, formats: Sequence[str], fps: float = 8.0
) -> None:
  """Writes each clip as its own file, not enlarged: `clip_000_sample_00.gif`, ...; creates the folder.

  `vidgen data build video_folder` and `--input` can read the PNG strips of three or more square frames. `samples` are
  uint8[N, l, T, H, W, C] with C 1 or 3, `formats` some of `FORMATS`; GIFs support at most 50 frames per second.

  Raises:
    UserError: a file cannot be written.
  """
  for index, clips in enumerate(samples):
    for sample, clip in enumerate(clips):
      path = user_path(folder) / f"clip_{index:03d}_sample_{sample:02d}"
      if "gif" in formats:
        save_gif(path.with_suffix(".gif"), clip, fps=fps, gap=0)
      if "mp4" in formats:
        save_mp4(path.with_suffix(".mp4"), clip, fps=fps)
      if "png" in formats:
        save_png(path.with_suffix(".png"), np.concatenate(list(clip), axis=1))


def save_mp4(path: str | os.PathLike[str], video: np.ndarray, *, fps: float = 8.0) -> None:
  """Writes a clip as a portable video: H.264 if PyAV was built with it, otherwise MPEG-4.

  `video` is uint8[T, H, W, C] with C 1 or 3. Colour has half the resolution (yuv420p), which requires even sizes: an
  odd size is padded with a repeated row or column, which is logged. Pixels are square.
  """
  video = as_rgb(video)
  height, width = video.shape[1:3]
  video = np.pad(video, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
  if video.shape[1:3] != (height, width):
    size = (video.shape[2], video.shape[1])
    logging.log_first_n(logging.WARNING, "MP4 needs even sizes: %dx%d is padded to %dx%d", 1, width, height, *size)
  content = io.BytesIO()
  codec = next(name for name in _CODECS if name in av.codecs_available)
  with av.open(content, "w", format="mp4") as container:
    stream: Any = container.add_stream(codec, rate=fractions.Fraction(fps).limit_denominator(1000))
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt, stream.options = "yuv420p", _CODECS[codec]
    stream.sample_aspect_ratio = fractions.Fraction(1)
    # Players differ in their defaults, so store how FFmpeg converts RGB to YUV: BT.601 (H.273 code 6), limited range.
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 6
    context.color_range = 1
    for frame in video:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode())
  with atomic_write(path) as temporary:
    temporary.write_bytes(content.getvalue())
