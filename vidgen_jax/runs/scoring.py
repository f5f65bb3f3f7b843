"""Generated clips of evaluation clips' conditioning frames, and their scores beside the trivial baselines'.

Clips are whole all_processes, conditioning frames included; metrics of single clips are computed on the generated frames only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from vidgen_jax.gans import SampleOptions
from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import Nets
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOf, BestOfSamples
from vidgen_jax.scores.metrics.psnr import frame_psnr, pooled_psnr
from vidgen_jax.scores.metrics.ssim import frame_ssim
from vidgen_jax.scores.metrics.track_baselines import track_scores
from vidgen_jax.scores.metrics.trajectory import CentroidScore, centroid_error, object_centroid
from vidgen_jax.media.images import PredictionImages, save_prediction_images
from vidgen_jax.ops.conditioning import generated_indices, put_frames, take_frames

DIRECTIONS = {
  "psnr": True,
  "ssim": True,
  "psnr_pooled": True,
  "centroid_error": False,
  "penalised_centroid_error": False,
  "presence": True,
  "anchor_psnr": True,
}
"""Metrics of clips, and whether higher is better. `psnr` and `ssim` are of every generated frame [B, T - G],
`anchor_psnr` of every given one [B, G], the others per clip [B]."""

WITHOUT_BEST = frozenset({"presence", "anchor_psnr"})
"""Metrics in which the best of several samples says nothing: to show an object most often is no better guess, and the
conditioning frames are to be matched by every sample."""

_PAIRED = ("psnr", "ssim", "psnr_pooled")
_TRACKED = ("centroid_error", "penalised_centroid_error", "presence")

NUM_IMAGE_CLIPS = 8


def metric_names(conditioning_indices: Sequence[int], *, tracking: bool, infers: bool = False) -> tuple[str, ...]:
  """Which of `DIRECTIONS` `score` computes.

  Args:
    conditioning_indices: of the model. Clips that are made from nothing but noise have no truth to be compared with: whether
      they show an object can be told, all else are metrics of sets, which a `ClipObserver` computes.
    tracking: whether an object is tracked.
    infers: see `score`.
  """
  if not len(conditioning_indices):
    return ("presence",) if tracking else ()
  return (*_PAIRED, *(_TRACKED if tracking else ()), *(("anchor_psnr",) if infers else ()))


class ClipObserver(Protocol):
  """Sees every clip that is scored, for scores that need the whole set."""

  def add(self, subject: str, sample: int, video: np.ndarray) -> None:
    """Takes whole clips, conditioning frames included.

    Args:
      subject: 'real', 'model' or a baseline's name.
      sample: which of the samples drawn for the same clips.
      video: uint8[B, T, H, W, C].
    """


@dataclass(frozen=True)
class Evaluation:
  """Scores over all clips: of the model's samples and of each baseline."""

  model: BestOf
  baselines: dict[str, BestOf]
  num_clips: int
  frames: tuple[int, ...]
  """0-based indices in the clip of the generated frames, which [B, T - G] values are of."""

  def means(self) -> dict[str, float]:
    """The model's means over clips and samples, and its best-of-l means as '{metric}_best'."""
    means = {name: mean_of_known(values) for name, values in self.model.mean.items()}
    best = {name: values for name, values in self.model.best.items() if name not in WITHOUT_BEST}
    return means | {f"{name}_best": mean_of_known(values) for name, values in best.items()}


def draw_images(
  folder: AnyPath,
  step: int,
  *,
  prediction: np.ndarray,
  truth: np.ndarray,
  conditioning_indices: Sequence[int],
) -> PredictionImages:
  """Writes the contact sheet and the GIF of the first `NUM_IMAGE_CLIPS` clips, beside the simplest guess.

  Args:
    folder: see `save_prediction_images`.
    step: completed train steps.
    prediction: uint8 [B, T, H, W, C], whole clips.
    truth: the same shape.
    conditioning_indices: indices of the conditioning frames.

  Raises:
    UserError: if a file cannot be written.
  """
  prediction, truth = prediction[:NUM_IMAGE_CLIPS], truth[:NUM_IMAGE_CLIPS]
  guess = baselines.simplest_guess(truth, conditioning_indices)
  return save_prediction_images(
    folder, step, conditioning_indices=conditioning_indices, prediction=prediction, truth=truth, guess=guess
  )


def evaluate(
  experiment: Experiment,
  nets: Nets,
  key: jax.Array,
  *,
  options: SampleOptions,
  num_clips: int,
  samples: int,
  batch_norm: str = "standing",
  with_baselines: bool = True,
  observer: ClipObserver | None = None,
) -> Evaluation:
  """Scores the generated frames of evaluation clips, one sample after the other.

  Args:
    experiment: names data, batch size and whether an object is tracked.
    nets: with standing statistics.
    key: folded with the batch and the sample.
    options: length and truncation.
    num_clips: 0 for all.
    samples: l generated clips for each.
    batch_norm: see `predict`.
    with_baselines: also scores trivial guesses; training does not ask again and again.
    observer: also sees the clips.
  """
  tracking = experiment.config.evaluation.object_tracking
  conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
  infers = generation.infers_clips(experiment, conditioning_indices)
  model, others, count = [], [], 0
  batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=num_clips)
  for i, batch in enumerate(batches):
    truth, known = batch["video"], generation.conditioning_batch(batch, conditioning_indices)
    guesses, scored = {}, {}
    if with_baselines:
      guesses = baseline_predictions(truth, conditioning_indices, key=jax.random.fold_in(key, i))
      scored = score_baselines(guesses, truth, conditioning_indices, tracking=tracking)
    if with_baselines and infers:
      lines = generation.interpolate(experiment, nets, known, options=options)
      guesses["naive_interpolation"] = put_frames(lines, known["conditioning"], conditioning_indices)
      scored["naive_interpolation"] = _once(score(lines, truth, conditioning_indices, tracking=tracking, infers=True))
    if observer is not None:
      for name, clips in {"real": truth, **guesses}.items():
        observer.add(name, 0, clips)
    names = metric_names(conditioning_indices, tracking=tracking, infers=infers)
    kept = BestOfSamples({name: DIRECTIONS[name] for name in names})
    for j in range(samples):
      draw = generation.infer if infers else generation.predict
      made = draw(experiment, nets, known, generation.sample_key(key, i, j), options=options, batch_norm=batch_norm)
      kept.add(score(made, truth, conditioning_indices, tracking=tracking, infers=infers))
      if observer is not None:
        observer.add("model", j, put_frames(made, known["conditioning"], conditioning_indices) if infers else made)
    model.append(kept.result())
    others.append(scored)
    count += len(truth)
  names = others[0].keys()
  return Evaluation(
    model=_concatenate(model),
    baselines={name: _concatenate([other[name] for other in others]) for name in names},
    num_clips=count,
    frames=generated_indices(conditioning_indices, options.num_frames),
  )


def score(
  prediction: np.ndarray, truth: np.ndarray, conditioning_indices: Sequence[int], *, tracking: bool, infers: bool = False
) -> dict[str, np.ndarray]:
  """Scores of one sample's generated frames; metrics as `metric_names` says, shapes as in `DIRECTIONS`.

  Args:
    prediction: uint8 [B, T, H, W, C], whole clips.
    truth: the same shape; does not count where nothing is given.
    conditioning_indices: G indices of frames that do not count, but in `anchor_psnr`.
    tracking: whether an object is tracked.
    infers: whether the clips show what the model makes of the conditioning frames in their places.
  """
  if not len(conditioning_indices):
    return {"presence": np.asarray(object_centroid(prediction).presence, np.float64).mean(axis=1)} if tracking else {}
  generated, anchors = generated_indices(conditioning_indices, truth.shape[1]), {}
  if infers:
    made, known = take_frames(prediction, conditioning_indices), take_frames(truth, conditioning_indices)
    anchors = {"anchor_psnr": np.asarray(frame_psnr(made, known, data_range=255))}
  prediction, truth = take_frames(prediction, generated), take_frames(truth, generated)
  scores = {
    "psnr": np.asarray(frame_psnr(prediction, truth, data_range=255)),
    "ssim": np.asarray(frame_ssim(prediction, truth, data_range=255)),
    "psnr_pooled": np.asarray(pooled_psnr(prediction, truth, data_range=255)),
  }
  return scores | anchors | (_tracking_scores(centroid_error(prediction, truth)) if tracking else {})


def baseline_predictions(truth: np.ndarray, conditioning_indices: Sequence[int], *, key: jax.Array) -> dict[str, np.ndarray]:
  """Whole clips as those guess who know nothing but the conditioning frames; `cross_fade` also knows the last frame.

  Args:
    truth: uint8[B, T, H, W, C], real clips.
    conditioning_indices: indices of the conditioning frames. Where there are none, nothing can be copied or faded.
    key: of the noise.

  Returns:
    Clips of truth's shape, the conditioning frames in their places, by the baseline's name.
  """
  seed = np.asarray(jax.random.key_data(key)).ravel()
  guesses = {
    "black": baselines.black(truth, conditioning_indices),
    "noise": baselines.noise(truth, conditioning_indices, np.random.default_rng(seed)),
  }
  if len(conditioning_indices):
    guesses["copy_last"] = baselines.copy_last(truth, conditioning_indices)
    guesses["cross_fade"] = baselines.cross_fade(truth, conditioning_indices)
  return guesses


def score_baselines(
  guesses: Mapping[str, np.ndarray], truth: np.ndarray, conditioning_indices: Sequence[int], *, tracking: bool
) -> dict[str, BestOf]:
  """Scores of trivial guesses and, where an object is tracked, of leading it on a straight line.

  Where nothing is given, of the real clips too.

  Args:
    guesses: of `baseline_predictions`.
    truth: uint8[B, T, H, W, C], real clips.
    conditioning_indices: indices of the conditioning frames.
    tracking: whether an object is tracked.
  """
  results = {name: score(guess, truth, conditioning_indices, tracking=tracking) for name, guess in guesses.items()}
  if tracking and len(conditioning_indices):
    results |= {name: _tracking_scores(found) for name, found in track_scores(truth, conditioning_indices).items()}
  if not len(conditioning_indices):
    results["real"] = score(truth, truth, conditioning_indices, tracking=tracking)
  return {name: _once(scores) for name, scores in results.items()}


def mean_of_known(values: np.ndarray) -> float:
  """The mean of the values that are not NaN; NaN where there are none, without a warning."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")


def _tracking_scores(score: CentroidScore) -> dict[str, np.ndarray]:
  return {
    "centroid_error": np.asarray(score.error),
    "penalised_centroid_error": np.asarray(score.penalised_error),
    "presence": np.asarray(score.presence),
  }


def _once(scores: dict[str, np.ndarray]) -> BestOf:
  """Scores of what is made once."""
  return BestOf(best=scores, mean=scores, num_samples=1)


def _concatenate(parts: list[BestOf]) -> BestOf:
  def join(field: str) -> dict[str, np.ndarray]:
    dictionaries = [getattr(part, field) for part in parts]
    return {name: np.concatenate([d[name] for d in dictionaries]) for name in dictionaries[0]}

  return BestOf(best=join("best"), mean=join("mean"), num_samples=parts[0].num_samples)
