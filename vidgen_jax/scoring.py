"""Predictions on evaluation clips, and their scores beside the trivial baselines'."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from vidgen_jax.algorithms import SampleOptions
from vidgen_jax.core.state import Nets
from vidgen_jax.data import pipeline
from vidgen_jax.errors import UserError
from vidgen_jax.experiment import Experiment
from vidgen_jax.metrics import baselines
from vidgen_jax.metrics.best_of import BestOf, BestOfSamples
from vidgen_jax.metrics.psnr import frame_psnr, pooled_psnr
from vidgen_jax.metrics.ssim import frame_ssim
from vidgen_jax.metrics.trajectory import CentroidScore, centroid_error

DIRECTIONS = {"psnr": True, "ssim": True, "psnr_pooled": True}
TRACKING_DIRECTIONS = {"centroid_error": False, "penalised_centroid_error": False, "presence": True}
"""Metrics, and whether higher is better. `psnr` and `ssim` are per frame [B, T], the others per clip [B]."""

HOOK_STREAM = 1
"""Folded into the root key for standing statistics and for the hooks' latents, so that neither touches training."""


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

  def means(self) -> dict[str, float]:
    """The model's means over clips and samples, and its best-of-l means as '{metric}_best'."""
    means = {name: mean_of_known(values) for name, values in self.model.mean.items()}
    return means | {f"{name}_best": mean_of_known(values) for name, values in self.model.best.items()}


def evaluation_batches(experiment: Experiment, *, num_frames: int, num_clips: int) -> Iterator[dict[str, np.ndarray]]:
  """Evaluation clips on the host, in batches of `evaluation.batch_size`; the last may be short.

  Every process gets all clips, in the same order.

  Args:
    experiment: names the data set and split.
    num_frames: length of the clips.
    num_clips: 0 for all.
  """
  data = dataclasses.replace(experiment.config.data, num_frames=num_frames)
  return pipeline.eval_batches(data, batch_size=experiment.config.evaluation.batch_size, num_clips=num_clips or None)


def sampling_options(
  experiment: Experiment, *, num_frames: int | None = None, truncation: float | None = None
) -> SampleOptions:
  """Sampling options, where None stands for what `config.evaluation` says.

  Args:
    experiment: gives the defaults.
    num_frames: length of the whole clip, the given frames included; 0 for the trained length.
    truncation: see `SampleOptions`; a negative value means none.

  Raises:
    UserError: if no frame is left to predict.
  """
  defaults, tc = experiment.config.evaluation, experiment.algorithm.conditioning_frames
  if truncation is not None and math.isnan(truncation):
    raise UserError("truncation is not a number; give a width, 0 for the typical latent, or a negative one for no cut")
  options = experiment.options(
    num_frames=defaults.num_frames if num_frames is None else num_frames,
    truncation=defaults.truncation if truncation is None else truncation,
  )
  if options.num_frames <= tc:
    raise UserError(f"num_frames={options.num_frames} leaves nothing to predict after the {tc} given frames")
  return options


def standing_key(experiment: Experiment) -> jax.Array:
  """The key for `prepare_nets`: of the run's own seed, so that sampling with other seeds changes latents only."""
  return jax.random.fold_in(jax.random.key(experiment.config.train.seed), HOOK_STREAM)


def prepare_nets(
  experiment: Experiment, nets: Nets, key: jax.Array, *, options: SampleOptions, num_batches: int
) -> Nets:
  """Nets ready for sampling: with standing statistics from training clips.

  Args:
    experiment: names the data set.
    nets: averages or live weights.
    key: of the latents and of the clips' order.
    options: of the sampling to come.
    num_batches: forward passes of `evaluation.standing_batch_size` clips.
  """
  config = experiment.config
  size = config.evaluation.standing_batch_size
  # Only the leading frames condition the generator: no more are decoded than the shortest clip must have.
  data = dataclasses.replace(config.data, num_frames=experiment.algorithm.conditioning_frames)
  # Every process reads the same clips and takes its share: the statistics do not depend on how many there are.
  batches = pipeline.train_batches(data, batch_size=size, microbatches=1, seed=config.train.seed + 1)
  start, stop = _process_share(size)
  shares = ({name: value[:, start:stop] for name, value in batch.items()} for batch in batches)
  return experiment.with_standing_statistics(nets, experiment.microbatches(shares, num_batches), key, options=options)


def predict(
  experiment: Experiment,
  nets: Nets,
  batch: dict[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str = "standing",
) -> np.ndarray:
  """Predicted frames for host clips, uint8 [B, num_frames - Tc, H, W, C].

  A short batch is filled up with repeats to `evaluation.batch_size`, so that one program serves all batches.

  Args:
    experiment: gives the batch size.
    nets: with standing statistics, unless `batch_norm` is 'batch'.
    batch: host arrays: video uint8 [B, >= Tc, H, W, C], label int32 [B].
    key: of the latents.
    options: length and truncation.
    batch_norm: 'standing' normalises by the statistics in `nets`; 'batch' by those of the filled-up batch itself.
  """
  size, given = experiment.config.evaluation.batch_size, len(batch["label"])
  padded = {name: np.take(value, np.arange(size) % given, axis=0) for name, value in batch.items()}
  padded["video"] = padded["video"][:, : experiment.algorithm.conditioning_frames]
  start, stop = _process_share(size)
  local = {name: value[start:stop] for name, value in padded.items()}
  placed = experiment.put_batch(local, microbatches=False)
  if batch_norm == "batch":
    nets = experiment.with_batch_statistics(nets, placed, key, options=options)
  sampled = experiment.sample(nets, placed, key, options=options)
  return np.asarray(sampled)[:given]


def sample_key(key: jax.Array, batch: int, sample: int) -> jax.Array:
  """The key of the latents of a batch's j-th sample."""
  return jax.random.fold_in(jax.random.fold_in(key, batch), sample)


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
  """Scores predictions on evaluation clips, one sample after the other.

  Args:
    experiment: names data, batch size and whether an object is tracked.
    nets: with standing statistics.
    key: folded with the batch and the sample.
    options: length and truncation.
    num_clips: 0 for all.
    samples: l predictions per clip.
    batch_norm: see `predict`.
    with_baselines: also scores what trivial predictors say; training does not ask again and again.
    observer: also sees the clips.
  """
  tracking = experiment.config.evaluation.object_tracking
  tc = experiment.algorithm.conditioning_frames
  model, others, count = [], [], 0
  for i, batch in enumerate(evaluation_batches(experiment, num_frames=options.num_frames, num_clips=num_clips)):
    given, truth = batch["video"][:, :tc], batch["video"][:, tc:]
    guesses = guess_trivially(given, truth, key=jax.random.fold_in(key, i)) if with_baselines else {}
    if observer is not None:
      observer.add("real", 0, batch["video"])
      for name, guess in guesses.items():
        observer.add(name, 0, np.concatenate([given, guess], axis=1))
    kept = BestOfSamples(DIRECTIONS | (TRACKING_DIRECTIONS if tracking else {}))
    for j in range(samples):
      prediction = predict(experiment, nets, batch, sample_key(key, i, j), options=options, batch_norm=batch_norm)
      kept.add(score(prediction, truth, tracking=tracking))
      if observer is not None:
        observer.add("model", j, np.concatenate([given, prediction], axis=1))
    model.append(kept.result())
    others.append(score_baselines(guesses, given, truth, tracking=tracking) if with_baselines else {})
    count += len(truth)
  names = others[0].keys()
  return Evaluation(
    model=_concatenate(model),
    baselines={name: _concatenate([other[name] for other in others]) for name in names},
    num_clips=count,
  )


def score(prediction: np.ndarray, truth: np.ndarray, *, tracking: bool) -> dict[str, np.ndarray]:
  """Scores of one sample; metrics and shapes as in `DIRECTIONS`. Both arguments uint8 [B, T, H, W, C]."""
  scores = {
    "psnr": np.asarray(frame_psnr(prediction, truth, data_range=255)),
    "ssim": np.asarray(frame_ssim(prediction, truth, data_range=255)),
    "psnr_pooled": np.asarray(pooled_psnr(prediction, truth, data_range=255)),
  }
  return scores | (_tracking_scores(centroid_error(prediction, truth)) if tracking else {})


def guess_trivially(given: np.ndarray, truth: np.ndarray, *, key: jax.Array) -> dict[str, np.ndarray]:
  """What follows, as those guess who know nothing; `cross_fade` knows the last frame.

  Args:
    given: uint8[B, Tc, H, W, C].
    truth: uint8[B, T, H, W, C].
    key: of the noise.

  Returns:
    Frames of truth's shape by the baseline's name.
  """
  length = truth.shape[1]
  seed = np.asarray(jax.random.key_data(key)).ravel()
  return {
    "copy_last": baselines.copy_last(given, length),
    "black": baselines.black(given, length),
    "cross_fade": baselines.cross_fade(given, truth),
    "noise": np.random.default_rng(seed).integers(256, size=truth.shape, dtype=np.uint8),
  }


def score_baselines(
  guesses: Mapping[str, np.ndarray], given: np.ndarray, truth: np.ndarray, *, tracking: bool
) -> dict[str, BestOf]:
  """Scores of trivial guesses and, where an object is tracked, of extrapolating its motion.

  Args:
    guesses: of `guess_trivially`.
    given: uint8[B, Tc, H, W, C].
    truth: uint8[B, T, H, W, C].
    tracking: whether an object is tracked.
  """
  results = {name: score(guess, truth, tracking=tracking) for name, guess in guesses.items()}
  if tracking and given.shape[1] > 1:
    results["linear_extrapolation"] = _tracking_scores(baselines.linear_extrapolation_error(given, truth))
  return {name: BestOf(best=scores, mean=scores, num_samples=1) for name, scores in results.items()}


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


def _process_share(size: int) -> tuple[int, int]:
  local = size // jax.process_count()
  return jax.process_index() * local, (jax.process_index() + 1) * local


def _concatenate(parts: list[BestOf]) -> BestOf:
  def join(field: str) -> dict[str, np.ndarray]:
    dictionaries = [getattr(part, field) for part in parts]
    return {name: np.concatenate([d[name] for d in dictionaries]) for name in dictionaries[0]}

  return BestOf(best=join("best"), mean=join("mean"), num_samples=parts[0].num_samples)
