"""Best-of-l curves: how near the best of l samples comes to the truth, frame by frame (TrIVD-GAN-FP, figure 5)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.runs import scoring
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOfCurve, curve_counts
from vidgen_jax.media.plots import Line, Panel, draw_panels
from vidgen_jax.ops.conditioning import generated_indices

BEST_OF_FILES = ("best_of_ssim.json", "best_of_ssim.png")

METRICS = {"ssim": "SSIM", "psnr": "PSNR, dB"}
"""Of single frames, as `scoring.score` calls them; and how they are written on axes. Each chooses its own samples."""

PROTOCOL = "per frame, of the sample with the best mean over each clip's generated frames; then the mean over clips"


class Stochasticity:
  """Best-of-l curves of a model, beside the mean over its samples and the simplest guess.

  Args:
    truth: uint8 [N, T, H, W, C], real clips.
    conditioning_indices: indices of the frames that the model is given, at least one; they do not count.
    samples: how many will come; see `vidgen_jax.scores.metrics.best_of.curve_counts`.
    batch_size: clips that are scored at once.
  """

  def __init__(self, truth: np.ndarray, conditioning_indices: Sequence[int], *, samples: int, batch_size: int) -> None:
    self._truth, self._given_frames, self._batch_size = truth, tuple(conditioning_indices), batch_size
    self._curves = {name: BestOfCurve(curve_counts(samples)) for name in METRICS}

  def add(self, videos: np.ndarray) -> None:
    """Takes the next sample of each clip.

    Args:
      videos: uint8 [M, T, H, W, C] with M >= N, whole clips; those after the N-th do not count.
    """
    scores = self._score(videos[: len(self._truth)])
    for name, curve in self._curves.items():
      curve.add(scores[name])

  def report(self) -> dict[str, Any]:
    """The curves of the samples so far, JSON-compatible.

    Returns:
      `protocol`; `num_clips`; `frames`, the 0-based indices in the clip of the generated frames; and for each of
      `METRICS` lists of that length: `best_of` by l (as text), `mean_of_samples` and `simplest_guess`, of
      `vidgen_jax.scores.metrics.baselines.simplest_guess`.
    """
    guess = self._score(baselines.simplest_guess(self._truth, self._given_frames))
    report: dict[str, Any] = {
      "protocol": PROTOCOL,
      "num_clips": len(self._truth),
      "frames": list(generated_indices(self._given_frames, self._truth.shape[1])),
    }
    for name, curve in self._curves.items():
      report[name] = {
        "best_of": {str(count): values.tolist() for count, values in curve.best.items()},
        "mean_of_samples": curve.mean.tolist(),
        "simplest_guess": guess[name].mean(axis=0, dtype=np.float64).tolist(),
      }
    return report

  def save(self, folder: Path, origin: Mapping[str, Any]) -> None:
    """Writes `BEST_OF_FILES`.

    Args:
      folder: it exists.
      origin: where the samples came from, JSON-compatible: stands at the head of the JSON file.

    Raises:
      UserError: if matplotlib is not installed or the disk is full.
    """
    report = self.report()
    data, image = (folder / name for name in BEST_OF_FILES)
    data.write_text(json.dumps({**origin, **report}, indent=2) + "\n", encoding="utf-8")
    panels = [_panel(label, report, report[name]) for name, label in METRICS.items()]
    draw_panels(image, panels, common_legend=True)

  def _score(self, videos: np.ndarray) -> dict[str, np.ndarray]:
    return score_clips(videos, self._truth, self._given_frames, batch_size=self._batch_size, tracking=False)


def score_clips(
  videos: np.ndarray, truth: np.ndarray, conditioning_indices: Sequence[int], *, batch_size: int, tracking: bool
) -> dict[str, np.ndarray]:
  """As `scoring.score`, for any number of clips: so many at once as fit into memory.

  Args:
    videos: uint8 [N, T, H, W, C], whole clips.
    truth: the same shape.
    conditioning_indices: indices of frames that do not count.
    batch_size: clips that are scored at once.
    tracking: whether an object is tracked.
  """
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
    # The largest l first, so that the legend has the order of the curves.
    lines=[
      *reversed(lines),
      Line(x=frames, y=curves["mean_of_samples"], label="mean of samples", style="--"),
      Line(x=frames, y=curves["simplest_guess"], label="simplest guess", style=":"),
    ],
    whole_ticks=True,
  )
