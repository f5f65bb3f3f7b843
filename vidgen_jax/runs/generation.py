"""Clips that a model makes of evaluation clips' conditioning frames, whole everywhere: conditioning frames included."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from vidgen_jax.gans import InfersClips, SampleOptions
from vidgen_jax.core.state import Nets
from vidgen_jax.data import pipeline
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.ops.conditioning import frames_needed, take_frames
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.types import Batch

HOOK_STREAM = 1
"""Folded into the root key for standing statistics and for the hooks' latents, so that neither touches training."""


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
    num_frames: length of the whole clip, the conditioning frames included; 0 for the trained length.
    truncation: see `SampleOptions`; a negative value means none.

  Raises:
    UserError: if the algorithm cannot make clips of this length, or the truncation is not a number.
  """
  defaults = experiment.config.evaluation
  return experiment.options(
    num_frames=defaults.num_frames if num_frames is None else num_frames,
    truncation=defaults.truncation if truncation is None else truncation,
  )


def conditioning_batch(batch: Mapping[str, np.ndarray], conditioning_indices: Sequence[int]) -> dict[str, np.ndarray]:
  """What `Algorithm.sample` is told of real clips.

  Args:
    batch: video uint8 [..., T, H, W, C], label int32 [...].
    conditioning_indices: G indices in 0..T - 1.

  Returns:
    given uint8 [..., G, H, W, C], label int32 [...].
  """
  return {"conditioning": take_frames(batch["video"], conditioning_indices), "label": batch["label"]}


def standing_statistics_key(experiment: Experiment) -> jax.Array:
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
  conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
  # Clips are read as far as their last conditioning frame: no more is decoded than the shortest clip must have. They are few,
  # and the same without worker processes.
  data = dataclasses.replace(config.data, num_frames=frames_needed(conditioning_indices), workers=0)
  places = meshes.local_batch_indices(size, experiment.mesh)
  batches = pipeline.train_batches(data, batch_size=size, microbatches=1, seed=config.train.seed + 1, places=places)
  known = (conditioning_batch(batch, conditioning_indices) for batch in batches)
  return experiment.with_standing_statistics(nets, experiment.microbatches(known, num_batches), key, options=options)


def predict(
  experiment: Experiment,
  nets: Nets,
  batch: Mapping[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str = "standing",
) -> np.ndarray:
  """Whole clips of conditioning frames on the host, uint8 [B, num_frames, H, W, C].

  A short batch is filled up with repeats to `evaluation.batch_size`, so that one program serves all batches.

  Args:
    experiment: gives the batch size.
    nets: with standing statistics, unless `batch_norm` is 'batch'.
    batch: host arrays: given uint8 [B, G, H, W, C], label int32 [B]; see `conditioning_batch`.
    key: of the latents.
    options: length and truncation.
    batch_norm: 'standing' normalises by the statistics in `nets`; 'batch' by those of the filled-up batch itself.
  """
  return _draw(experiment, experiment.sample, nets, batch, key, options=options, batch_norm=batch_norm)


def infer(
  experiment: Experiment,
  nets: Nets,
  batch: Mapping[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str = "standing",
) -> np.ndarray:
  """As `predict`, with what the model makes of the conditioning frames in their places.

  Args:
    experiment: its algorithm is an `InfersClips`.
    nets: see `predict`.
    batch: see `predict`, and on request `times` int32 [B, G]; see `InfersClips.infer`.
    key: see `predict`.
    options: see `predict`.
    batch_norm: see `predict`.
  """
  return _draw(experiment, experiment.infer, nets, batch, key, options=options, batch_norm=batch_norm)


def interpolate(
  experiment: Experiment, nets: Nets, batch: Mapping[str, np.ndarray], *, options: SampleOptions
) -> np.ndarray:
  """As `infer`, of the naive baseline: decoded straight lines between the latents of the conditioning frames."""
  made = experiment.interpolate(nets, place_batch(experiment, batch), options=options)
  return np.asarray(made)[: len(batch["label"])]


def infers_clips(experiment: Experiment, conditioning_indices: Sequence[int]) -> bool:
  """Whether the model makes something of its own of conditioning frames, so that `infer` can be asked for it."""
  return isinstance(experiment.algorithm, InfersClips) and len(conditioning_indices) > 0


def _draw(
  experiment: Experiment,
  draw: Callable[..., jax.Array],
  nets: Nets,
  batch: Mapping[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str,
) -> np.ndarray:
  placed = place_batch(experiment, batch)
  if batch_norm == "batch":
    nets = experiment.with_batch_statistics(nets, placed, key, options=options)
  return np.asarray(draw(nets, placed, key, options=options))[: len(batch["label"])]


def place_batch(experiment: Experiment, batch: Mapping[str, np.ndarray]) -> Batch:
  """A batch of evaluation clips on the devices, filled up with repeats to `evaluation.batch_size`.

  Args:
    experiment: gives the batch size.
    batch: host arrays with leading axis B, at least 1; every process has all of them.
  """
  size = experiment.config.evaluation.batch_size
  taken = np.array(meshes.local_batch_indices(size, experiment.mesh)) % len(batch["label"])
  return experiment.put_batch(
    {name: np.take(value, taken, axis=0) for name, value in batch.items()}, microbatches=False
  )


def sample_key(key: jax.Array, batch: int, sample: int) -> jax.Array:
  """The key of the latents of a batch's j-th sample."""
  return jax.random.fold_in(jax.random.fold_in(key, batch), sample)
