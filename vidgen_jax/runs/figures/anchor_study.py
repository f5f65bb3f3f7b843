"""Clips from anchors at random times, and how close they come to the truth (SR-cGAN, figures 8, 10 and 11)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.files import write_json
from vidgen_jax.media.images import ANCHOR_COLOUR, contact_sheet, frame_labels, mark_conditioning, save_png
from vidgen_jax.media.plots import plot_file
from vidgen_jax.runs import generation
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.sampling.samplers import RunSampler, latent_key, workdir_sampler
from vidgen_jax.runs.scoring import mean_without_nan
from vidgen_jax.runs.workdir import Trained, load_weights
from vidgen_jax.scores.metrics.best_of import BestOfSamples, curve_counts
from vidgen_jax.scores.metrics.psnr import frame_psnr

INFERENCE, NAIVE, CURVE = "inference", "naive_interpolation", "inference_curve"
STUDY = (INFERENCE, NAIVE, CURVE)
"""Names of the figures."""

SETTINGS, SAMPLES = 100, 200
"""Numbers of anchor settings and of samples of each in figure 10 (IV.C.2)."""


class AnchorStudy:
  """Clips from anchors at random times.

  `sampler` is the generator of an `InfersClips`, `naive` the generator whose image networks `interpolate` uses.
  """

  def __init__(self, sampler: RunSampler, naive: RunSampler, *, seed: int) -> None:
    self._experiment, self._sampler, self._naive, self._seed = sampler.experiment, sampler, naive, seed

  def random_times(self, count: int) -> np.ndarray:
    """Random anchors, int32 [count, M]; M is the number of the sampler's conditioning frames.

    They are distinct (IV.C.2); if there are fewer than `count` settings, all of them are repeated in turn.
    """
    random = np.random.default_rng(self._seed)
    frames, anchors = self._sampler.num_frames, len(self._sampler.conditioning_indices)
    settings: dict[tuple[int, ...], None] = {}
    while len(settings) < min(count, math.comb(frames, anchors)):
      settings[tuple(sorted(random.choice(frames, anchors, replace=False).tolist()))] = None
    return np.array(list(settings), np.int32)[np.arange(count) % len(settings)]

  def infer(self, truth: np.ndarray, times: np.ndarray, *, sample: int | None) -> np.ndarray:
    """Clips from anchors, which are reconstructed too.

    Args:
      truth: uint8 [S, N, H, W, C], the shape of the result.
      times: int32 [S, M].
      sample: index of the latents; None for the deterministic model, with the mean as z_T.
    """
    options, clips = self._experiment.options(truncation=-1.0 if sample is not None else 0.0), []
    for i, batch in enumerate(self._batches(truth, times)):
      key = latent_key(self._seed, batch=i, sample=sample or 0)
      nets = self._sampler.nets()
      clips.append(generation.predict(self._experiment, nets, batch, key, options=options, reconstruct=True))
    return np.concatenate(clips)

  def interpolate(self, truth: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The naive baseline of `infer`: decoded linear interpolation between the anchors' latents."""
    options, nets = self._experiment.options(), self._naive.nets()
    batches = self._batches(truth, times)
    return np.concatenate([generation.interpolate(self._experiment, nets, batch, options=options) for batch in batches])

  def _batches(self, truth: np.ndarray, times: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    size = self._sampler.batch_size
    for start in range(0, len(truth), size):
      clips, chosen = truth[start : start + size], times[start : start + size]
      conditioning = np.stack([clip[anchors] for clip, anchors in zip(clips, chosen, strict=True)])
      yield {"conditioning": conditioning, "label": np.zeros(len(clips), np.int32), "times": chosen}


def draw_anchor_study(inputs: FigureInputs, names: Sequence[str]) -> None:
  """Writes figures of inference; only logs for a model that does not accept frames at any times.

  - `inference.png` (figure 8): each shown clip's truth above two samples, with yellow borders around its own anchors.
  - `inference_curve.json`, `inference_curve.png` (figure 10): the result of `measure`.
  - `naive_interpolation.png` (figure 11): with the first and the last frame as anchors, the truth, decoded linear
    interpolation between their latents by the networks of the first phase, and a sample.
  """
  sampler, folder, truth = inputs.sampler, inputs.folder, inputs.shown.known_truth()
  if not generation.infers_clips(sampler.experiment, sampler.conditioning_indices):
    logging.info("skipped %s: the model does not accept frames at any times", ", ".join(names))
    return
  frames_only = first_phase(inputs.trained)
  study = AnchorStudy(
    sampler, sampler if frames_only is inputs.trained else workdir_sampler(frames_only), seed=inputs.seed
  )
  if INFERENCE in names:
    times = study.random_times(len(truth))
    samples = {f"sample {j}": study.infer(truth, times, sample=j) for j in range(2)}
    _save_sheet(folder / f"{INFERENCE}.png", {"truth": truth, **samples}, times)
  if NAIVE in names:
    times = np.tile(np.array([[0, sampler.num_frames - 1]], np.int32), (len(truth), 1))
    versions = {"truth": truth, "naive": study.interpolate(truth, times)}
    _save_sheet(folder / f"{NAIVE}.png", versions | {"model": study.infer(truth, times, sample=0)}, times)
  if CURVE in names:
    report = {**inputs.origin, **measure(study, inputs.measured.known_truth(), samples=inputs.samples)}
    report["naive_interpolation_step"] = frames_only.step
    write_json(folder / f"{CURVE}.json", report)
    _plot_curve(folder / f"{CURVE}.png", report)


def first_phase(trained: Trained) -> Trained:
  """The run's networks at the end of its first phase, before clips change them; `trained` if they were not saved.

  The first phase trains the VAE-GAN that decodes figure 11's straight lines.
  """
  experiment, weights = trained.experiment, trained.weights
  steps = [step for step in experiment.phase_ends if 0 < step < trained.step]
  try:
    return load_weights(trained.workdir, experiment, step=steps[0], weights=weights) if steps else trained
  except UserError as error:
    logging.warning("naive interpolation uses the networks of step %d: %s", trained.step, error)
    return trained


def measure(study: AnchorStudy, truth: np.ndarray, *, samples: int) -> dict[str, Any]:
  """How close l = `samples` samples of clips uint8 [S, N, H, W, C] come to the truth (SR-cGAN, IV.C.2, figure 10).

  Returns:
    JSON-compatible, PSNR in dB: `best_of` by number of samples, `mean_of_samples`, `deterministic` and
    `naive_interpolation` of all frames except anchors; `anchors`, the mean over samples of the reconstructed anchors;
    `num_clips`, `num_anchors`, `num_settings`, `protocol`.
  """
  times = study.random_times(len(truth))
  known = np.zeros(truth.shape[:2], bool)
  np.put_along_axis(known, times.astype(np.intp), True, axis=1)

  def score(videos: np.ndarray) -> tuple[np.ndarray, float]:
    """(PSNR of every frame, NaN for anchors; the mean PSNR of the anchors)."""
    values = np.asarray(frame_psnr(videos, truth), np.float64)
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
    "num_settings": len(np.unique(times, axis=0)),
    "protocol": (
      "PSNR of the frames that are no anchors, which are drawn for each clip; of the sample with the best mean over "
      "its frames; then the mean over clips"
    ),
  }


def _mean(values: np.ndarray) -> float:
  """The mean over clips of their mean over frames."""
  return mean_without_nan(np.array([mean_without_nan(clip) for clip in values]))


def _save_sheet(path: Path, versions: Mapping[str, np.ndarray], times: np.ndarray) -> None:
  videos = np.stack(list(versions.values()), axis=1)
  marked = [mark_conditioning(clip, anchors, colour=ANCHOR_COLOUR) for clip, anchors in zip(videos, times, strict=True)]
  rows, columns = list(versions) * len(videos), frame_labels((), videos.shape[2])
  save_png(path, contact_sheet(np.stack(marked), column_labels=columns, row_labels=rows))


def _plot_curve(path: Path, report: Mapping[str, Any]) -> None:
  positions = range(len(report["best_of"]))
  with plot_file(path, panels=1) as (axes,):
    axes.plot(positions, list(report["best_of"].values()), ".-", label="best of l samples")
    for name, style, label in (
      ("mean_of_samples", "--", "mean of samples"),
      ("deterministic", "-.", "deterministic, z_T = mu_T"),
      ("naive_interpolation", ":", "decoded lines between latents"),
    ):
      axes.plot(positions, [report[name]] * len(positions), style, label=label)
    title = f"{report['num_anchors']} random anchors, mean over {report['num_clips']} clips"
    axes.set(title=title, xlabel="l", ylabel="PSNR of the other frames, dB")
    axes.set_xticks(positions, list(report["best_of"]))
