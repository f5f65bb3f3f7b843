"""Scores of the baselines on the published Shape Motion files, against independent measurements.

Protocol: strips of 32 frames of 64x64, means of 2x2 pixels -> 32x32; windows of 3 + 5 frames whose start is drawn
uniformly; PSNR is the mean over frames of the frames' PSNR, at most 80 dB. Independent measurements: black 21.9 dB,
copy-last 24.9 dB and 2.51 px, linear extrapolation 1.25 px, each from a few hundred clips.
"""

import io
import pathlib
import zipfile

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.psnr import frame_psnr
from vidgen_jax.scores.metrics.trajectory import centroid_error, object_centroid, presence

_FRAMES, _SIZE = 32, 64
_CONDITIONING, _PREDICTED = 3, 5


def _windows(path: pathlib.Path, num_clips: int) -> np.ndarray:
  """uint8[num_clips, 8, 32, 32, 3], with uniformly drawn starts."""
  starts = np.random.default_rng(0).integers(0, _FRAMES - _CONDITIONING - _PREDICTED + 1, num_clips)
  videos = []
  with zipfile.ZipFile(path) as archive:
    names = sorted(archive.namelist(), key=lambda name: pathlib.PurePath(name).name)
    for name, start in zip(names[:: len(names) // num_clips], starts, strict=False):
      strip = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
      frames = strip.reshape(_SIZE, _FRAMES, _SIZE, 3).swapaxes(0, 1)[start : start + _CONDITIONING + _PREDICTED]
      pooled = frames.reshape(-1, _SIZE // 2, 2, _SIZE // 2, 2, 3).mean(axis=(2, 4), dtype=np.float32)
      videos.append(np.round(pooled).astype(np.uint8))
  return np.stack(videos)


def test_baselines_on_the_published_files(shared_data):
  archive = shared_data / "shape_motion.zip"
  if not archive.is_file():
    pytest.skip(f"the published Shape Motion files are missing: {archive}")
  videos = _windows(archive, 1000)
  conditioning_indices, truth = range(_CONDITIONING), videos[:, _CONDITIONING:]
  copied, black = (
    make(videos, conditioning_indices)[:, _CONDITIONING:] for make in (baselines.copy_last, baselines.black)
  )
  true, size = object_centroid(videos), videos.shape[2:4]
  generated = np.arange(_CONDITIONING, videos.shape[1])
  line = baselines.track_baselines(true, conditioning_indices)["linear_extrapolation"].take(generated)
  true, followed = true.take(generated), object_centroid(copied)
  found = {
    "black dB": np.mean(frame_psnr(black, truth)),
    "copy dB": np.mean(frame_psnr(copied, truth)),
    "copy px": np.nanmean(centroid_error(followed, true, size)),
    "linear px": np.nanmean(centroid_error(line, true, size)),
    "presence": np.nanmean(presence(followed, true, size)),
  }
  # Tolerances: two standard errors of the independent measurements, from a few hundred clips.
  expected = {"black dB": (21.9, 0.5), "copy dB": (24.9, 0.8), "copy px": (2.51, 0.2), "linear px": (1.25, 0.1)}
  for name, (value, tolerance) in expected.items():
    assert found[name] == pytest.approx(value, abs=tolerance), found
  assert found["presence"] > 0.995
