"""Generators that are ready to make clips, wherever they came from: a run or an export."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import logging

from vidgen_jax.runs import workdir
from vidgen_jax.gans import GANS, DecodesBlocks, InfersClips, PredictsMotion, SampleOptions
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.core.state import Nets
from vidgen_jax.data import sources
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.ops.latents import draw_latent
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.runs.sampling import clips as clip_sources
from vidgen_jax.runs.sampling.anchors import with_given_frames
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.exported import load_export
from vidgen_jax.types import Batch
from vidgen_jax.runs.workdir import Trained

DrawFn = Callable[[Clips, jax.Array], np.ndarray]

COMBINED_LEVELS = 2
"""Of the coarsest, whose motion is combined by default (TrIVD-GAN-FP, figure 3: "the two lower levels")."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockDecoder:
  """Shows what each block of the last level of a latent generator contributes (Inbetweening, figure 4)."""

  numbers: tuple[int, ...]
  """Of the blocks, counted from 1 over all levels."""
  decode: DrawFn
  """As `Sampler.draw` for at most `batch_size` clips, but uint8 [blocks, B, num_frames, H, W, C]: what the decoder
  makes of each block. The last are the clips that `draw` makes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionPredictor:
  """Makes clips together with their motion fields (TrIVD-GAN-FP, figure 3)."""

  levels: tuple[int, ...]
  """Whose motion is combined, 0 the coarsest."""
  predict: Callable[[Clips, jax.Array], tuple[np.ndarray, np.ndarray]]
  """As `Sampler.draw`: the clips that it makes, and of their G' generated frames the motion since the frame before,
  float32 [B, G', H, W, 2]; see `vidgen_jax.gans.PredictsMotion`."""
  object_tracking: bool
  """Whether the model's clips show one bright object, whose true motion can be told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
  """A generator that is ready to be used."""

  draw: DrawFn
  """(clips, key of the latents) -> whole clips, uint8 [B, num_frames, H, W, C]."""
  batch_size: int
  """Clips at once, at most."""
  conditioning_indices: tuple[int, ...]
  """0-based indices in the clip of the frames that must be given."""
  num_frames: int
  class_names: tuple[str, ...]
  """Empty for a model without classes."""
  data: DataConfig
  """What the model was trained on."""
  takes_any_frames: bool = False
  """Whether the model could be given other frames: they are then called anchors."""
  blocks: BlockDecoder | None = None
  """None for an export, and for a model without latent blocks."""
  motion: MotionPredictor | None = None
  """None where it was not asked for."""
  nets: Callable[[], Nets] | None = None
  """A run's weights with the standing statistics of `draw`, taken when first asked for; None for an export."""


def draw_sample(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> np.ndarray:
  """Makes one clip from the conditioning frames of each clip.

  Args:
    sampler: the generator.
    clips: N of them.
    sample: 0 for the first clip that is made of the same conditioning frames, 1 for the second, ...
    seed: of the latents. An export and the run it came from give the same images for the same seed.

  Returns:
    Whole clips, uint8 [N, num_frames, H, W, C].
  """
  return np.concatenate([videos for _, videos in draw_batches(sampler, clips, sample=sample, seed=seed)])


def draw_batches(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> Iterator[tuple[Clips, np.ndarray]]:
  """As `draw_sample`, a batch at a time: for more clips than memory holds.

  Args:
    sampler: the generator.
    clips: N of them.
    sample: see `draw_sample`.
    seed: see `draw_sample`.

  Yields:
    (B of the clips, without their truth; what was made of them, uint8 [B, num_frames, H, W, C]).
  """
  for part, key in _parts(sampler, clips, sample=sample, seed=seed):
    yield part, sampler.draw(part, key)


def draw_motion(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """As `draw_sample`, with the motion fields of the same clips.

  Args:
    sampler: the generator; its `motion` is not None.
    clips: N of them.
    sample: see `draw_sample`.
    seed: see `draw_sample`.

  Returns:
    Whole clips, uint8 [N, num_frames, H, W, C], and float32 [N, num_frames - G, H, W, 2]: (dx, dy) in pixels since the
    frame before, of the generated frames.
  """
  drawn = [sampler.motion.predict(*part) for part in _parts(sampler, clips, sample=sample, seed=seed)]
  videos, flows = zip(*drawn, strict=True)
  return np.concatenate(videos), np.concatenate(flows)


def _parts(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> Iterator[tuple[Clips, jax.Array]]:
  """The clips in batches, each with the key of its latents."""
  for i, start in enumerate(range(0, len(clips), sampler.batch_size)):
    part = slice(start, start + sampler.batch_size)
    batch = Clips(conditioning=clips.conditioning[part], truth=None, label=clips.label[part])
    yield batch, latent_key(seed, batch=i, sample=sample)


def latent_key(seed: int, *, batch: int, sample: int) -> jax.Array:
  """The key of the latents of `draw_sample` for the clips of a batch."""
  return generation.sample_key(jax.random.key(seed), batch, sample)


def evaluation_clips(sampler: Sampler, *, num_clips: int) -> Clips:
  """The first evaluation clips of the data set that the model was trained on; see `clips.evaluation_clips`.

  The labels are 0 for a model without classes.
  """
  if sampler.class_names:
    sources.check_class_names(sampler.class_names, sampler.data, what="the model")
  clips = clip_sources.evaluation_clips(
    sampler.data, num_clips=num_clips, num_frames=sampler.num_frames, conditioning_indices=sampler.conditioning_indices
  )
  return clips if sampler.class_names else dataclasses.replace(clips, label=np.zeros_like(clips.label))


def load_run(
  folder: str,
  *,
  num_clips: int,
  step: int | None = None,
  weights: str = "ema",
  data_dir: str | None = None,
  conditioning_indices: Sequence[int] | None = None,
) -> Trained:
  """Reads a checkpoint of a run, and sets it to make no more clips at once than are wanted.

  Args:
    folder: of the run.
    num_clips: that are wanted.
    step: of the checkpoint; None for the latest.
    weights: 'ema' or 'raw'.
    data_dir: folder of the data sets; None for the run's.
    conditioning_indices: see `anchors.with_given_frames`; None for those of the run's config.

  Raises:
    UserError: if there is no run or no such checkpoint, or the model cannot be given these frames.
  """
  config = with_data_dir(workdir.load_config(folder), data_dir)
  if conditioning_indices is not None:
    config = with_given_frames(config, conditioning_indices)
  # The devices must divide the batch.
  wanted = -(-num_clips // jax.device_count()) * jax.device_count()
  evaluation = dataclasses.replace(config.evaluation, batch_size=min(config.evaluation.batch_size, wanted))
  config = dataclasses.replace(config, evaluation=evaluation)
  return workdir.load_trained(folder, config=config, step=step, weights=weights)


def with_data_dir(config: ExperimentConfig, data_dir: str | None) -> ExperimentConfig:
  """The config with another folder of data sets; None leaves it as it is."""
  if data_dir is None:
    return config
  return dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=data_dir))


def workdir_sampler(
  trained: Trained,
  *,
  num_frames: int | None = None,
  truncation: float | None = None,
  with_motion: bool = False,
  motion_levels: Sequence[int] | None = None,
) -> Sampler:
  """The generator of a run, with standing statistics for the length of the clips.

  Args:
    trained: the weights.
    num_frames: see `generation.sampling_options`.
    truncation: see `generation.sampling_options`.
    with_motion: whether motion is wanted too.
    motion_levels: whose motion is combined, 0 the coarsest; None for the coarsest `COMBINED_LEVELS`.

  Raises:
    UserError: if the length does not fit the model, or motion is wanted of a model that has none, or none of such
      levels; when first used, if the data set is missing.
  """
  experiment = trained.experiment
  settings = experiment.config.evaluation
  options = generation.sampling_options(experiment, num_frames=num_frames, truncation=truncation)

  @functools.cache
  def prepared() -> Nets:
    # When the first clips come, not before: a mistake in what they are to be is then told at once.
    workdir.check_label_map(trained)
    logging.info("standing statistics over %d batches", settings.standing_batches)
    key, passes = generation.standing_statistics_key(experiment), settings.standing_batches
    return generation.prepare_nets(experiment, trained.nets, key, options=options, num_batches=passes)

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    batch = {"conditioning": clips.conditioning, "label": clips.label}
    return generation.predict(experiment, prepared(), batch, key, options=options)

  return Sampler(
    draw=draw,
    batch_size=settings.batch_size,
    conditioning_indices=experiment.algorithm.conditioning_indices(options.num_frames),
    num_frames=options.num_frames,
    class_names=trained.class_names if trained.is_conditional else (),
    data=experiment.config.data,
    takes_any_frames=isinstance(experiment.algorithm, InfersClips),
    blocks=_block_decoder(experiment, prepared, options),
    motion=_motion_predictor(experiment, prepared, options, motion_levels) if with_motion else None,
    nets=prepared,
  )


def export_sampler(
  folder: str, config: ExperimentConfig, *, num_frames: int | None = None, truncation: float | None = None
) -> Sampler:
  """The generator of an export.

  Args:
    folder: made by `vidgen export`.
    config: of the run that was exported.
    num_frames: must be that of the export, or None.
    truncation: of the latents; None for `config.evaluation.truncation`, negative for no cut.

  Raises:
    UserError: if it is no export, or has another length.
  """
  generator = load_export(folder)
  if num_frames not in (None, generator.num_frames):
    raise UserError(
      f"--num_frames={num_frames}: export {folder} makes clips of {generator.num_frames} frames; a model that can make "
      f"others must be exported again with --num_frames={num_frames}, or sampled with --workdir"
    )
  truncation = config.evaluation.truncation if truncation is None else truncation
  if math.isnan(truncation):
    raise UserError("truncation is not a number; give a width, 0 for the typical latent, or a negative one for no cut")
  truncation = None if truncation < 0 else truncation

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    shape = (len(clips), generator.latent_features)
    latent = np.asarray(draw_latent(key, shape, truncation=truncation))
    return generator(clips.conditioning, latent, clips.label)

  return Sampler(
    draw=draw,
    batch_size=config.evaluation.batch_size,
    conditioning_indices=generator.conditioning_indices,
    num_frames=generator.num_frames,
    class_names=generator.class_names,
    data=config.data,
    takes_any_frames=issubclass(GANS[config.algorithm_name][1], InfersClips),
  )


def _block_decoder(experiment: Experiment, prepared: Callable[[], Nets], options: SampleOptions) -> BlockDecoder | None:
  algorithm = experiment.algorithm
  numbers = algorithm.last_blocks() if isinstance(algorithm, DecodesBlocks) else ()
  if not numbers:
    return None

  @functools.partial(jax.jit, out_shardings=meshes.replicated(experiment.mesh))
  def decode(nets: Nets, conditioning: jax.Array, latent: jax.Array) -> jax.Array:
    return to_uint8(algorithm.decode_blocks(nets, {"conditioning": conditioning}, latent, num_frames=options.num_frames))

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    # The latents of a whole batch are drawn, as `predict` does: they may depend on its size.
    size = experiment.config.evaluation.batch_size
    latent = algorithm.latent(key, size, truncation=options.truncation)[: len(clips)]
    nets = jax.device_put(prepared(), meshes.replicated(experiment.mesh))
    return np.asarray(decode(nets, clips.conditioning, latent))

  return BlockDecoder(numbers=numbers, decode=draw)


def _motion_predictor(
  experiment: Experiment, prepared: Callable[[], Nets], options: SampleOptions, levels: Sequence[int] | None
) -> MotionPredictor:
  algorithm, settings = experiment.algorithm, experiment.config.evaluation
  if not isinstance(algorithm, PredictsMotion):
    able = [name for name, (_, kind) in GANS.items() if issubclass(kind, PredictsMotion)]
    raise UserError(
      f"--motion: a model of algorithm {experiment.config.algorithm_name!r} shows no motion; it takes one of "
      f"{', '.join(able)}"
    )
  chosen = _chosen_levels(levels, algorithm.motion_levels())

  @functools.partial(jax.jit, out_shardings=meshes.replicated(experiment.mesh))
  def run(nets: Nets, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    latent = algorithm.latent(key, settings.batch_size, truncation=options.truncation)
    video, flow = algorithm.predict_motion(nets, batch, latent, num_frames=options.num_frames, levels=chosen)
    return to_uint8(video), flow

  def predict(clips: Clips, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    nets = jax.device_put(prepared(), meshes.replicated(experiment.mesh))
    batch = generation.place_batch(experiment, {"conditioning": clips.conditioning, "label": clips.label})
    video, flow = run(nets, batch, key)
    return np.asarray(video)[: len(clips)], np.asarray(flow)[: len(clips)]

  return MotionPredictor(levels=chosen, predict=predict, object_tracking=settings.object_tracking)


def _chosen_levels(levels: Sequence[int] | None, count: int) -> tuple[int, ...]:
  """Checks the levels that are asked for against the `count` that the model has."""
  if levels is None:
    return tuple(range(min(COMBINED_LEVELS, count)))
  levels = tuple(levels)
  if not levels or levels != tuple(sorted(set(levels))) or not set(levels) <= set(range(count)):
    raise UserError(
      f"--motion_levels={','.join(map(str, levels))} must be some of {', '.join(map(str, range(count)))}, in this order"
    )
  return levels
