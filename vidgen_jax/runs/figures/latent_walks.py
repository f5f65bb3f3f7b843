"""Walks through the latents and the classes of a model that generates from noise (MVT-GAN, figures 8, 9 and 12)."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.gans import MixesClasses
from vidgen_jax.media.images import frame_labels, mark_conditioning, save_png
from vidgen_jax.media.layout import contact_sheet
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh
from vidgen_jax.runs import generation
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.sampling.clips import empty_clips
from vidgen_jax.runs.sampling.samplers import RunSampler, latent_key
from vidgen_jax.types import Batch

LATENT_WALK, CLASS_WALK, REDRAWN_PARTS = "latent_walk", "class_walk", "redrawn_parts"
WALKS = (LATENT_WALK, CLASS_WALK, REDRAWN_PARTS)
"""Names of the figures."""

STEPS = 7  # clips in a walk, both ends included
REDRAWN = 3  # clips for each redrawn part of the latent


class LatentWalks:
  """Clips from chosen latents and class embeddings; `sampler` is the generator of a `MixesClasses`."""

  def __init__(self, sampler: RunSampler, *, seed: int) -> None:
    self._sampler, self._seed = sampler, seed
    self._gan: Any = sampler.experiment.algorithm

  def between_latents(self, label: int) -> np.ndarray:
    """Clips of a class along the line between two latents (figure 9), uint8 [STEPS, T, H, W, C]."""
    first, last = self._latents(2, stream=label)
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
    embedded = np.repeat(self._embedded([label]), STEPS, axis=0)
    return self._generate((1 - share) * first + share * last, embedded)

  def between_classes(self, first: int, last: int) -> np.ndarray:
    """Clips of a latent along the line between two class embeddings (figure 8), uint8 [STEPS, T, H, W, C]."""
    ends = self._embedded([first, last])
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
    latent = np.repeat(self._latents(1, stream=first), STEPS, axis=0)
    return self._generate(latent, (1 - share) * ends[:1] + share * ends[1:])

  def redrawn_parts(self, label: int) -> dict[str, np.ndarray]:
    """Clips of a class in which one part of the latent is redrawn and the others are fixed (figure 12).

    Returns:
      'first', the original clip, uint8 [1, T, H, W, C]; and by the name of each part, uint8 [REDRAWN, T, H, W, C].
    """
    parts = self._gan.latent_parts()
    drawn = self._latents(1 + REDRAWN * len(parts), stream=label)
    latents, others = [drawn[:1]], drawn[1:].reshape(len(parts), REDRAWN, -1)
    for (start, stop), other in zip(parts.values(), others, strict=True):
      changed = np.repeat(drawn[:1], REDRAWN, axis=0)
      changed[:, start:stop] = other[:, start:stop]
      latents.append(changed)
    latents = np.concatenate(latents)
    clips = self._generate(latents, np.repeat(self._embedded([label]), len(latents), axis=0))
    pieces = np.split(clips, [1 + REDRAWN * i for i in range(len(parts))])
    return dict(zip(("first", *parts), pieces, strict=True))

  def _latents(self, count: int, *, stream: int) -> np.ndarray:
    # Drawn in batches of the sampler's size, since the latents may depend on it.
    size, truncation = self._sampler.batch_size, self._sampler.options.truncation
    batches = [
      np.asarray(self._gan.latent(latent_key(self._seed, batch=i, sample=stream), size, truncation=truncation))
      for i in range(-(-count // size))
    ]
    return np.concatenate(batches)[:count]

  def _embedded(self, labels: Sequence[int]) -> np.ndarray:
    return np.asarray(self._gan.embed_classes(self._sampler.nets(), np.asarray(labels, np.int32)))

  def _generate(self, latents: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Clips uint8 [N, T, H, W, C] from latents [N, D] and class embeddings [N, E]."""
    experiment, size, clips = self._sampler.experiment, self._sampler.batch_size, []
    empty = empty_clips(self._sampler.data, num_clips=size).batch()
    for start in range(0, len(latents), size):
      # The last batch is filled up with repeats, so that one compiled program serves all batches.
      taken = np.arange(start, start + size) % len(latents)
      inputs = jax.device_put((latents[taken], embeddings[taken]), mesh.replicated(experiment.mesh))
      batch = generation.place_batch(experiment, empty)
      clips.append(np.asarray(self._compiled(self._sampler.nets(), batch, *inputs)))
    return np.concatenate(clips)[: len(latents)]

  @functools.cached_property
  def _compiled(self) -> Callable[..., jax.Array]:
    def generate(nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array) -> jax.Array:
      return to_uint8(self._gan.predict_mixed(nets, batch, latent, embedding, num_frames=self._sampler.num_frames))

    return self._sampler.compile(generate)


def draw_walks(inputs: FigureInputs, names: Sequence[str], *, num_classes: int) -> None:
  """Writes images of walks for at most `num_classes` classes; only logs if the model does not generate them from noise.

  - `latent_walk.png`, `class_walk.png`: a block of rows for each class, or for each pair of neighbouring classes; time
    runs downwards and the walk to the right, as in the paper.
  - `redrawn_parts.png`: a block of rows for each class, labelled with the redrawn part; time runs to the right.
  """
  sampler, folder = inputs.sampler, inputs.folder
  if not isinstance(sampler.experiment.algorithm, MixesClasses):
    logging.info("skipped %s: the model does not generate classes from noise", ", ".join(names))
    return
  walks = LatentWalks(sampler, seed=inputs.seed)
  classes = sampler.class_names or ("",)
  shown = range(min(num_classes, len(classes)))
  if LATENT_WALK in names:
    blocks = {classes[label]: walks.between_latents(label) for label in shown}
    _save_downwards(folder / f"{LATENT_WALK}.png", blocks)
  if CLASS_WALK in names and len(classes) > 1:
    pairs = [(label, (label + 1) % len(classes)) for label in shown]
    blocks = {f"{classes[a]} - {classes[b]}": walks.between_classes(a, b) for a, b in pairs}
    _save_downwards(folder / f"{CLASS_WALK}.png", blocks)
  if REDRAWN_PARTS in names:
    rows, labels = [], []
    for label in shown:
      for part, clips in walks.redrawn_parts(label).items():
        rows.append(clips)
        labels += [f"{classes[label]} {part}".strip()] * len(clips)
    videos = mark_conditioning(np.concatenate(rows), ())
    sheet = contact_sheet(videos, column_labels=frame_labels((), videos.shape[1]), row_labels=labels)
    save_png(folder / f"{REDRAWN_PARTS}.png", sheet)


def _save_downwards(path: Path, blocks: dict[str, np.ndarray]) -> None:
  """A sheet of blocks [STEPS, T, H, W, C] by their label, with time running downwards."""
  rows = np.concatenate([clips.swapaxes(0, 1) for clips in blocks.values()])
  labels = [f"{name} t={t}".strip() for name, clips in blocks.items() for t in range(clips.shape[1])]
  columns = [f"{step / (STEPS - 1):.2f}" for step in range(STEPS)]
  save_png(path, contact_sheet(mark_conditioning(rows, ()), column_labels=columns, row_labels=labels))
