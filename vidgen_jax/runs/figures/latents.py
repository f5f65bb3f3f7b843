"""Figures of latents: decoded blocks (Inbetweening, figure 4), walks between latents or classes (MVT-GAN, 8, 9, 12)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import Nets
from vidgen_jax.gans import DecodesBlocks, MixesClasses
from vidgen_jax.media.images import contact_sheet, frame_labels, mark_conditioning, save_png
from vidgen_jax.ops.conditioning import generated_indices, take_frames
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh
from vidgen_jax.runs import generation
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.sampling.clips import empty_clips
from vidgen_jax.runs.sampling.samplers import RunSampler, latent_key
from vidgen_jax.types import Batch

BLOCKS = "latent_blocks"
LATENT_WALK, CLASS_WALK, REDRAWN_PARTS = "latent_walk", "class_walk", "redrawn_parts"
WALKS = (LATENT_WALK, CLASS_WALK, REDRAWN_PARTS)
"""Names of the figures of `draw_walks`."""

STEPS = 7  # clips in a walk, both ends included
REDRAWN = 3  # clips for each redrawn part of the latent


def draw_latent_blocks(inputs: FigureInputs) -> None:
  """Writes a PNG of the decoded latent blocks of the first clip's first sample; only logs if the model has none."""
  sampler, path = inputs.sampler, inputs.folder / f"{BLOCKS}.png"
  gan = sampler.experiment.algorithm
  if not isinstance(gan, DecodesBlocks) or not gan.last_blocks():
    logging.info("skipped %s: the model has no latent blocks", path.name)
    return
  decoded = decode_blocks(sampler, inputs.shown.conditioning[:1], seed=inputs.seed)
  generated = generated_indices(sampler.conditioning_indices, sampler.num_frames)
  rows = [f"block {number}" for number in gan.last_blocks()]
  _save_sheet(path, take_frames(decoded, generated), rows=rows, columns=[f"t={frame}" for frame in generated])


def decode_blocks(sampler: RunSampler, conditioning: np.ndarray, *, seed: int) -> np.ndarray:
  """Decodes each block of the last level of the latent generator, for the first sample of one clip.

  Returns:
    uint8 [blocks, num_frames, H, W, C] for conditioning uint8 [1, G, H, W, C]; the last is the clip of `draw_sample`.
  """
  gan: Any = sampler.experiment.algorithm

  @sampler.compile
  def decode(nets: Nets, conditioning: jax.Array, latent: jax.Array) -> jax.Array:
    batch = {"conditioning": conditioning}
    return to_uint8(gan.decode_blocks(nets, batch, latent, num_frames=sampler.num_frames))

  # Latents may depend on the batch size, so draw a whole batch.
  key = latent_key(seed, batch=0, sample=0)
  latent = gan.latent(key, sampler.batch_size, truncation=sampler.options.truncation)[:1]
  return np.asarray(decode(sampler.nets(), conditioning, latent))[:, 0]


class LatentWalks:
  """Clips from chosen latents and class embeddings; `sampler` is the generator of a `MixesClasses`."""

  def __init__(self, sampler: RunSampler, *, seed: int) -> None:
    self._sampler, self._seed = sampler, seed
    self._gan: Any = sampler.experiment.algorithm

    @sampler.compile
    def generate(nets: Nets, batch: Batch, latent: jax.Array, embedding: jax.Array) -> jax.Array:
      return to_uint8(self._gan.predict_mixed(nets, batch, latent, embedding, num_frames=sampler.num_frames))

    self._compiled = generate

  def between_latents(self, label: int) -> np.ndarray:
    """Clips of a class along the line between two latents (figure 9), uint8 [STEPS, T, H, W, C]."""
    return self._generate(_line(self._latents(2, stream=label)), self._embedded([label]))

  def between_classes(self, first: int, last: int) -> np.ndarray:
    """Clips of a latent along the line between two class embeddings (figure 8), uint8 [STEPS, T, H, W, C]."""
    return self._generate(self._latents(1, stream=first), _line(self._embedded([first, last])))

  def redrawn_parts(self, label: int) -> dict[str, np.ndarray]:
    """Clips of a class in which one part of the latent is redrawn and the others are fixed (figure 12).

    Returns:
      'first', the original clip, uint8 [1, T, H, W, C]; and by the name of each part, uint8 [REDRAWN, T, H, W, C].
    """
    parts = self._gan.latent_parts()
    drawn = self._latents(1 + REDRAWN * len(parts), stream=label)
    latents = np.repeat(drawn[:1], len(drawn), axis=0)
    for i, (start, stop) in enumerate(parts.values()):
      rows = slice(1 + REDRAWN * i, 1 + REDRAWN * (i + 1))
      latents[rows, start:stop] = drawn[rows, start:stop]
    clips = np.split(self._generate(latents, self._embedded([label])), range(1, len(latents), REDRAWN))
    return dict(zip(("first", *parts), clips, strict=True))

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
    """Clips uint8 [N, T, H, W, C] from latents [N, D] and class embeddings [N, E]; one of them may be a single row."""
    sampler, count, clips = self._sampler, max(len(latents), len(embeddings)), []
    empty = generation.place_batch(sampler.experiment, empty_clips(sampler.data, num_clips=sampler.batch_size).batch())
    size = len(empty["label"])
    for start in range(0, count, size):
      # The last batch is filled up with repeats, so that one compiled program serves all batches.
      taken = np.arange(start, start + size) % count
      inputs = [rows[taken % len(rows)] for rows in (latents, embeddings)]
      inputs = jax.device_put(inputs, mesh.replicated(sampler.experiment.mesh))
      clips.append(np.asarray(self._compiled(sampler.nets(), empty, *inputs)))
    return np.concatenate(clips)[:count]


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
    parts = [(classes[label], part, clips) for label in shown for part, clips in walks.redrawn_parts(label).items()]
    videos = np.concatenate([clips for *_, clips in parts])
    rows = [f"{name} {part}".strip() for name, part, clips in parts for _ in clips]
    _save_sheet(folder / f"{REDRAWN_PARTS}.png", videos, rows=rows, columns=frame_labels((), videos.shape[1]))


def _line(ends: np.ndarray) -> np.ndarray:
  """`STEPS` points on the line between two vectors: [2, D] -> [STEPS, D]."""
  share = np.linspace(0, 1, STEPS, dtype=np.float32)[:, None]
  return (1 - share) * ends[:1] + share * ends[1:]


def _save_downwards(path: Path, blocks: dict[str, np.ndarray]) -> None:
  """A sheet of blocks [STEPS, T, H, W, C] by their label, with time running downwards."""
  videos = np.concatenate([clips.swapaxes(0, 1) for clips in blocks.values()])
  rows = [f"{name} t={t}".strip() for name, clips in blocks.items() for t in range(clips.shape[1])]
  _save_sheet(path, videos, rows=rows, columns=[f"{step / (STEPS - 1):.2f}" for step in range(STEPS)])


def _save_sheet(path: Path, videos: np.ndarray, *, rows: Sequence[str], columns: Sequence[str]) -> None:
  save_png(path, contact_sheet(mark_conditioning(videos, ()), row_labels=rows, column_labels=columns))
