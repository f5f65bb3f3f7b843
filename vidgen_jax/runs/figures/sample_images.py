"""Images of samples: above their originals, their mean and spread, latent blocks (Inbetweening, figures 2 to 4).

Functions that write files raise UserError if the disk is full.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.gans import DecodesBlocks
from vidgen_jax.media.images import mark_conditioning, save_comparison, save_png
from vidgen_jax.media.layout import contact_sheet
from vidgen_jax.ops.conditioning import generated_indices, take_frames
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.sampling.samplers import RunSampler, latent_key
from vidgen_jax.scores.metrics.diversity import RunningSpread


class SampleImages:
  """The first sample of N clips, and the mean and the standard deviation of all their samples.

  `truth` contains the original clips, uint8 [N, T, H, W, C].
  """

  def __init__(self, truth: np.ndarray, conditioning_indices: Sequence[int]) -> None:
    self._truth, self._conditioning_indices = truth, tuple(conditioning_indices)
    self._first: np.ndarray = truth[:0]
    self._spread = RunningSpread()

  def add(self, videos: np.ndarray) -> None:
    """Adds one sample of each clip, uint8 [M, T, H, W, C] with M >= N; uses the first N."""
    videos = videos[: len(self._truth)]
    if not len(self._first):
      self._first = videos
    self._spread.add(videos)

  def save_first(self, path: Path) -> None:
    """Writes a PNG with the first sample of each clip above the original."""
    save_comparison(path, {"generated": self._first, "original": self._truth}, self._conditioning_indices)

  def save_spread(self, path: Path) -> None:
    """Writes a PNG with each clip's first sample, the mean of its samples, and their scaled standard deviation."""
    mean, deviation = self._spread.result()
    largest = deviation.max()
    scale = 255 / largest if largest else 1.0  # The largest deviation is white.
    logging.info("%s shows standard deviations times %.3g: white is %.3g of 255", path.name, scale, 255 / scale)
    mean, deviation = (np.rint(values).astype(np.uint8) for values in (mean, scale * deviation))
    rows = {"sample": self._first, "mean": mean, f"std x {scale:.3g}": deviation}
    save_comparison(path, rows, self._conditioning_indices)


def draw_latent_blocks(path: Path, inputs: FigureInputs) -> None:
  """Writes a PNG of the decoded latent blocks of the first clip's first sample; only logs if the model has none."""
  sampler = inputs.sampler
  gan = sampler.experiment.algorithm
  if not isinstance(gan, DecodesBlocks) or not gan.last_blocks():
    logging.info("skipped %s: the model has no latent blocks", path.name)
    return
  decoded = decode_blocks(sampler, inputs.shown.conditioning[:1], seed=inputs.seed)
  generated = generated_indices(sampler.conditioning_indices, sampler.num_frames)
  sheet = contact_sheet(
    mark_conditioning(take_frames(decoded, generated), ()),
    column_labels=[f"t={frame}" for frame in generated],
    row_labels=[f"block {number}" for number in gan.last_blocks()],
  )
  save_png(path, sheet)


def decode_blocks(sampler: RunSampler, conditioning: np.ndarray, *, seed: int) -> np.ndarray:
  """Decodes each block of the last level of the latent generator, for the first sample of one clip.

  Returns:
    uint8 [blocks, num_frames, H, W, C] for conditioning uint8 [1, G, H, W, C]; the last is the clip of `draw_sample`.
  """
  gan: Any = sampler.experiment.algorithm

  @sampler.compile
  def decode(nets: Nets, conditioning: jax.Array, latent: jax.Array) -> jax.Array:
    batch = {"conditioning": conditioning}
    return to_uint8(gan.decode_blocks(nets, batch, latent, num_frames=sampler.num_frames))

  # Latents may depend on the batch size, so draw a whole batch.
  key = latent_key(seed, batch=0, sample=0)
  latent = gan.latent(key, sampler.batch_size, truncation=sampler.options.truncation)[:1]
  return np.asarray(decode(sampler.nets(), conditioning, latent))[:, 0]
