"""Whole clips from the conditioning frames of evaluation clips, conditioning frames included."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.data import pipeline
from vidgen_jax.gans import InfersClips, SampleOptions
from vidgen_jax.ops.conditioning import frames_needed, take_frames
from vidgen_jax.parallel.mesh import local_batch_indices
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.types import Batch


def evaluation_batches(experiment: Experiment, *, num_frames: int, num_clips: int) -> Iterator[dict[str, np.ndarray]]:
  """The first `num_clips` evaluation clips (0: all) of `evaluation.split` on the host, the same on every process.

  Yields batches of `evaluation.batch_size`, the last one possibly shorter.
  """
  data, settings = experiment.config.evaluation_data, experiment.config.evaluation
  data = dataclasses.replace(data, num_frames=num_frames)
  return pipeline.eval_batches(data, settings.split, batch_size=settings.batch_size, num_clips=num_clips or None)


def sampling_options(
  experiment: Experiment, *, num_frames: int | None = None, truncation: float | None = None
) -> SampleOptions:
  """`Experiment.options`; None takes the value of `config.evaluation`."""
  defaults = experiment.config.evaluation
  return experiment.options(
    num_frames=defaults.num_frames if num_frames is None else num_frames,
    truncation=defaults.truncation if truncation is None else truncation,
  )


def conditioning_batch(batch: Mapping[str, np.ndarray], conditioning_indices: Sequence[int]) -> dict[str, np.ndarray]:
  """The input of a GAN: conditioning uint8 [..., G, H, W, C] from video uint8 [..., T, H, W, C], and the label."""
  return {"conditioning": take_frames(batch["video"], conditioning_indices), "label": batch["label"]}


def noise_batches(experiment: Experiment, key: jax.Array, *, num_clips: int) -> Iterator[dict[str, np.ndarray]]:
  """Inputs of `num_clips` clips from noise, in batches; each class is equally probable (MVT-GAN, 4.1.2)."""
  config = experiment.config
  seed, classes = np.asarray(jax.random.key_data(key)).ravel(), getattr(config.algorithm, "num_classes", 1)
  labels = np.random.default_rng(seed).integers(classes, size=num_clips, dtype=np.int32)
  shape = (0, config.data.resolution, config.data.resolution, config.data.channels)
  for start in range(0, num_clips, config.evaluation.batch_size):
    label = labels[start : start + config.evaluation.batch_size]
    yield {"conditioning": np.zeros((len(label), *shape), np.uint8), "label": label}


def standing_statistics_key(experiment: Experiment, *, repeat: int = 0) -> jax.Array:
  """The key of `prepare_nets`. It derives from the run's own seed, so that `--seed` changes latents only."""
  # Folded, so that standing statistics and images in training use other random numbers than the train steps.
  return jax.random.fold_in(jax.random.key(experiment.config.train.seed), 1 + repeat)


def prepare_nets(
  experiment: Experiment, nets: Nets, *, options: SampleOptions, num_batches: int | None = None, repeat: int = 0
) -> Nets:
  """Nets with standing statistics of `num_batches` forward passes with training clips, ready for sampling.

  The default is `evaluation.standing_batches`. Each pass has `evaluation.standing_batch_size` clips; of the sampling
  options, only their length counts. Each `repeat` of an evaluation takes other clips and latents.
  """
  config, mesh = experiment.config, experiment.mesh
  if num_batches is None:
    num_batches = config.evaluation.standing_batches
    logging.info("computing standing statistics over %d batches", num_batches)
  size = config.evaluation.standing_batch_size
  # Whole repeats leave moments unchanged, so the devices need not divide the number of clips.
  rows = local_batch_indices(math.lcm(size, mesh.size), mesh, microbatches=False)
  clips, places = np.unique(np.array(rows) % size, return_inverse=True)
  conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
  # Decode no further than the last conditioning frame. Few clips are read, and worker processes do not change them.
  data = dataclasses.replace(config.standing_data, num_frames=frames_needed(conditioning_indices), workers=0)
  batches = pipeline.train_batches(
    data, batch_size=size, microbatches=1, seed=config.train.seed + 1 + repeat, batch_indices=clips.tolist()
  )
  singles = (
    {name: value[0, places] for name, value in batch.items()} for batch in itertools.islice(batches, num_batches)
  )
  inputs = (conditioning_batch(batch, conditioning_indices) for batch in singles)
  placed = (experiment.put_batch(batch, microbatches=False) for batch in inputs)
  key = standing_statistics_key(experiment, repeat=repeat)
  return experiment.with_standing_statistics(nets, placed, key, options=options, num_clips=size)


def predict(
  experiment: Experiment,
  nets: Nets,
  batch: Mapping[str, np.ndarray],
  key: jax.Array,
  *,
  options: SampleOptions,
  batch_norm: str = "standing",
  reconstruct: bool = False,
) -> np.ndarray:
  """Whole clips on the host, uint8 [B, num_frames, H, W, C]; they do not depend on the number of devices.

  A short batch is padded to `evaluation.batch_size` with repeated clips, so that one program serves all batches.

  Args:
    experiment: experiment with the batch size.
    nets: nets with standing statistics, unless `batch_norm` is 'batch'.
    batch: host arrays of `conditioning_batch`.
    key: key of the latents.
    options: length and truncation.
    batch_norm: 'standing' normalises by the statistics in `nets`, 'batch' by those of the padded batch.
    reconstruct: whether the model's reconstructions replace the conditioning frames, see `InfersClips.infer`; `batch`
      may then have `times` int32 [B, G].
  """
  own, draw = batch_norm == "batch", experiment.infer if reconstruct else experiment.sample
  placed = place_batch(experiment, batch, whole_repeats=own)
  if own:
    num_clips = experiment.config.evaluation.batch_size
    nets = experiment.with_batch_statistics(nets, placed, key, options=options, num_clips=num_clips)
  return np.asarray(draw(nets, placed, key, options=options))[: len(batch["label"])]


def interpolate(
  experiment: Experiment, nets: Nets, batch: Mapping[str, np.ndarray], *, options: SampleOptions
) -> np.ndarray:
  """Clips of the naive baseline: decoded straight lines between the latents of the conditioning frames."""
  # It normalises by the statistics of the batch.
  placed = place_batch(experiment, batch, whole_repeats=True)
  clips = experiment.interpolate(nets, placed, options=options)
  return np.asarray(clips)[: len(batch["label"])]


def infers_clips(experiment: Experiment, conditioning_indices: Sequence[int]) -> bool:
  """Whether the model reconstructs its conditioning frames."""
  return isinstance(experiment.algorithm, InfersClips) and len(conditioning_indices) > 0


def place_batch(experiment: Experiment, batch: Mapping[str, np.ndarray], *, whole_repeats: bool = False) -> Batch:
  """A batch on the devices, padded by repetition; host arrays [B, ...] on every process.

  It is padded to `evaluation.batch_size`, and from there to the next multiple of the devices, or with `whole_repeats`
  to their least common multiple, which leaves batch statistics unchanged.
  """
  size, mesh = experiment.config.evaluation.batch_size, experiment.mesh
  rows = math.lcm(size, mesh.size) if whole_repeats else -(-size // mesh.size) * mesh.size
  taken = np.array(local_batch_indices(rows, mesh, microbatches=False)) % size % len(batch["label"])
  return experiment.put_batch(
    {name: np.take(value, taken, axis=0) for name, value in batch.items()}, microbatches=False
  )


def sample_key(key: jax.Array, batch: int, sample: int) -> jax.Array:
  """The key of the latents of a batch's j-th sample."""
  return jax.random.fold_in(jax.random.fold_in(key, batch), sample)
