"""What truncation does to a model's clips: fidelity against diversity (TrIVD-GAN-FP, D.2 and D.3)."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.figures.stochasticity import score_clips
from vidgen_jax.scores.metrics.best_of import BestOfSamples
from vidgen_jax.scores.metrics.spread import PixelDiversity
from vidgen_jax.media.plots import Line, Panel, draw_panels
from vidgen_jax.media.sheets import save_comparison
from vidgen_jax.ops.conditioning import generated_indices, take_frames
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler
from vidgen_jax.types import Batch

DATA_FILE = "truncation.json"
PLOT_FILE = "truncation.png"
SHEET_FILE = "truncation_samples.png"

FIDELITY = {"ssim": "SSIM", "psnr": "PSNR, dB", "penalised_centroid_error": "penalised centroid error, px"}
"""Scores that are plotted, as `scoring.score` calls them; and how they are written on axes."""

NO_CUT = "none"
"""How the absence of truncation is written."""

DIVERSITY = "mean pairwise cosine distance of each clip's samples, generated pixels in [-1, 1]"


def parse_truncations(words: Sequence[str]) -> tuple[float | None, ...]:
  """The truncations that `--truncations` means, from the narrowest to none at all.

  Args:
    words: numbers from 0 on, or 'none'.

  Raises:
    UserError: for another word, or one given twice.
  """
  found = {_parse(word.strip()) for word in words}
  if len(found) < len(words):
    raise UserError(f"--truncations={','.join(words)} names a truncation twice")
  return tuple(sorted(found, key=lambda truncation: math.inf if truncation is None else truncation))


def label_of(truncation: float | None) -> str:
  """How a truncation is written: '0.8', 'none'."""
  return NO_CUT if truncation is None else f"{truncation:g}"


def sweep_samplers(experiment: Experiment, sampler: Sampler, truncations: Sequence[float | None]) -> dict[str, Sampler]:
  """The generator of a run at several truncations, by label.

  One program and one set of standing statistics serve them all: latents are drawn outside of the program, and they are
  never truncated while statistics are taken. For the same key the clips are those of `samplers.workdir_sampler` with
  that truncation, up to rounding.

  Args:
    experiment: of the run.
    sampler: of the run, from `samplers.workdir_sampler`, at any truncation; its standing statistics are used.
    truncations: see `vidgen_jax.gans.SampleOptions`.

  Raises:
    UserError: when first used, if the data set is missing.
  """
  algorithm = experiment.algorithm
  replicated = meshes.replicated(experiment.mesh)

  @functools.cache
  def gathered() -> Nets:
    return jax.device_put(sampler.nets(), replicated)

  @functools.partial(jax.jit, out_shardings=replicated)
  def generate(nets: Nets, batch: Batch, latent: jax.Array) -> jax.Array:
    return to_uint8(algorithm.predict(nets, batch, latent, num_frames=sampler.num_frames))

  def draw(clips: Clips, key: jax.Array, *, truncation: float | None) -> np.ndarray:
    batch = generation.place_batch(experiment, {"conditioning": clips.conditioning, "label": clips.label})
    latent = np.asarray(algorithm.latent(key, sampler.batch_size, truncation=truncation))
    return np.asarray(generate(gathered(), batch, jax.device_put(latent, replicated)))[: len(clips)]

  return {
    label_of(truncation): dataclasses.replace(sampler, draw=functools.partial(draw, truncation=truncation), blocks=None)
    for truncation in truncations
  }


def measure(sampler: Sampler, clips: Clips, *, samples: int, seed: int, tracking: bool) -> dict[str, Any]:
  """Scores of a sampler's clips and their diversity, one sample in memory at a time.

  Args:
    sampler: the generator at one truncation.
    clips: N of them, with their truth.
    samples: l >= 2.
    seed: see `samplers.draw_sample`.
    tracking: whether the clips show one object that can be followed.

  Returns:
    JSON-compatible: by metric of `scoring.score` {'mean': over samples and clips, 'best': of each clip's best sample},
    those `scoring.WITHOUT_BEST` without 'best'; and 'diversity', see `PixelDiversity`. None where no clip has a score.
  """
  conditioning = sampler.conditioning_indices
  directions = {name: scoring.DIRECTIONS[name] for name in scoring.metric_names(conditioning, tracking=tracking)}
  kept, diversity = BestOfSamples(directions), PixelDiversity()
  for j in range(samples):
    videos = samplers.draw_sample(sampler, clips, sample=j, seed=seed)
    kept.add(score_clips(videos, clips.truth, conditioning, batch_size=sampler.batch_size, tracking=tracking))
    diversity.add(take_frames(videos, generated_indices(conditioning, sampler.num_frames)))
  result = kept.result()
  report: dict[str, Any] = {}
  for name in directions:
    report[name] = {"mean": _mean(result.mean[name])}
    if name not in scoring.WITHOUT_BEST:
      report[name]["best"] = _mean(result.best[name])
  return report | {"diversity": float(diversity.result().mean())}


def draw_sweep(
  folder: Path,
  experiment: Experiment,
  sampler: Sampler,
  truncations: Sequence[float | None],
  *,
  shown: Clips,
  measured: Clips,
  origin: Mapping[str, Any],
) -> None:
  """Measures a run at several truncations; writes `DATA_FILE`, `PLOT_FILE` and `SHEET_FILE`.

  The sheet has for each shown clip its original, and below it a sample of the same latent at each truncation.

  Args:
    folder: it exists.
    experiment: of the run.
    sampler: of the run; see `sweep_samplers`.
    truncations: from the narrowest on; see `parse_truncations`.
    shown: clips of the sheet, with their truth.
    measured: clips of the scores, with their truth.
    origin: where the samples come from, JSON-compatible, with `samples` (at least 2) and `seed`: stands at the head of
      the JSON file, but for a truncation.

  Raises:
    UserError: if matplotlib is not installed, the data set is missing or the disk is full.
  """
  drawing = {name: origin[name] for name in ("samples", "seed")}
  tracking = experiment.config.evaluation.object_tracking
  scores, rows = {}, {"original": shown.truth}
  for label, swept in sweep_samplers(experiment, sampler, truncations).items():
    logging.info("truncation %s: drawing %d samples of each of %d clips", label, origin["samples"], len(measured))
    scores[label] = measure(swept, measured, tracking=tracking, **drawing)
    rows["no cut" if label == NO_CUT else f"cut {label}"] = samplers.draw_sample(
      swept, shown, sample=0, seed=origin["seed"]
    )
  common = {name: value for name, value in origin.items() if name != "truncation"}
  report = {**common, "num_clips": len(measured), "diversity_protocol": DIVERSITY, "truncations": scores}
  (folder / DATA_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
  draw_panels(folder / PLOT_FILE, _panels(scores))
  save_comparison(folder / SHEET_FILE, rows, sampler.conditioning_indices)


def _parse(word: str) -> float | None:
  if word == NO_CUT:
    return None
  try:
    truncation = float(word)
  except ValueError:
    truncation = math.nan
  if not 0 <= truncation < math.inf:
    raise UserError(f"--truncations: {word!r} is neither a number from 0 on nor {NO_CUT!r}, which means no cut")
  return truncation


def _mean(values: np.ndarray) -> float | None:
  """For JSON, which knows no NaN."""
  mean = scoring.mean_of_known(values)
  return None if math.isnan(mean) else mean


def _panels(scores: Mapping[str, Mapping[str, Any]]) -> list[Panel]:
  labels, places = list(scores), range(len(scores))
  shown = {name: label for name, label in FIDELITY.items() if name in next(iter(scores.values()))}
  panels = []
  for name, label in shown.items():
    lines = [
      Line(x=places, y=_values(scores, name, part), label=text, shade=shade, marker=".")
      for part, text, shade in (("best", "best sample", 1.0), ("mean", "mean of samples", 0.0))
    ]
    title = "higher is better" if scoring.DIRECTIONS[name] else "lower is better"
    panels.append(Panel(title=title, x_label="truncation", y_label=label, lines=lines, ticks=labels))
  diversity = [one["diversity"] for one in scores.values()]
  line = Line(x=places, y=diversity, shade=0.0, marker=".")
  title, y_label = "samples of a clip, mean over pairs", "diversity: 1 - cosine of pixels"
  panels.append(Panel(title=title, x_label="truncation", y_label=y_label, lines=[line], ticks=labels))
  if not shown:
    return panels
  name, label = next(iter(shown.items()))
  line = Line(x=diversity, y=_values(scores, name, "mean"), shade=0.0, style=":", marker="o", notes=labels)
  title = "fidelity against diversity, by truncation"
  panels.append(Panel(title=title, x_label="diversity", y_label=f"{label}, mean of samples", lines=[line]))
  return panels


def _values(scores: Mapping[str, Mapping[str, Any]], name: str, part: str) -> list[float]:
  found = (one[name][part] for one in scores.values())
  return [math.nan if value is None else value for value in found]
