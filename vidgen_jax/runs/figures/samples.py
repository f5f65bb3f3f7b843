"""Figures of all samples: above their originals, their mean and spread, and best-of-l curves.

They are figures 2 and 3 of Inbetweening and figure 5 of TrIVD-GAN-FP.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.files import write_json
from vidgen_jax.media.images import save_comparison
from vidgen_jax.media.plots import plot_file, shade
from vidgen_jax.ops.conditioning import generated_indices
from vidgen_jax.runs import scoring
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.sampling.samplers import draw_sample
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOfSamples, curve_counts, mean_over_clips
from vidgen_jax.scores.metrics.diversity import RunningSpread

GENERATED, MEAN, BEST_OF = "generated_over_original", "mean_of_samples", "best_of_ssim"

METRICS = {"ssim": "SSIM", "psnr": "PSNR, dB"}
"""Frame metrics by the name in `scoring.score`, with their axis label. Each metric chooses its own best samples."""


def draw_samples(inputs: FigureInputs, names: Set[str]) -> None:
  """Writes figures of all samples, with one sample of all clips in memory at a time.

  - `generated_over_original.png`: each shown clip's first sample above the original.
  - `mean_of_samples.png`: each shown clip's first sample, the mean of its samples, and their scaled standard deviation.
  - `best_of_ssim.json`, `best_of_ssim.png`: the report of `BestOfCurves`; only logs for clips from noise.
  """
  sampler, folder, conditioning = inputs.sampler, inputs.folder, inputs.sampler.conditioning_indices
  if BEST_OF in names and not conditioning:
    logging.info("skipped %s: clips from noise have no truth for comparison", BEST_OF)
    names = names - {BEST_OF}
  if not names & {GENERATED, MEAN, BEST_OF}:
    return
  shown, measured = inputs.shown.known_truth(), inputs.measured.known_truth()
  clips, needed = max(inputs.shown, inputs.measured, key=len), inputs.samples if names & {MEAN, BEST_OF} else 1
  logging.info("generating %d samples of each of %d clips", needed, len(clips))
  spread, curves = RunningSpread(), BestOfCurves(measured, conditioning, samples=needed, batch_size=sampler.batch_size)
  samples = (draw_sample(sampler, clips, sample=j, seed=inputs.seed) for j in range(needed))
  first = next(samples)
  for videos in itertools.chain([first], samples):
    spread.add(videos[: len(shown)])
    if BEST_OF in names:
      curves.add(videos[: len(measured)])
  first = first[: len(shown)]
  if GENERATED in names:
    save_comparison(folder / f"{GENERATED}.png", {"generated": first, "original": shown}, conditioning)
  if MEAN in names:
    _save_spread(folder / f"{MEAN}.png", first, spread, conditioning)
  if BEST_OF in names:
    report = {**inputs.origin, **curves.report()}
    write_json(folder / f"{BEST_OF}.json", report)
    _plot_curves(folder / f"{BEST_OF}.png", report)


class BestOfCurves:
  """Best-of-l curves of a model, compared with the mean over its samples and the simplest guess.

  Args:
    truth: uint8 [N, T, H, W, C].
    conditioning_indices: at least one; conditioning frames are not scored.
    samples: number of samples that will be added.
    batch_size: clips to score at once.
  """

  def __init__(self, truth: np.ndarray, conditioning_indices: Sequence[int], *, samples: int, batch_size: int) -> None:
    self._truth, self._conditioning_indices = truth, tuple(conditioning_indices)
    self._score = functools.partial(score_clips, batch_size=batch_size, tracking=False)
    self._counts, self._kept = curve_counts(samples), BestOfSamples(dict.fromkeys(METRICS, True))
    self._best: dict[int, dict[str, np.ndarray]] = {}

  def add(self, videos: np.ndarray) -> None:
    """Adds one sample of each clip, uint8 [N, T, H, W, C]."""
    self._kept.add(self._score(videos, self._truth, self._conditioning_indices))
    kept = self._kept.result()
    if kept.num_samples in self._counts:
      self._best[kept.num_samples] = {name: mean_over_clips(kept.best[name]) for name in METRICS}

  def report(self) -> dict[str, Any]:
    """The curves of the samples so far, JSON-compatible.

    Returns:
      `protocol`; `num_clips`; `frames`, the 0-based indices of the generated frames; and for each of `METRICS` lists of
      that length: `best_of` by l (as text), `mean_of_samples`, and `simplest_guess`.
    """
    guess = baselines.simplest_guess(self._truth, self._conditioning_indices)
    guess, kept = self._score(guess, self._truth, self._conditioning_indices), self._kept.result()
    report: dict[str, Any] = {
      "protocol": (
        "per frame, of the sample with the best mean over each clip's generated frames; then the mean over clips"
      ),
      "num_clips": len(self._truth),
      "frames": list(generated_indices(self._conditioning_indices, self._truth.shape[1])),
    }
    for name in METRICS:
      report[name] = {
        "best_of": {str(count): best[name].tolist() for count, best in self._best.items()},
        "mean_of_samples": mean_over_clips(kept.mean[name]).tolist(),
        "simplest_guess": guess[name].mean(axis=0, dtype=np.float64).tolist(),
      }
    return report


def score_clips(
  videos: np.ndarray, truth: np.ndarray, conditioning_indices: Sequence[int], *, batch_size: int, tracking: bool
) -> dict[str, np.ndarray]:
  """`scoring.score` in batches, for more clips than fit into memory at once."""
  parts = []
  for start in range(0, len(videos), batch_size):
    part = slice(start, start + batch_size)
    parts.append(scoring.score(videos[part], truth[part], conditioning_indices, tracking=tracking))
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _save_spread(path: Path, first: np.ndarray, spread: RunningSpread, conditioning_indices: Sequence[int]) -> None:
  mean, deviation = spread.result()
  largest = deviation.max()
  scale = 255 / largest if largest else 1.0  # The largest deviation is white.
  mean, deviation = (np.rint(values).astype(np.uint8) for values in (mean, scale * deviation))
  save_comparison(path, {"sample": first, "mean": mean, f"std x {scale:.3g}": deviation}, conditioning_indices)


def _plot_curves(path: Path, report: Mapping[str, Any]) -> None:
  frames = report["frames"]
  with plot_file(path, panels=len(METRICS), common_legend=True) as panels:
    for axes, (name, label) in zip(panels, METRICS.items(), strict=True):
      best_of = report[name]["best_of"]
      # The largest l comes first, so that the legend has the order of the curves.
      for (count, values), position in zip(reversed(best_of.items()), np.linspace(0.0, 1.0, len(best_of)), strict=True):
        axes.plot(frames, values, label=f"best of {count}", color=shade(position), marker=".")
      axes.plot(frames, report[name]["mean_of_samples"], "--", label="mean of samples")
      axes.plot(frames, report[name]["simplest_guess"], ":", label="simplest guess")
      title = f"best of l samples, mean over {report['num_clips']} clips"
      axes.set(title=title, xlabel="frame, 0 the first of the clip", ylabel=label)
      axes.locator_params(axis="x", integer=True)
