"""Scores of generated clips against the evaluation clips, for the model and for trivial baselines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.media.images import PredictionImages, save_prediction_images
from vidgen_jax.ops.conditioning import generated_indices, put_frames, take_frames
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.scores.feature_collector import FeatureCollector
from vidgen_jax.scores.metric import Metric, Need
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOf, BestOfSamples
from vidgen_jax.scores.metrics.track_baselines import track_baselines
from vidgen_jax.scores.metrics.trajectory import object_centroid
from vidgen_jax.scores.registry import METRICS, paired_metrics

NUM_IMAGE_CLIPS = 8

Scores = dict[str, np.ndarray]
"""Values by name in `METRICS`: [B, T - G] for metrics of frames (`anchor_psnr`: [B, G]), [B] for metrics of clips."""


def metric_names(conditioning_indices: Sequence[int], *, tracking: bool, infers: bool = False) -> tuple[str, ...]:
  """Names of the metrics that `score` computes; arguments as there.

  Without conditioning frames there is no true clip to compare with, so only the presence of an object is scored.
  """
  if not len(conditioning_indices):
    return ("presence",) if tracking else ()
  available = {Need.TRUTH} | ({Need.OBJECT} if tracking else set()) | ({Need.CONDITIONING} if infers else set())
  return tuple(metric.name for metric in paired_metrics(available=available))


def check_frame_size(names: Iterable[str], frame_size: tuple[int, int]) -> None:
  """Raises UserError if frames of (H, W) pixels are too small for one of the metrics."""
  for name in names:
    side = METRICS[name].min_side
    if min(frame_size) < side:
      raise UserError(
        f"{name.upper()} needs frames of at least {side}x{side} pixels, got {frame_size[0]}x{frame_size[1]}; "
        "use a larger data.resolution"
      )


@dataclass(frozen=True)
class Evaluation:
  """Scores of all clips."""

  model: BestOf
  baselines: dict[str, Scores]
  num_clips: int
  frames: tuple[int, ...]
  """0-based indices of the generated frames, in the order of the values [B, T - G]."""

  def means(self) -> dict[str, float]:
    """The model's means over clips and samples, by metric."""
    return {name: mean_without_nan(values) for name, values in self.model.mean.items()}


def draw_images(
  folder: AnyPath, step: int, *, prediction: np.ndarray, truth: np.ndarray, conditioning_indices: Sequence[int]
) -> PredictionImages:
  """`save_prediction_images` of the first `NUM_IMAGE_CLIPS` clips, with the simplest guess next to them."""
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
  collector: FeatureCollector | None = None,
) -> Evaluation:
  """Scores the generated frames of evaluation clips, one sample in memory at a time.

  Raises a UserError if the data set is missing, or the frames are too small for a metric.

  Args:
    experiment: experiment with the data, the batch size and `evaluation.object_tracking`.
    nets: nets with standing statistics.
    key: key of the latents, folded with the batch and the sample.
    options: length and truncation.
    num_clips: number of clips; 0 for all.
    samples: number of samples per clip.
    batch_norm: normalisation of `generation.predict`.
    with_baselines: whether to score the baselines too; during training their scores would not change.
    collector: collector that receives all clips, for scores of whole sets.
  """
  tracking = experiment.config.evaluation.object_tracking
  indices = experiment.algorithm.conditioning_indices(options.num_frames)
  infers = generation.infers_clips(experiment, indices)
  directions = _directions(indices, tracking=tracking, infers=infers)
  predict_options: dict[str, Any] = {"options": options, "batch_norm": batch_norm, "reconstruct": infers}
  model: list[BestOf] = []
  others: dict[str, list[Scores]] = defaultdict(list)
  batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=num_clips)
  count = 0
  for i, batch in enumerate(batches):
    truth, inputs = batch["video"], generation.conditioning_batch(batch, indices)
    guesses: dict[str, np.ndarray] = {}
    if with_baselines:
      guesses, scored = _baselines(experiment, nets, inputs, truth, jax.random.fold_in(key, i), options=options)
      for name, scores in scored.items():
        others[name].append(scores)
    if collector is not None:
      for name, clips in {"real": truth, **guesses}.items():
        collector.add(name, 0, clips)
    kept = BestOfSamples(directions)
    for j in range(samples):
      latent_key = generation.sample_key(key, i, j)
      clips = generation.predict(experiment, nets, inputs, latent_key, **predict_options)
      kept.add(score(clips, truth, indices, tracking=tracking, infers=infers))
      if collector is not None:
        collector.add("model", j, put_frames(clips, inputs["conditioning"], indices))
    model.append(kept.result())
    count += len(truth)
  return Evaluation(
    model=_joined(model, num_samples=samples),
    baselines={name: _concatenate(parts) for name, parts in others.items()},
    num_clips=count,
    frames=generated_indices(indices, options.num_frames),
  )


def _directions(indices: Sequence[int], *, tracking: bool, infers: bool) -> dict[str, bool]:
  names = metric_names(indices, tracking=tracking, infers=infers)
  return {name: bool(METRICS[name].higher_is_better) for name in names}


def _joined(parts: Sequence[BestOf], *, num_samples: int) -> BestOf:
  best, mean = (_concatenate([getattr(part, field) for part in parts]) for field in ("best", "mean"))
  return BestOf(best=best, mean=mean, num_samples=num_samples)


def _baselines(
  experiment: Experiment,
  nets: Nets,
  inputs: Mapping[str, np.ndarray],
  truth: np.ndarray,
  key: jax.Array,
  *,
  options: SampleOptions,
) -> tuple[dict[str, np.ndarray], dict[str, Scores]]:
  """Clips and scores of the baselines of one batch, with the naive interpolation of models that reconstruct."""
  tracking = experiment.config.evaluation.object_tracking
  indices = experiment.algorithm.conditioning_indices(options.num_frames)
  guesses = baseline_predictions(truth, indices, key=key)
  scored = score_baselines(guesses, truth, indices, tracking=tracking)
  if generation.infers_clips(experiment, indices):
    lines = generation.interpolate(experiment, nets, inputs, options=options)
    guesses["naive_interpolation"] = put_frames(lines, inputs["conditioning"], indices)
    scored["naive_interpolation"] = score(lines, truth, indices, tracking=tracking, infers=True)
  return guesses, scored


def score(
  prediction: np.ndarray,
  truth: np.ndarray,
  conditioning_indices: Sequence[int],
  *,
  tracking: bool,
  infers: bool = False,
) -> Scores:
  """Scores of one sample's generated frames, by the metrics of `metric_names`.

  Args:
    prediction: uint8 [B, T, H, W, C], whole clips.
    truth: real clips of the same shape; not used without conditioning frames.
    conditioning_indices: indices of the conditioning frames, which count in `anchor_psnr` only.
    tracking: whether to track an object.
    infers: whether the clips contain the model's reconstructions of the conditioning frames.

  Raises:
    UserError: if the frames are too small for a metric.
  """
  if not len(conditioning_indices):
    return {"presence": np.asarray(object_centroid(prediction).presence, np.float64).mean(axis=1)} if tracking else {}
  names, frame_size = metric_names(conditioning_indices, tracking=tracking, infers=infers), truth.shape[2:4]
  check_frame_size(names, frame_size)
  anchors = [take_frames(video, conditioning_indices) for video in (prediction, truth)]
  generated = generated_indices(conditioning_indices, truth.shape[1])
  videos = [take_frames(video, generated) for video in (prediction, truth)]
  tracks = [object_centroid(video) for video in videos] if tracking else []

  def values(metric: Metric) -> jax.Array:
    if Need.OBJECT in metric.needs:
      return metric.function(*tracks, frame_size)
    return metric.function(*(anchors if Need.CONDITIONING in metric.needs else videos))

  return {name: np.asarray(values(METRICS[name])) for name in names}


def baseline_predictions(
  truth: np.ndarray, conditioning_indices: Sequence[int], *, key: jax.Array
) -> dict[str, np.ndarray]:
  """Whole clips of the baselines by name, from real clips uint8[B, T, H, W, C] and the key of the noise."""
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
) -> dict[str, Scores]:
  """Scores of the clips of `baseline_predictions` and, with tracking, of straight-line motion; arguments as in `score`.

  Without conditioning frames, the real clips are scored too.
  """
  results = {name: score(guess, truth, conditioning_indices, tracking=tracking) for name, guess in guesses.items()}
  if not len(conditioning_indices):
    return results | {"real": score(truth, truth, conditioning_indices, tracking=tracking)}
  if tracking:
    generated = np.asarray(generated_indices(conditioning_indices, truth.shape[1]), np.intp)
    metrics = [metric for metric in paired_metrics(available=(Need.TRUTH, Need.OBJECT)) if Need.OBJECT in metric.needs]
    true = object_centroid(truth)
    for name, track in track_baselines(true, conditioning_indices).items():
      tracks = (track.take(generated), true.take(generated))
      results[name] = {m.name: np.asarray(m.function(*tracks, truth.shape[2:4])) for m in metrics}
  return results


def mean_without_nan(values: np.ndarray) -> float:
  """The mean of the values that are not NaN; NaN if there are none, without numpy's warning."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")


def _concatenate(parts: Sequence[Scores]) -> Scores:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
