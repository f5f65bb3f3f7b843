"""Generators that are ready to generate clips: of a run or of an export."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.gans import GANS, InfersClips, SampleOptions
from vidgen_jax.gans.common import draw_latent
from vidgen_jax.parallel import mesh
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.config import ExperimentConfig, from_dict, with_data
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.sampling.clips import Clips, ClipSpec
from vidgen_jax.runs.sampling.exported import CONFIG_FILE, load_export, read_json
from vidgen_jax.runs.workdir import Trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(ClipSpec):
  """A generator that is ready for use, with the clips that it generates."""

  draw: Callable[[Clips, jax.Array], np.ndarray]
  """(clips, key of the latents) -> whole clips, uint8 [B, num_frames, H, W, C]."""
  batch_size: int
  """Maximum number of clips for `draw`."""
  takes_any_frames: bool = False
  """Whether the model accepts other conditioning frames; they are then called anchors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSampler(Sampler):
  """The generator of a run, with access to its weights."""

  experiment: Experiment
  options: SampleOptions
  nets: Callable[[], Nets]
  """The weights with standing statistics for `num_frames`, replicated on the devices."""

  def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of nets and batch, whose result is replicated on the devices."""
    return jax.jit(function, out_shardings=mesh.replicated(self.experiment.mesh))


def draw_sample(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> np.ndarray:
  """Generates whole clips, uint8 [N, num_frames, H, W, C], one for each of N clips' conditioning frames.

  `sample` is the index among the samples of the same conditioning frames. An export and its run generate the same
  images from the same `seed`.
  """
  return np.concatenate([sampler.draw(*batch) for batch in batches(sampler, clips, sample=sample, seed=seed)])


def batches(sampler: Sampler, clips: Clips, *, sample: int, seed: int) -> Iterator[tuple[Clips, jax.Array]]:
  """The clips in batches for `Sampler.draw`, with the keys of their latents."""
  for i, start in enumerate(range(0, len(clips), sampler.batch_size)):
    yield clips[start : start + sampler.batch_size], latent_key(seed, batch=i, sample=sample)


def latent_key(seed: int, *, batch: int, sample: int) -> jax.Array:
  """The key with which `draw_sample` draws the latents of a batch."""
  return generation.sample_key(jax.random.key(seed), batch, sample)


def load_run(
  folder: str,
  *,
  num_clips: int,
  step: int | None = None,
  weights: str = "ema",
  conditioning_indices: Sequence[int] | None = None,
  sampling_means: Sequence[str] = (),
  **data: str | None,
) -> Trained:
  """Reads a checkpoint of a run, with a batch size no larger than `num_clips` needs.

  `step` None is the latest, `weights` 'ema' or 'raw'. `conditioning_indices`, `sampling_means` unless (), numbers as
  text, and `data`, arguments of `with_data`, replace values of the run's config.

  Raises:
    UserError: there is no such run or checkpoint, or the model does not accept these conditioning frames or means.
  """
  config = with_data(workdir.load_config(folder), **data)
  if conditioning_indices is not None:
    config = with_conditioning_indices(config, conditioning_indices)
  if sampling_means:
    config = with_sampling_means(config, sampling_means)
  evaluation = dataclasses.replace(config.evaluation, batch_size=min(config.evaluation.batch_size, num_clips))
  config = dataclasses.replace(config, evaluation=evaluation)
  return workdir.load_trained(folder, config=config, step=step, weights=weights)


def with_conditioning_indices(config: ExperimentConfig, conditioning_indices: Sequence[int]) -> ExperimentConfig:
  """The config with other conditioning frames: 0-based indices in any order, negative ones count from the end.

  Raises:
    UserError: the model's conditioning frames are fixed, or a frame is out of range or occurs twice.
  """
  if not hasattr(config.algorithm, "conditioning_indices"):
    raise UserError(f"the conditioning frames of {config.algorithm_name} are fixed; only sr_cgan accepts any frames")
  num_frames = config.data.num_frames
  if wrong := [frame for frame in conditioning_indices if not -num_frames <= frame < num_frames]:
    raise UserError(f"frame {wrong[0]} is out of range: a clip has {num_frames} frames, counted from 0")
  times = sorted(frame % num_frames for frame in conditioning_indices)
  if len(set(times)) < len(times):
    raise UserError(f"conditioning frames {', '.join(map(str, conditioning_indices))}: one of them occurs twice")
  return dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, conditioning_indices=tuple(times)))


def with_sampling_means(config: ExperimentConfig, words: Sequence[str]) -> ExperimentConfig:
  """The config with other means of the latent's parts in sampling, numbers as text; UserError if it has no such."""
  if not hasattr(config.algorithm, "sampling_means"):
    raise UserError(f"--sampling_means: the latents of {config.algorithm_name} have no parts with means of their own")
  try:
    means = tuple(map(float, words))
  except ValueError as error:
    raise UserError(f"--sampling_means={','.join(words)} must be numbers, such as 4,2,0") from error
  return dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, sampling_means=means))


def workdir_sampler(trained: Trained, *, num_frames: int | None = None, truncation: float | None = None) -> RunSampler:
  """The generator of a run, with standing statistics and the options of `generation.sampling_options`.

  Raises:
    UserError: the model does not support the length; on first use, the data set is missing.
  """
  experiment = trained.experiment
  settings = experiment.config.evaluation
  options = generation.sampling_options(experiment, num_frames=num_frames, truncation=truncation)

  @functools.cache
  def nets() -> Nets:
    # Lazy, so that errors in the clips' source are reported before the slow pass over the data set.
    workdir.check_data(trained)
    found = generation.prepare_nets(experiment, trained.nets, options=options)
    return jax.device_put(found, mesh.replicated(experiment.mesh))

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    return generation.predict(experiment, nets(), clips.batch(), key, options=options)

  return RunSampler(
    data=experiment.config.evaluation_data,
    split=settings.split,
    num_frames=options.num_frames,
    conditioning_indices=experiment.algorithm.conditioning_indices(options.num_frames),
    class_names=trained.class_names if trained.is_conditional else (),
    draw=draw,
    batch_size=settings.batch_size,
    takes_any_frames=isinstance(experiment.algorithm, InfersClips),
    experiment=experiment,
    options=options,
    nets=nets,
  )


def export_sampler(
  folder: str, *, num_frames: int | None = None, truncation: float | None = None, **data: str | None
) -> Sampler:
  """The generator of an export, a folder written by `vidgen export`.

  `num_frames` is the length of the export's clips, or None. `truncation`, the width of the latents (negative for no
  truncation), and `data`, arguments of `with_data`, replace values of the run's config.

  Raises:
    UserError: the folder is not an export, or the export has another length.
  """
  config, generator = with_data(from_dict(read_json(folder, CONFIG_FILE)), **data), load_export(folder)
  signature = generator.signature
  if num_frames not in (None, signature["num_frames"]):
    raise UserError(
      f"--num_frames={num_frames}: export {folder} generates clips of {signature['num_frames']} frames; if the model "
      f"supports other lengths, export it again with --num_frames={num_frames}, or sample with --workdir"
    )
  truncation = config.evaluation.truncation if truncation is None else truncation
  if math.isnan(truncation):
    raise UserError("truncation is NaN; give a width, 0 for the typical latent, or a negative number for no truncation")
  width = None if truncation < 0 else truncation
  latent_features = signature["inputs"]["latent"]["shape"][-1]

  def draw(clips: Clips, key: jax.Array) -> np.ndarray:
    latent = np.asarray(draw_latent(key, (len(clips), latent_features), truncation=width))
    return generator(clips.conditioning, latent, clips.label)

  return Sampler(
    data=config.evaluation_data,
    split=config.evaluation.split,
    num_frames=signature["num_frames"],
    conditioning_indices=tuple(signature["conditioning_indices"]),
    class_names=tuple(signature["class_names"]),
    draw=draw,
    batch_size=config.evaluation.batch_size,
    takes_any_frames=issubclass(GANS[config.algorithm_name][1], InfersClips),
  )
