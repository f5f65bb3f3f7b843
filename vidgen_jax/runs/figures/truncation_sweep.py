"""The effect of truncation on a model's clips: fidelity and diversity (TrIVD-GAN-FP, D.2 and D.3)."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.files import write_json
from vidgen_jax.media.images import save_comparison
from vidgen_jax.media.plots import plot_file, shade
from vidgen_jax.ops.conditioning import generated_indices, take_frames
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.samples import score_clips
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import RunSampler, Sampler, draw_sample
from vidgen_jax.scores.metrics.best_of import BestOfSamples
from vidgen_jax.scores.metrics.diversity import PixelDiversity
from vidgen_jax.scores.registry import METRICS
from vidgen_jax.types import Batch

TRUNCATION = "truncation"

FIDELITY = {"ssim": "SSIM", "psnr": "PSNR, dB", "penalised_centroid_error": "penalised centroid error, px"}
"""Plotted scores by the name in `scoring.score`, with their axis label."""

NO_TRUNCATION = "none"


def parse_truncations(words: Sequence[str]) -> tuple[float | None, ...]:
  """The truncations of `--truncations`, numbers >= 0 or 'none', in ascending order.

  Raises:
    UserError: a word is invalid or a truncation occurs twice.
  """
  found = {_parse(word.strip()) for word in words}
  if len(found) < len(words):
    raise UserError(f"--truncations={','.join(words)}: a truncation occurs twice")
  return tuple(sorted(found, key=lambda truncation: math.inf if truncation is None else truncation))


def sweep_samplers(sampler: RunSampler, truncations: Sequence[float | None]) -> dict[str, Sampler]:
  """The generator of a run at several truncations, by label: '0.8', 'none'.

  They share one compiled program, since latents are drawn outside of it, and one set of standing statistics, which are
  always taken without truncation. For the same key, up to rounding, they generate the clips of
  `samplers.workdir_sampler` with that truncation.
  """
  experiment = sampler.experiment
  gan, replicated = experiment.algorithm, mesh.replicated(experiment.mesh)

  @sampler.compile
  def generate(nets: Nets, batch: Batch, latent: jax.Array) -> jax.Array:
    return to_uint8(gan.predict(nets, batch, latent, num_frames=sampler.num_frames))

  def draw(clips: Clips, key: jax.Array, *, truncation: float | None) -> np.ndarray:
    batch = generation.place_batch(experiment, clips.batch())
    latent = np.asarray(gan.latent(key, len(batch["label"]), truncation=truncation))
    return np.asarray(generate(sampler.nets(), batch, jax.device_put(latent, replicated)))[: len(clips)]

  return {
    NO_TRUNCATION if truncation is None else f"{truncation:g}": dataclasses.replace(
      sampler, draw=functools.partial(draw, truncation=truncation)
    )
    for truncation in truncations
  }


def measure(sampler: Sampler, clips: Clips, *, samples: int, seed: int, tracking: bool) -> dict[str, Any]:
  """Fidelity and diversity of a sampler's clips with known truth, with one sample in memory at a time.

  Each clip has `samples` samples, at least 2; `tracking` is whether the clips show one object to track.

  Returns:
    JSON-compatible: for each metric of `scoring.score` the 'mean' over samples and clips and, if it is `selectable`,
    'best', the mean over the best samples of clips (None if no clip has a score); and the `PixelDiversity`.
  """
  conditioning = sampler.conditioning_indices
  names = scoring.metric_names(conditioning, tracking=tracking)
  kept, diversity = BestOfSamples({name: bool(METRICS[name].higher_is_better) for name in names}), PixelDiversity()
  for j in range(samples):
    videos = draw_sample(sampler, clips, sample=j, seed=seed)
    kept.add(score_clips(videos, clips.known_truth(), conditioning, batch_size=sampler.batch_size, tracking=tracking))
    diversity.add(take_frames(videos, generated_indices(conditioning, sampler.num_frames)))
  result = kept.result()
  report: dict[str, Any] = {}
  for name in names:
    report[name] = {"mean": _mean(result.mean[name])}
    if METRICS[name].selectable:
      report[name]["best"] = _mean(result.best[name])
  return report | {"diversity": float(diversity.result().mean())}


def draw_sweep(inputs: FigureInputs, truncations: Sequence[float | None]) -> None:
  """Measures a run at several truncations, with at least 2 samples.

  Writes `truncation.json`, `truncation.png` and `truncation_samples.png`, a sheet with each shown clip's original, and
  below it a sample of the same latent at each truncation.
  """
  sampler, measured, folder = inputs.sampler, inputs.measured, inputs.folder
  tracking = sampler.experiment.config.evaluation.object_tracking
  scores, rows = {}, {"original": inputs.shown.known_truth()}
  for label, swept in sweep_samplers(sampler, truncations).items():
    logging.info("truncation %s: generating %d samples of each of %d clips", label, inputs.samples, len(measured))
    scores[label] = measure(swept, measured, samples=inputs.samples, seed=inputs.seed, tracking=tracking)
    row = "no cut" if label == NO_TRUNCATION else f"cut {label}"
    rows[row] = draw_sample(swept, inputs.shown, sample=0, seed=inputs.seed)
  common = {name: value for name, value in inputs.origin.items() if name != "truncation"}
  protocol = "mean pairwise cosine distance of each clip's samples, generated pixels in [-1, 1]"
  report = {**common, "num_clips": len(measured), "diversity_protocol": protocol, "truncations": scores}
  write_json(folder / f"{TRUNCATION}.json", report)
  _plot_scores(folder / f"{TRUNCATION}.png", scores)
  save_comparison(folder / f"{TRUNCATION}_samples.png", rows, sampler.conditioning_indices)


def _parse(word: str) -> float | None:
  if word == NO_TRUNCATION:
    return None
  try:
    truncation = float(word)
  except ValueError:
    truncation = math.nan
  if not 0 <= truncation < math.inf:
    raise UserError(f"--truncations: {word!r} must be a number >= 0 or {NO_TRUNCATION!r}")
  return truncation


def _mean(values: np.ndarray) -> float | None:
  # JSON has no NaN.
  mean = scoring.mean_without_nan(values)
  return None if math.isnan(mean) else mean


def _plot_scores(path: Path, scores: Mapping[str, Mapping[str, Any]]) -> None:
  labels, positions = list(scores), range(len(scores))
  shown = [name for name in FIDELITY if name in scores[labels[0]]]

  def values(name: str, part: str) -> list[float]:
    return [math.nan if score[name][part] is None else score[name][part] for score in scores.values()]

  with plot_file(path, panels=len(shown) + 1 + bool(shown)) as panels:
    for axes, name in zip(panels, shown, strict=False):
      axes.plot(positions, values(name, "best"), ".-", label="best sample", color=shade(1.0))
      axes.plot(positions, values(name, "mean"), ".-", label="mean of samples", color=shade(0.0))
      title = "higher is better" if METRICS[name].higher_is_better else "lower is better"
      axes.set(title=title, xlabel="truncation", ylabel=FIDELITY[name])
    axes, diversity = panels[len(shown)], [score["diversity"] for score in scores.values()]
    axes.plot(positions, diversity, ".-", color=shade(0.0))
    title = "samples of a clip, mean over pairs"
    axes.set(title=title, xlabel="truncation", ylabel="diversity: 1 - cosine of pixels")
    for axes in panels[: len(shown) + 1]:
      axes.set_xticks(positions, labels)
    if shown:
      axes, fidelity = panels[-1], values(shown[0], "mean")
      axes.plot(diversity, fidelity, "o:", color=shade(0.0))
      for label, *point in zip(labels, diversity, fidelity, strict=True):
        axes.annotate(label, point, xytext=(5, 4), textcoords="offset points", fontsize="small")
      axes.margins(x=0.16, y=0.1)  # Room for the labels, which are at the right of their points.
      title, label = "fidelity against diversity, by truncation", f"{FIDELITY[shown[0]]}, mean of samples"
      axes.set(title=title, xlabel="diversity", ylabel=label)
