"""Generated clips of evaluation clips' given frames, and their scores beside the trivial baselines'.

Clips are whole everywhere, given frames included; metrics of single clips are computed on the generated frames only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from vidgen_jax.algorithms import SampleOptions
from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import Nets
from vidgen_jax.evaluation import generation
from vidgen_jax.experiment import Experiment
from vidgen_jax.metrics import baselines
from vidgen_jax.metrics.best_of import BestOf, BestOfSamples
from vidgen_jax.metrics.psnr import frame_psnr, pooled_psnr
from vidgen_jax.metrics.ssim import frame_ssim
from vidgen_jax.metrics.track_baselines import track_scores
from vidgen_jax.metrics.trajectory import CentroidScore, centroid_error, object_centroid
from vidgen_jax.observe.pictures import PredictionPictures, save_prediction_pictures
from vidgen_jax.ops.given import generated_frames, put_frames, take_frames

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
given frames are to be matched by every sample."""

_PAIRED = ("psnr", "ssim", "psnr_pooled")
_TRACKED = ("centroid_error", "penalised_centroid_error", "presence")

NUM_PICTURED_CLIPS = 8


def metric_names(given_frames: Sequence[int], *, tracking: bool, infers: bool = False) -> tuple[str, ...]:
  """Which of `DIRECTIONS` `score` computes.

  Args:
    given_frames: of the model. Clips that are made from nothing but noise have no truth to be compared with: whether
      they show an object can be told, all else are metrics of sets, which a `ClipObserver` computes.
    tracking: whether an object is tracked.
    infers: see `score`.
  """
  if not len(given_frames):
    return ("presence",) if tracking else ()
  return (*_PAIRED, *(_TRACKED if tracking else ()), *(("anchor_psnr",) if infers else ()))


class ClipObserver(Protocol):
  """Sees every clip that is scored, for scores that need the whole set."""

  def add(self, subject: str, sample: int, video: np.ndarray) -> None:
    """Takes whole clips, given frames included.

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


def draw_pictures(
  folder: AnyPath,
  step: int,
  *,
  prediction: np.ndarray,
  truth: np.ndarray,
  given_frames: Sequence[int],
) -> PredictionPictures:
  """Writes the contact sheet and the GIF of the first `NUM_PICTURED_CLIPS` clips, beside the simplest guess.

  Args:
    folder: see `save_prediction_pictures`.
    step: completed train steps.
    prediction: uint8 [B, T, H, W, C], whole clips.
    truth: the same shape.
    given_frames: indices of the given frames.

  Raises:
    UserError: if a file cannot be written.
  """
  prediction, truth = prediction[:NUM_PICTURED_CLIPS], truth[:NUM_PICTURED_CLIPS]
  guess = baselines.simplest_guess(truth, given_frames)
  return save_prediction_pictures(
    folder, step, given_frames=given_frames, prediction=prediction, truth=truth, guess=guess
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
  given_frames = experiment.algorithm.given_frames(options.num_frames)
  infers = generation.infers_clips(experiment, given_frames)
  model, others, count = [], [], 0
  batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=num_clips)
  for i, batch in enumerate(batches):
    truth, known = batch["video"], generation.given_batch(batch, given_frames)
    guesses, scored = {}, {}
    if with_baselines:
      guesses = guess_trivially(truth, given_frames, key=jax.random.fold_in(key, i))
      scored = score_baselines(guesses, truth, given_frames, tracking=tracking)
    if with_baselines and infers:
      lines = generation.interpolate(experiment, nets, known, options=options)
      guesses["naive_interpolation"] = put_frames(lines, known["given"], given_frames)
      scored["naive_interpolation"] = _once(score(lines, truth, given_frames, tracking=tracking, infers=True))
    if observer is not None:
      for name, clips in {"real": truth, **guesses}.items():
        observer.add(name, 0, clips)
    names = metric_names(given_frames, tracking=tracking, infers=infers)
    kept = BestOfSamples({name: DIRECTIONS[name] for name in names})
    for j in range(samples):
      draw = generation.infer if infers else generation.predict
      made = draw(experiment, nets, known, generation.sample_key(key, i, j), options=options, batch_norm=batch_norm)
      kept.add(score(made, truth, given_frames, tracking=tracking, infers=infers))
      if observer is not None:
        observer.add("model", j, put_frames(made, known["given"], given_frames) if infers else made)
    model.append(kept.result())
    others.append(scored)
    count += len(truth)
  names = others[0].keys()
  return Evaluation(
    model=_concatenate(model),
    baselines={name: _concatenate([other[name] for other in others]) for name in names},
    num_clips=count,
    frames=generated_frames(given_frames, options.num_frames),
  )


def score(
  prediction: np.ndarray, truth: np.ndarray, given_frames: Sequence[int], *, tracking: bool, infers: bool = False
) -> dict[str, np.ndarray]:
  """Scores of one sample's generated frames; metrics as `metric_names` says, shapes as in `DIRECTIONS`.

  Args:
    prediction: uint8 [B, T, H, W, C], whole clips.
    truth: the same shape; does not count where nothing is given.
    given_frames: G indices of frames that do not count, but in `anchor_psnr`.
    tracking: whether an object is tracked.
    infers: whether the clips show what the model makes of the given frames in their places.
  """
  if not len(given_frames):
    return {"presence": np.asarray(object_centroid(prediction).presence, np.float64).mean(axis=1)} if tracking else {}
  generated, anchors = generated_frames(given_frames, truth.shape[1]), {}
  if infers:
    made, known = take_frames(prediction, given_frames), take_frames(truth, given_frames)
    anchors = {"anchor_psnr": np.asarray(frame_psnr(made, known, data_range=255))}
  prediction, truth = take_frames(prediction, generated), take_frames(truth, generated)
  scores = {
    "psnr": np.asarray(frame_psnr(prediction, truth, data_range=255)),
    "ssim": np.asarray(frame_ssim(prediction, truth, data_range=255)),
    "psnr_pooled": np.asarray(pooled_psnr(prediction, truth, data_range=255)),
  }
  return scores | anchors | (_tracking_scores(centroid_error(prediction, truth)) if tracking else {})


def guess_trivially(truth: np.ndarray, given_frames: Sequence[int], *, key: jax.Array) -> dict[str, np.ndarray]:
  """Whole clips as those guess who know nothing but the given frames; `cross_fade` also knows the last frame.

  Args:
    truth: uint8[B, T, H, W, C], real clips.
    given_frames: indices of the given frames. Where there are none, nothing can be copied or faded.
    key: of the noise.

  Returns:
    Clips of truth's shape, the given frames in their places, by the baseline's name.
  """
  seed = np.asarray(jax.random.key_data(key)).ravel()
  guesses = {
    "black": baselines.black(truth, given_frames),
    "noise": baselines.noise(truth, given_frames, np.random.default_rng(seed)),
  }
  if len(given_frames):
    guesses["copy_last"] = baselines.copy_last(truth, given_frames)
    guesses["cross_fade"] = baselines.cross_fade(truth, given_frames)
  return guesses


def score_baselines(
  guesses: Mapping[str, np.ndarray], truth: np.ndarray, given_frames: Sequence[int], *, tracking: bool
) -> dict[str, BestOf]:
  """Scores of trivial guesses and, where an object is tracked, of leading it on a straight line.

  Where nothing is given, of the real clips too.

  Args:
    guesses: of `guess_trivially`.
    truth: uint8[B, T, H, W, C], real clips.
    given_frames: indices of the given frames.
    tracking: whether an object is tracked.
  """
  results = {name: score(guess, truth, given_frames, tracking=tracking) for name, guess in guesses.items()}
  if tracking and len(given_frames):
    results |= {name: _tracking_scores(found) for name, found in track_scores(truth, given_frames).items()}
  if not len(given_frames):
    results["real"] = score(truth, truth, given_frames, tracking=tracking)
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
