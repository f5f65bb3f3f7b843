"""What a model makes of frames at random times: images, and how near its samples come to the truth (SR-cGAN)."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.scores.metrics.best_of import BestOfSamples, curve_counts
from vidgen_jax.scores.metrics.psnr import frame_psnr
from vidgen_jax.media.images import mark_anchors, save_png
from vidgen_jax.media.plots import Line, Panel, draw_panels
from vidgen_jax.ops.video import contact_sheet
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler

INFERENCE, CURVE, NAIVE = "inference", "inference_curve", "naive_interpolation"

SHOWN_SAMPLES = 2
"""Of each clip on a sheet."""

PROTOCOL = (
  "PSNR of the frames that are no anchors, which are drawn for each clip; of the sample with the best mean over its "
  "frames; then the mean over clips"
)


class AnchorStudy:
  """Clips of a run from anchors at random times.

  Args:
    experiment: of the run; its algorithm is an `InfersClips`.
    sampler: of the run, from `samplers.workdir_sampler`; its standing statistics are used.
    seed: of the times and the latents.
  """

  def __init__(self, experiment: Experiment, sampler: Sampler, *, seed: int) -> None:
    self._experiment, self._sampler, self._seed = experiment, sampler, seed

  def random_times(self, count: int) -> np.ndarray:
    """Times of as many anchors as the sampler has conditioning frames, for each of so many clips, int32 [count, M]."""
    random = np.random.default_rng(self._seed)
    frames, anchors = self._sampler.num_frames, len(self._sampler.conditioning_indices)
    return np.stack([np.sort(random.choice(frames, anchors, replace=False)) for _ in range(count)]).astype(np.int32)

  def infer(self, truth: np.ndarray, times: np.ndarray, *, sample: int | None) -> np.ndarray:
    """What the model makes of anchors, these included, uint8 [S, N, H, W, C].

    Args:
      truth: uint8 [S, N, H, W, C].
      times: int32 [S, M].
      sample: the number of the latents; None for the deterministic model, whose z_T is the mean.
    """
    options, made = self._experiment.options(truncation=-1.0 if sample is not None else 0.0), []
    for i, batch in enumerate(self._batches(truth, times)):
      key = samplers.latent_key(self._seed, batch=i, sample=sample or 0)
      made.append(generation.infer(self._experiment, self._nets, batch, key, options=options))
    return np.concatenate(made)

  def interpolate(self, truth: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The naive baseline, decoded lines between the anchors' latents; arguments and result as of `infer`."""
    options = self._experiment.options()
    batches = self._batches(truth, times)
    return np.concatenate([generation.interpolate(self._experiment, self._nets, b, options=options) for b in batches])

  @functools.cached_property
  def _nets(self) -> Nets:
    return self._sampler.nets()

  def _batches(self, truth: np.ndarray, times: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    size = self._sampler.batch_size
    for start in range(0, len(truth), size):
      clips, chosen = truth[start : start + size], times[start : start + size]
      conditioning = np.stack([clip[places] for clip, places in zip(clips, chosen, strict=True)])
      yield {"conditioning": conditioning, "label": np.zeros(len(clips), np.int32), "times": chosen}


def draw_anchor_study(
  folder: Path,
  experiment: Experiment,
  sampler: Sampler,
  names: Sequence[str],
  *,
  shown: Clips,
  measured: Clips,
  origin: Mapping[str, Any],
) -> None:
  """Writes what is asked for; says so where the model cannot be asked for it.

  - `inference.png` (figure 8): for each shown clip the truth, whose anchors have a yellow border, and below it samples.
  - `inference_curve.json`, `inference_curve.png` (figure 10): see `measure`.
  - `naive_interpolation.png` (figure 11): from the first and the last frame the truth, decoded straight lines between
    their latents, and a sample.

  Args:
    folder: it exists.
    experiment: of the run.
    sampler: of the run.
    names: which of them.
    shown: clips of the sheets, with their truth.
    measured: clips of the curve, with their truth: a setting of anchors each.
    origin: where the samples come from, JSON-compatible, with `samples` and `seed`.

  Raises:
    UserError: if the data set is missing, matplotlib is needed and not installed, or the disk is full.
  """
  if not generation.infers_clips(experiment, sampler.conditioning_indices):
    logging.info("%s are left out: the model does not take frames at any times", ", ".join(names))
    return
  study = AnchorStudy(experiment, sampler, seed=origin["seed"])
  if INFERENCE in names:
    times = study.random_times(len(shown))
    samples = {f"sample {j}": study.infer(shown.truth, times, sample=j) for j in range(SHOWN_SAMPLES)}
    _save_sheet(folder / f"{INFERENCE}.png", {"truth": shown.truth, **samples}, times)
  if NAIVE in names:
    times = np.tile(np.array([[0, sampler.num_frames - 1]], np.int32), (len(shown), 1))
    versions = {"truth": shown.truth, "naive": study.interpolate(shown.truth, times)}
    _save_sheet(folder / f"{NAIVE}.png", versions | {"model": study.infer(shown.truth, times, sample=0)}, times)
  if CURVE in names:
    report = {**origin, **measure(study, measured.truth, samples=origin["samples"])}
    (folder / f"{CURVE}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_panels(folder / f"{CURVE}.png", [_panel(report)])


def measure(study: AnchorStudy, truth: np.ndarray, *, samples: int) -> dict[str, Any]:
  """How near the model comes to the truth, by the number of its samples (SR-cGAN, IV.C.2, figure 10).

  Args:
    study: of the run.
    truth: uint8 [S, N, H, W, C]: a setting of anchors each.
    samples: l, clips to make for each.

  Returns:
    JSON-compatible, PSNR in dB: `best_of` by number of samples, `mean_of_samples`, `deterministic`,
    `naive_interpolation` of the frames between the anchors; `anchors`, of what the mean sample makes of the anchors;
    `num_clips`, `num_anchors`, `protocol`.
  """
  times = study.random_times(len(truth))
  known = np.zeros(truth.shape[:2], bool)
  np.put_along_axis(known, times.astype(np.intp), True, axis=1)

  def score(videos: np.ndarray) -> tuple[np.ndarray, float]:
    """(PSNR of every frame, NaN at the anchors; the mean PSNR of the anchors)."""
    values = np.asarray(frame_psnr(videos, truth, data_range=255), np.float64)
    return np.where(known, np.nan, values), float(values[known].mean())

  kept, best, anchors, counts = BestOfSamples({"psnr": True}), {}, [], curve_counts(samples)
  for j in range(samples):
    values, on_anchors = score(study.infer(truth, times, sample=j))
    kept.add({"psnr": values})
    anchors.append(on_anchors)
    if j + 1 in counts:
      best[str(j + 1)] = _mean(kept.result().best["psnr"])
  return {
    "best_of": best,
    "mean_of_samples": _mean(kept.result().mean["psnr"]),
    "deterministic": _mean(score(study.infer(truth, times, sample=None))[0]),
    "naive_interpolation": _mean(score(study.interpolate(truth, times))[0]),
    "anchors": float(np.mean(anchors)),
    "num_clips": len(truth),
    "num_anchors": times.shape[1],
    "protocol": PROTOCOL,
  }


def _mean(values: np.ndarray) -> float:
  """The mean over clips of the means over their frames."""
  return scoring.mean_of_known(np.array([scoring.mean_of_known(clip) for clip in values]))


def _save_sheet(path: Path, versions: Mapping[str, np.ndarray], times: np.ndarray) -> None:
  """Rows of versions, clip by clip; the anchors stand out in all of them."""
  videos = np.stack(list(versions.values()), axis=1)
  marked = np.stack([mark_anchors(clip, places) for clip, places in zip(videos, times, strict=True)])
  labels = [f"t={frame}" for frame in range(videos.shape[2])]
  rows = marked.reshape(-1, *marked.shape[2:])
  save_png(path, contact_sheet(rows, column_labels=labels, row_labels=list(versions) * len(videos)))


def _panel(report: Mapping[str, Any]) -> Panel:
  counts = [int(count) for count in report["best_of"]]
  places = range(len(counts))
  flat = {"mean of samples": "mean_of_samples", "deterministic, z_T = mu_T": "deterministic"}
  flat["decoded lines between latents"] = "naive_interpolation"
  lines = [Line(x=places, y=list(report["best_of"].values()), label="best of l samples", marker=".")]
  for (label, name), style in zip(flat.items(), ("--", "-.", ":"), strict=True):
    lines.append(Line(x=places, y=[report[name]] * len(counts), label=label, style=style))
  return Panel(
    title=f"{report['num_anchors']} random anchors, mean over {report['num_clips']} clips",
    x_label="l",
    y_label="PSNR of the other frames, dB",
    lines=lines,
    ticks=[str(count) for count in counts],
  )
