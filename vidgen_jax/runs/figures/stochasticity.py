"""Best-of-l curves: how close the best of l samples is to the truth, frame by frame (TrIVD-GAN-FP, figure 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.files import write_json
from vidgen_jax.media.plots import Line, Panel, draw_panels
from vidgen_jax.ops.conditioning import generated_indices
from vidgen_jax.runs import scoring
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOfCurve, curve_counts

BEST_OF_FILES = ("best_of_ssim.json", "best_of_ssim.png")

METRICS = {"ssim": "SSIM", "psnr": "PSNR, dB"}
"""Frame metrics by the name in `scoring.score`, with their axis label. Each metric chooses its own best samples."""


class Stochasticity:
  """Best-of-l curves of a model, compared with the mean over its samples and the simplest guess.

  Args:
    truth: uint8 [N, T, H, W, C].
    conditioning_indices: at least one; conditioning frames are not scored.
    samples: number of samples that will be added.
    batch_size: clips to score at once.
  """

  def __init__(self, truth: np.ndarray, conditioning_indices: Sequence[int], *, samples: int, batch_size: int) -> None:
    self._truth, self._conditioning_indices, self._batch_size = truth, tuple(conditioning_indices), batch_size
    self._curves = {name: BestOfCurve(curve_counts(samples)) for name in METRICS}

  def add(self, videos: np.ndarray) -> None:
    """Adds one sample of each clip, uint8 [M, T, H, W, C] with M >= N; uses the first N."""
    scores = self._score(videos[: len(self._truth)])
    for name, curve in self._curves.items():
      curve.add(scores[name])

  def report(self) -> dict[str, Any]:
    """The curves of the samples so far, JSON-compatible.

    Returns:
      `protocol`; `num_clips`; `frames`, the 0-based indices of the generated frames; and for each of `METRICS` lists of
      that length: `best_of` by l (as text), `mean_of_samples`, and `simplest_guess`.
    """
    guess = self._score(baselines.simplest_guess(self._truth, self._conditioning_indices))
    protocol = "per frame, of the sample with the best mean over each clip's generated frames; then the mean over clips"
    report: dict[str, Any] = {
      "protocol": protocol,
      "num_clips": len(self._truth),
      "frames": list(generated_indices(self._conditioning_indices, self._truth.shape[1])),
    }
    for name, curve in self._curves.items():
      report[name] = {
        "best_of": {str(count): values.tolist() for count, values in curve.best.items()},
        "mean_of_samples": curve.mean.tolist(),
        "simplest_guess": guess[name].mean(axis=0, dtype=np.float64).tolist(),
      }
    return report

  def save(self, folder: Path, origin: Mapping[str, Any]) -> None:
    """Writes `BEST_OF_FILES`; the JSON file starts with the fields of `origin`."""
    report = self.report()
    data, image = (folder / name for name in BEST_OF_FILES)
    write_json(data, {**origin, **report})
    panels = [_panel(label, report, report[name]) for name, label in METRICS.items()]
    draw_panels(image, panels, common_legend=True)

  def _score(self, videos: np.ndarray) -> dict[str, np.ndarray]:
    return score_clips(videos, self._truth, self._conditioning_indices, batch_size=self._batch_size, tracking=False)


def score_clips(
  videos: np.ndarray, truth: np.ndarray, conditioning_indices: Sequence[int], *, batch_size: int, tracking: bool
) -> dict[str, np.ndarray]:
  """`scoring.score` in batches, for more clips than fit into memory at once."""
  parts = []
  for start in range(0, len(videos), batch_size):
    part = slice(start, start + batch_size)
    parts.append(scoring.score(videos[part], truth[part], conditioning_indices, tracking=tracking))
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _panel(label: str, report: Mapping[str, Any], curves: Mapping[str, Any]) -> Panel:
  best_of, frames = curves["best_of"], report["frames"]
  shades = np.linspace(1.0, 0.0, len(best_of))
  lines = [
    Line(x=frames, y=values, label=f"best of {count}", shade=float(shade), marker=".")
    for (count, values), shade in zip(best_of.items(), shades, strict=True)
  ]
  return Panel(
    title=f"best of l samples, mean over {report['num_clips']} clips",
    x_label="frame, 0 the first of the clip",
    y_label=label,
    # The largest l comes first, so that the legend has the order of the curves.
    lines=[
      *reversed(lines),
      Line(x=frames, y=curves["mean_of_samples"], label="mean of samples", style="--"),
      Line(x=frames, y=curves["simplest_guess"], label="simplest guess", style=":"),
    ],
    integer_ticks=True,
  )
