"""Images of samples: over their originals, their mean and spread, latent blocks (Inbetweening, figures 2 to 4)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidgen_jax.scores.metrics.spread import RunningSpread
from vidgen_jax.media.images import mark_conditioning, save_png
from vidgen_jax.media.sheets import save_comparison
from vidgen_jax.ops.conditioning import generated_indices, take_frames
from vidgen_jax.ops.video import contact_sheet
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler


class SampleImages:
  """The first sample of some clips, and the mean and the standard deviation of all their samples.

  Args:
    truth: uint8 [N, T, H, W, C], the originals.
    conditioning_indices: indices of the conditioning frames.
  """

  def __init__(self, truth: np.ndarray, conditioning_indices: Sequence[int]) -> None:
    self._truth, self._given_frames = truth, tuple(conditioning_indices)
    self._first: np.ndarray | None = None
    self._spread = RunningSpread()

  def add(self, videos: np.ndarray) -> None:
    """Takes the next sample of each clip.

    Args:
      videos: uint8 [M, T, H, W, C] with M >= N, whole clips; those after the N-th do not count.
    """
    videos = videos[: len(self._truth)]
    if self._first is None:
      self._first = videos
    self._spread.add(videos)

  def save_first(self, path: Path) -> None:
    """Writes of each clip its first sample above the original.

    Args:
      path: the .png file.

    Raises:
      UserError: if the disk is full.
    """
    save_comparison(path, {"generated": self._first, "original": self._truth}, self._given_frames)

  def save_spread(self, path: Path) -> None:
    """Writes of each clip its first sample, the mean of all, and their standard deviation, scaled up to white.

    Args:
      path: the .png file.

    Raises:
      UserError: if the disk is full.
    """
    spread = self._spread.result()
    brightest = spread.deviation.max()
    scale = 255 / brightest if brightest else 1.0
    logging.info("%s shows standard deviations times %.3g: white is %.3g of 255", path.name, scale, 255 / scale)
    mean, deviation = (np.rint(values).astype(np.uint8) for values in (spread.mean, scale * spread.deviation))
    rows = {"sample": self._first, "mean": mean, f"std x {scale:.3g}": deviation}
    save_comparison(path, rows, self._given_frames)


def draw_latent_blocks(path: Path, sampler: Sampler, clips: Clips, *, seed: int) -> None:
  """Writes the image of the latent blocks of the first clip's first sample; says so where there are none.

  Args:
    path: the .png file.
    sampler: the generator.
    clips: of which the first is shown.
    seed: see `samplers.draw_sample`.

  Raises:
    UserError: if the disk is full.
  """
  if sampler.blocks is None:
    logging.info("%s is left out: the model has no latent blocks", path.name)
    return
  first = Clips(conditioning=clips.conditioning[:1], truth=None, label=clips.label[:1])
  decoded = sampler.blocks.decode(first, samplers.latent_key(seed, batch=0, sample=0))[:, 0]
  between = generated_indices(sampler.conditioning_indices, sampler.num_frames)
  sheet = contact_sheet(
    mark_conditioning(take_frames(decoded, between), ()),
    column_labels=[f"t={frame}" for frame in between],
    row_labels=[f"block {number}" for number in sampler.blocks.numbers],
  )
  save_png(path, sheet)
