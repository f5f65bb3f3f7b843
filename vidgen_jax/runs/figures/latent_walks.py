"""Walks through the latents and the classes of a model that makes clips from noise (MVT-GAN, figures 8, 9 and 12)."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vidgen_jax.gans import MixesClasses
from vidgen_jax.core.state import Nets
from vidgen_jax.runs import generation
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.media.images import frame_labels, mark_conditioning, save_png
from vidgen_jax.ops.video import contact_sheet, to_uint8
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import empty_clips
from vidgen_jax.runs.sampling.samplers import Sampler
from vidgen_jax.types import Batch

STEPS = 7
"""Clips of a walk, its two ends included."""

REDRAWN = 3
"""Clips for each part of the latent that is drawn anew."""

Make = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(latents [N, D], class embeddings [N, E]) -> clips uint8 [N, T, H, W, C]."""


class LatentWalks:
  """Clips of a run from latents and class embeddings of one's own choice.

  Args:
    experiment: of the run; its algorithm is a `MixesClasses`.
    sampler: of the run, from `samplers.workdir_sampler`; its standing statistics are used.
    seed: of the latents.
  """

  def __init__(self, experiment: Experiment, sampler: Sampler, *, seed: int) -> None:
    self._experiment, self._sampler, self._seed = experiment, sampler, seed
    self._replicated = meshes.replicated(experiment.mesh)

  def between_latents(self, label: int) -> np.ndarray:
    """Clips of a class along the line between two latents (figure 9), uint8 [STEPS, T, H, W, C]."""
    first, last = self._latents(2, stream=label)
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
    embedded = np.repeat(self._embedded([label]), STEPS, axis=0)
    return self._make((1 - share) * first + share * last, embedded)

  def between_classes(self, first: int, last: int) -> np.ndarray:
    """Clips of one latent along the line between the embeddings of two classes (figure 8), as `between_latents`."""
    ends = self._embedded([first, last])
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
    latent = np.repeat(self._latents(1, stream=first), STEPS, axis=0)
    return self._make(latent, (1 - share) * ends[:1] + share * ends[1:])

  def redrawn_parts(self, label: int) -> dict[str, np.ndarray]:
    """Clips of a class of which one part of the latent is drawn anew, the others fixed (figure 12).

    Returns:
      By what was drawn anew, uint8 [n, T, H, W, C]: 'first' is the clip that all others go out from, n = 1; then each
      part by its name, n = `REDRAWN`.
    """
    parts = self._experiment.algorithm.latent_parts()
    drawn = self._latents(1 + REDRAWN * len(parts), stream=label)
    latents, others = [drawn[:1]], drawn[1:].reshape(len(parts), REDRAWN, -1)
    for (start, stop), other in zip(parts.values(), others, strict=True):
      changed = np.repeat(drawn[:1], REDRAWN, axis=0)
      changed[:, start:stop] = other[:, start:stop]
      latents.append(changed)
    latents = np.concatenate(latents)
    clips = self._make(latents, np.repeat(self._embedded([label]), len(latents), axis=0))
    pieces = np.split(clips, [1 + REDRAWN * i for i in range(len(parts))])
    return dict(zip(("first", *parts), pieces, strict=True))

  def _latents(self, count: int, *, stream: int) -> np.ndarray:
    """The first latents of a stream; the batch is as large as the sampler's, which the draw may depend on."""
    algorithm, size = self._experiment.algorithm, self._sampler.batch_size
    truncation = generation.sampling_options(self._experiment).truncation
    batches = [
      np.asarray(algorithm.latent(samplers.latent_key(self._seed, batch=i, sample=stream), size, truncation=truncation))
      for i in range(-(-count // size))
    ]
    return np.concatenate(batches)[:count]

  @functools.cached_property
  def _nets(self) -> Nets:
    return jax.device_put(self._sampler.nets(), self._replicated)

  def _embedded(self, labels: Sequence[int]) -> np.ndarray:
    return np.asarray(self._experiment.algorithm.embed_classes(self._nets, np.asarray(labels, np.int32)))

  def _make(self, latents: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    size, made = self._sampler.batch_size, []
    for start in range(0, len(latents), size):
      # A short batch is filled up with repeats, so that one program serves all.
      taken = np.arange(start, start + size) % len(latents)
      empty = empty_clips(self._sampler.data, num_clips=size)
      batch = generation.place_batch(self._experiment, {"conditioning": empty.conditioning, "label": empty.label})
      inputs = jax.device_put((latents[taken], embeddings[taken]), self._replicated)
      made.append(np.asarray(self._generate(self._nets, batch, *inputs)))
    return np.concatenate(made)[: len(latents)]

  @functools.cached_property
  def _generate(self) -> Callable[..., jax.Array]:
    @functools.partial(jax.jit, out_shardings=self._replicated)
    def generate(nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array) -> jax.Array:
      predict = self._experiment.algorithm.predict_mixed
      return to_uint8(predict(nets, batch, latent, embedding, num_frames=self._sampler.num_frames))

    return generate


def draw_walks(
  folder: Path, experiment: Experiment, sampler: Sampler, names: Sequence[str], *, num_classes: int, seed: int
) -> None:
  """Writes the images of walks; says so where the model cannot be asked for them.

  - `latent_walk.png`, `class_walk.png`: a block of rows for each class, or each pair of neighbouring ones; time goes
    down, the walk from left to right, as in the paper.
  - `redrawn_parts.png`: a block of rows for each class; time goes to the right. Beside each row stands the part of the
    latent that was drawn anew.

  Args:
    folder: it exists.
    experiment: of the run.
    sampler: of the run.
    names: which of them, without '.png'.
    num_classes: that are shown, at most.
    seed: of the latents.

  Raises:
    UserError: if the data set is missing or the disk is full.
  """
  if not isinstance(experiment.algorithm, MixesClasses):
    logging.info("%s are left out: the model is conditioning frames and no class alone", ", ".join(names))
    return
  walks = LatentWalks(experiment, sampler, seed=seed)
  classes = sampler.class_names or ("",)
  shown = range(min(num_classes, len(classes)))
  if "latent_walk" in names:
    blocks = {classes[label]: walks.between_latents(label) for label in shown}
    _save_down(folder / "latent_walk.png", blocks)
  if "class_walk" in names and len(classes) > 1:
    pairs = [(label, (label + 1) % len(classes)) for label in shown]
    blocks = {f"{classes[a]} - {classes[b]}": walks.between_classes(a, b) for a, b in pairs}
    _save_down(folder / "class_walk.png", blocks)
  if "redrawn_parts" in names:
    rows, labels = [], []
    for label in shown:
      for part, clips in walks.redrawn_parts(label).items():
        rows.append(clips)
        labels += [f"{classes[label]} {part}".strip()] * len(clips)
    videos = mark_conditioning(np.concatenate(rows), ())
    sheet = contact_sheet(videos, column_labels=frame_labels((), videos.shape[1]), row_labels=labels)
    save_png(folder / "redrawn_parts.png", sheet)


def _save_down(path: Path, blocks: dict[str, np.ndarray]) -> None:
  """A sheet of blocks [STEPS, T, H, W, C] whose time goes down, by what stands beside them."""
  rows = np.concatenate([clips.swapaxes(0, 1) for clips in blocks.values()])
  labels = [f"{name} t={t}".strip() for name, clips in blocks.items() for t in range(clips.shape[1])]
  columns = [f"{step / (STEPS - 1):.2f}" for step in range(STEPS)]
  save_png(path, contact_sheet(mark_conditioning(rows, ()), column_labels=columns, row_labels=labels))
