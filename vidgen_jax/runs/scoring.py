"""Scores of a run's clips against the evaluation clips, for the model and for trivial baselines."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import numpy as np

from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.media.images import save_prediction_images
from vidgen_jax.ops.conditioning import generated_indices, put_frames, take_frames
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.scores.feature_collector import INTERPOLATION, MODEL, REAL, FeatureCollector
from vidgen_jax.scores.flow_baseline import FlowBaseline
from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.best_of import BestOf, BestOfSamples
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.metrics.trajectory import object_centroid
from vidgen_jax.scores.perceptual import PerceptualDistance
from vidgen_jax.scores.registry import METRICS, paired_metrics
from vidgen_jax.scores.report import Score

NUM_IMAGE_CLIPS = 8

Scores = dict[str, np.ndarray]
"""Values by name in `METRICS`: [B, T - G] for metrics of frames (`anchor_psnr`: [B, G]), [B] for metrics of clips."""


def metric_names(
  conditioning_indices: Sequence[int], *, tracking: bool, infers: bool = False, lpips: PerceptualDistance | None = None
) -> tuple[str, ...]:
  """Names of the metrics that `score` computes; arguments as there.

  Without conditioning frames there is no true clip to compare with, so only the presence of an object is scored.
  """
  if not len(conditioning_indices):
    return ("presence",) if tracking else ()
  given = {Need.TRUTH: True, Need.OBJECT: tracking, Need.CONDITIONING: infers, Need.PERCEPTION: lpips is not None}
  return tuple(metric.name for metric in paired_metrics(available=[need for need in given if given[need]]))


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
  frames: tuple[int, ...]
  """0-based indices of the generated frames, in the order of the values [B, T - G]."""
  _: KW_ONLY
  lpips: PerceptualDistance | None = None
  """Network of the metrics that compare images by one."""

  def network_fields(self, metric: Metric) -> Mapping[str, str]:
    """The fields of `Score` for the network of a metric; {} without one."""
    return self.lpips.fields if self.lpips is not None and Need.PERCEPTION in metric.needs else {}


def draw_images(
  folder: AnyPath,
  step: int,
  experiment: Experiment,
  nets: Nets,
  batch: Mapping[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str = "standing",
) -> np.ndarray | None:
  """`save_prediction_images` of a batch's first `NUM_IMAGE_CLIPS` clips, with the simplest guess next to them.

  All processes predict. Returns the contact sheet uint8 [H, W, 3] on the first, None on the others.
  """
  indices = experiment.algorithm.conditioning_indices(options.num_frames)
  inputs = generation.conditioning_batch(batch, indices)
  prediction = generation.predict(experiment, nets, inputs, key, options=options, batch_norm=batch_norm)
  if jax.process_index() != 0:
    return None
  prediction, truth = prediction[:NUM_IMAGE_CLIPS], batch["video"][:NUM_IMAGE_CLIPS]
  guess = baselines.simplest_guess(truth, indices)
  return save_prediction_images(
    folder, step, conditioning_indices=indices, prediction=prediction, truth=truth, guess=guess
  )


def evaluate(
  experiment: Experiment,
  nets: Nets,
  key: jax.Array,
  *,
  options: SampleOptions,
  num_clips: int,
  samples: int,
  num_generated: int = 0,
  batch_norm: str = "standing",
  collector: FeatureCollector | None = None,
  flow: FlowBaseline | None = None,
  lpips: PerceptualDistance | None = None,
  with_baselines: bool = True,
) -> Evaluation:
  """Scores the generated frames of evaluation clips, one sample in memory at a time.

  `nets` have standing statistics, unless `batch_norm` is 'batch', see `generation.predict`. `key` is folded with the
  batch and the sample. `num_clips`, `samples` and `num_generated` are those of `EvaluationConfig`. The `collector`
  takes all clips for scores of whole sets; only with one are the baselines scored, `flow` among them: during training
  their scores would not change. `with_baselines` is False if it has them already. `lpips` is for the metric LPIPS.

  Raises:
    UserError: the data set is missing, or the frames are too small for a metric.
  """
  scorer = _BatchScorer(
    experiment, nets, key, options=options, samples=samples, batch_norm=batch_norm, collector=collector, lpips=lpips
  )
  model: list[BestOf] = []
  others: dict[str, list[Scores]] = defaultdict(list)
  batches: Iterable[Mapping[str, np.ndarray]] = ()
  if with_baselines or not num_generated:
    batches = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=num_clips)
  for i, batch in enumerate(batches):
    truth, inputs = batch["video"], generation.conditioning_batch(batch, scorer.indices)
    if collector is not None and with_baselines:
      collector.add(REAL, 0, truth)
      for name, scores in scorer.score_baselines(i, inputs, truth, flow).items():
        others[name].append(scores)
    if not num_generated:
      model.append(scorer.score_model(i, inputs, truth))
  for i, inputs in enumerate(generation.noise_batches(experiment, key, num_clips=num_generated)):
    model.append(scorer.score_model(i, inputs, None))
  best, mean = (_concatenate([getattr(part, field) for part in model]) for field in ("best", "mean"))
  return Evaluation(
    model=BestOf(best=best, mean=mean, num_samples=samples),
    baselines={name: _concatenate(parts) for name, parts in others.items()},
    frames=generated_indices(scorer.indices, options.num_frames),
    lpips=lpips,
  )


@dataclass(frozen=True)
class _BatchScorer:
  """Draws and scores the clips of one batch; fields as the arguments of `evaluate`."""

  experiment: Experiment
  nets: Nets
  key: jax.Array
  _: KW_ONLY
  options: SampleOptions
  samples: int
  batch_norm: str
  collector: FeatureCollector | None
  lpips: PerceptualDistance | None

  @property
  def indices(self) -> Sequence[int]:
    return self.experiment.algorithm.conditioning_indices(self.options.num_frames)

  @property
  def _common(self) -> dict[str, Any]:
    """Arguments of `score` for the model's clips."""
    infers = generation.infers_clips(self.experiment, self.indices)
    return {"tracking": self._tracking, "infers": infers, "lpips": self.lpips}

  @property
  def _tracking(self) -> bool:
    return self.experiment.config.evaluation.object_tracking

  def score_model(self, i: int, inputs: Mapping[str, np.ndarray], truth: np.ndarray | None) -> BestOf:
    """The samples of batch i; `truth` is None for clips from noise."""
    names = metric_names(self.indices, **self._common)
    kept = BestOfSamples({name: bool(METRICS[name].higher_is_better) for name in names})
    drawing = {"options": self.options, "batch_norm": self.batch_norm, "reconstruct": self._common["infers"]}
    for j in range(self.samples):
      latent_key = generation.sample_key(self.key, i, j)
      clips = generation.predict(self.experiment, self.nets, inputs, latent_key, **drawing)
      kept.add(score(clips, clips if truth is None else truth, self.indices, **self._common))
      if self.collector is not None:
        self.collector.add(MODEL, j, put_frames(clips, inputs["conditioning"], self.indices))
    return kept.result()

  def score_baselines(
    self, i: int, inputs: Mapping[str, np.ndarray], truth: np.ndarray, flow: FlowBaseline | None
  ) -> dict[str, Scores]:
    """The baselines of batch i and, for a model that infers clips, the interpolation of its latents."""
    guesses = baseline_predictions(truth, self.indices, key=jax.random.fold_in(self.key, i), flow=flow)
    scored = score_baselines(guesses, truth, self.indices, tracking=self._tracking, lpips=self.lpips)
    if self._common["infers"]:
      lines = generation.interpolate(self.experiment, self.nets, inputs, options=self.options)
      guesses[INTERPOLATION] = put_frames(lines, inputs["conditioning"], self.indices)
      scored[INTERPOLATION] = score(lines, truth, self.indices, **self._common)
    if self.collector is not None:
      for name, clips in guesses.items():
        self.collector.add(name, 0, clips)
    return scored


def score(
  prediction: np.ndarray,
  truth: np.ndarray,
  conditioning_indices: Sequence[int],
  *,
  tracking: bool,
  infers: bool = False,
  lpips: PerceptualDistance | None = None,
) -> Scores:
  """Scores of one sample's generated frames, by the metrics of `metric_names`.

  `prediction` and `truth` are whole clips, uint8 [B, T, H, W, C]; the truth is not used without conditioning frames,
  which count in `anchor_psnr` only. `tracking` is whether to track an object, `infers` whether the clips contain the
  model's reconstructions of the conditioning frames, `lpips` the network of the metric LPIPS.

  Raises:
    UserError: if the frames are too small for a metric.
  """
  if not len(conditioning_indices):
    return {"presence": np.asarray(object_centroid(prediction).presence, np.float64).mean(axis=1)} if tracking else {}
  names = metric_names(conditioning_indices, tracking=tracking, infers=infers, lpips=lpips)
  frame_size = truth.shape[2:4]
  check_frame_size(names, frame_size)
  anchors = [take_frames(video, conditioning_indices) for video in (prediction, truth)]
  generated = generated_indices(conditioning_indices, truth.shape[1])
  videos = [take_frames(video, generated) for video in (prediction, truth)]
  tracks = [object_centroid(video) for video in videos] if tracking else []

  def values(metric: Metric) -> jax.Array:
    if Need.OBJECT in metric.needs:
      return metric.function(*tracks, frame_size)
    if Need.PERCEPTION in metric.needs:
      return metric.function(*videos, lpips)
    return metric.function(*(anchors if Need.CONDITIONING in metric.needs else videos))

  return {name: np.asarray(values(METRICS[name])) for name in names}


def baseline_predictions(
  truth: np.ndarray, conditioning_indices: Sequence[int], *, key: jax.Array, flow: FlowBaseline | None = None
) -> dict[str, np.ndarray]:
  """Whole clips of the baselines by name, from real clips uint8[B, T, H, W, C] and the key of the noise.

  `flow` is one of them if there are frames to generate between conditioning frames.
  """
  seed = np.asarray(jax.random.key_data(key)).ravel()
  guesses = {
    "black": baselines.black(truth, conditioning_indices),
    "noise": baselines.noise(truth, conditioning_indices, np.random.default_rng(seed)),
  }
  if len(conditioning_indices):
    guesses["copy_last"] = baselines.copy_last(truth, conditioning_indices)
    guesses["cross_fade"] = baselines.cross_fade(truth, conditioning_indices)
  if flow is not None and baselines.has_frames_between(conditioning_indices, truth.shape[1]):
    guesses[flow.name] = flow(truth, conditioning_indices)
  return guesses


def score_baselines(
  guesses: Mapping[str, np.ndarray],
  truth: np.ndarray,
  conditioning_indices: Sequence[int],
  *,
  tracking: bool,
  lpips: PerceptualDistance | None = None,
) -> dict[str, Scores]:
  """Scores of the clips of `baseline_predictions` and, with tracking, of straight-line motion; arguments as in `score`.

  Without conditioning frames, the real clips are scored too.
  """
  options: dict[str, Any] = {"tracking": tracking, "lpips": lpips}
  results = {name: score(guess, truth, conditioning_indices, **options) for name, guess in guesses.items()}
  if not len(conditioning_indices):
    return results | {"real": score(truth, truth, conditioning_indices, tracking=tracking)}
  if tracking:
    generated = np.asarray(generated_indices(conditioning_indices, truth.shape[1]), np.intp)
    metrics = [metric for metric in paired_metrics(available=(Need.TRUTH, Need.OBJECT)) if Need.OBJECT in metric.needs]
    true = object_centroid(truth)
    for name, track in baselines.track_baselines(true, conditioning_indices).items():
      tracks = (track.take(generated), true.take(generated))
      results[name] = {m.name: np.asarray(m.function(*tracks, truth.shape[2:4])) for m in metrics}
  return results


def clip_scores(evaluation: Evaluation, common: Mapping[str, Any]) -> Iterator[Score]:
  """One score per subject and metric: the mean over clips, and for the model also the mean over the best samples.

  `common` has the fields of `Score` for the model; the baselines get those that apply to them.
  """
  for aggregate, values, fields in _aggregates(evaluation, common):
    for metric in (METRICS[name] for name in METRICS if name in values):
      if aggregate.startswith("best") and not metric.selectable:
        continue
      found, network = values[metric.name], evaluation.network_fields(metric)
      clips = np.array([mean_without_nan(clip) for clip in found.reshape(len(found), -1)])
      own = {"interval": mean_interval(clips), **fields, **network}
      yield _score(metric, metric.row, clips, metric.protocol, aggregate, **own)


def frame_scores(evaluation: Evaluation, common: Mapping[str, Any]) -> Iterator[Score]:
  """Scores of each generated frame, as '{metric}_frame_{0-based index in the clip}'; arguments as in `clip_scores`."""
  for aggregate, values, fields in _aggregates(evaluation, common):
    for metric in (METRICS[name] for name in METRICS if name in values):
      if metric.kind is Kind.FRAME and Need.CONDITIONING not in metric.needs:
        own = {**fields, **evaluation.network_fields(metric)}
        for index, frame in zip(evaluation.frames, values[metric.name].T, strict=True):
          yield _score(metric, f"{metric.row}_frame_{index}", frame, "one frame", aggregate, **own)


def curve_text(scores: Sequence[Score]) -> str:
  """The scores of `frame_scores` as a table: one line per subject, one column per frame; '' without scores."""
  if not scores:
    return ""
  curves: dict[str, list[float]] = {}
  frames: dict[str, None] = {}
  for score in scores:
    metric, _, frame = score.metric.partition("_frame_")
    _, _, aggregate = score.protocol.partition(", ")
    frames[frame] = None
    head = " ".join(filter(None, [metric, score.subject, f"({aggregate})" if aggregate else ""]))
    curves.setdefault(head, []).append(score.value)
  width = max(map(len, curves))
  lines = [" ".join([f"{'by frame':<{width}}", *(f"{f't={frame}':>8}" for frame in frames)])]
  lines += [" ".join([f"{head:<{width}}", *(f"{value:8.4g}" for value in values)]) for head, values in curves.items()]
  return "\n".join(lines)


def _aggregates(evaluation: Evaluation, common: Mapping[str, Any]) -> Iterator[tuple[str, Scores, dict[str, Any]]]:
  """Yields (how samples were combined, values by metric, fields of their scores)."""
  count = evaluation.model.num_samples
  fields = {**common, "subject": MODEL, "samples": count}
  yield f"mean of {count} samples" if count > 1 else "", evaluation.model.mean, fields
  if count > 1:
    yield f"best of {count} samples", evaluation.model.best, fields
  for subject, scores in evaluation.baselines.items():
    yield "", scores, {**plain_fields(common), "subject": subject}


def plain_fields(common: Mapping[str, Any]) -> dict[str, Any]:
  """The fields that apply to a baseline, which has no weights and no latents."""
  names = ("data", "split", "window", "lossy", "num_clips", "clip", "conditioning_indices")
  return {name: common[name] for name in names if name in common}


def _score(metric: Metric, row: str, values: np.ndarray, *protocol: str, **fields: Any) -> Score:
  text = ", ".join(filter(None, protocol))
  return Score(metric=row, value=mean_without_nan(values), unit=metric.unit, protocol=text, **fields)


def mean_without_nan(values: np.ndarray) -> float:
  """The mean of the values that are not NaN; NaN if there are none, without numpy's warning."""
  known = values[~np.isnan(values)]
  return float(known.mean()) if known.size else float("nan")


def _concatenate(parts: Sequence[Scores]) -> Scores:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
