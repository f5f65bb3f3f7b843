"""How fast a feature network takes clips, and whether many clips take more memory than few."""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.metrics.frechet import frechet_distance_of
from vidgen_jax.scores.networks import NETWORKS
from vidgen_jax.scores.weights.weight_file import WeightFile

FEW_PARTS = 10
"""Memory is looked at after a tenth of the clips, and at the end."""


@dataclass(frozen=True, kw_only=True)
class ExtractionTiming:
  """What was measured.

  Attributes:
    clips_per_second: with clips at hand, results on the host.
    compilation: seconds of the first batch, all included.
    peak_few: peak memory of this process after a tenth of the clips, in bytes.
    peak_all: the same after all of them and the distance between their halves.
    num_clips: how many were taken.
    few_clips: a tenth of them, or one batch.
  """

  clips_per_second: float
  compilation: float
  peak_few: int
  peak_all: int
  num_clips: int
  few_clips: int


class RandomClips:
  """Noise, made when it is asked for; an `IndexedClips` that costs next to nothing.

  Args:
    count: number of clips.
    clip_shape: (T, H, W, C).
  """

  def __init__(self, count: int, clip_shape: Sequence[int]) -> None:
    self._count = count
    # A clip is a window into a pool of noise: drawing it anew would take longer than a small network.
    self._pool = np.random.default_rng(0).integers(256, size=(2 * clip_shape[0], *clip_shape[1:]), dtype=np.uint8)
    self._length = clip_shape[0]

  def __len__(self) -> int:
    return self._count

  def batches(self, batch_size: int, *, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """See `vidgen_jax.scores.extraction.IndexedClips`."""
    order = range(self._count) if indices is None else indices
    for start in range(0, len(order), batch_size):
      offsets = [int(index) % self._length for index in order[start : start + batch_size]]
      yield np.stack([self._pool[offset : offset + self._length] for offset in offsets])


def random_weights(network: str, settings: dict, clip_shape: Sequence[int]) -> WeightFile:
  """Weights as a network is initialised, for measuring it.

  Args:
    network: a name in `NETWORKS`.
    settings: its constructor's arguments.
    clip_shape: (T, H, W, C) of the clips; I3D and C3D are initialised at their own size.
  """
  side = {"i3d": 224, "c3d": 112}.get(network, clip_shape[1])
  shape = (1, clip_shape[0], side, side if network in ("i3d", "c3d") else clip_shape[2], 3)
  module = NETWORKS[network](**settings)
  variables = jax.eval_shape(module.init, {"params": jax.random.key(0)}, jax.ShapeDtypeStruct(shape, np.float32))
  generator = np.random.default_rng(0)

  def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    if path[-1].key in ("var", "scale"):
      return np.ones(leaf.shape, np.float32)
    fan_in = max(1, int(np.prod(leaf.shape[:-1])))
    return generator.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  filled = jax.tree.map_with_path(fill, variables)
  own = {} if network in ("i3d", "c3d") else {"resolution": clip_shape[1]}
  return WeightFile(
    network=network, settings=settings, variables=dict(filled), preprocessing=own, source="random", source_hash=""
  )


def time_extraction(
  weights: WeightFile, *, clip_shape: Sequence[int], num_clips: int, batch_size: int
) -> ExtractionTiming:
  """Extracts features of noise on all devices.

  Args:
    weights: of the network.
    clip_shape: (T, H, W, C).
    num_clips: at least `FEW_PARTS` batches give a steady figure.
    batch_size: clips at a time, over all devices.

  Raises:
    UserError: if the network does not take such clips.
  """
  extractor = FeatureExtractor(weights, mesh=meshes.make_mesh(MeshConfig()), batch_size=batch_size)
  extractor.check(clip_shape)
  start = time.perf_counter()
  extractor.extract_all(RandomClips(extractor.batch_size, clip_shape))
  compilation = time.perf_counter() - start
  few = max(extractor.batch_size, num_clips // FEW_PARTS)
  peaks, seconds, counted = [], 0.0, 0
  for count in (few, num_clips):
    start = time.perf_counter()
    features = extractor.extract_all(RandomClips(count, clip_shape))[""]
    seconds, counted = seconds + time.perf_counter() - start, counted + count
    if count > 3:
      frechet_distance_of(features.features[: count // 2], features.features[count // 2 :])
    peaks.append(_peak_memory())
  return ExtractionTiming(
    clips_per_second=counted / seconds,
    compilation=compilation,
    peak_few=peaks[0],
    peak_all=peaks[1],
    num_clips=num_clips,
    few_clips=few,
  )


def _peak_memory() -> int:
  """Of this process so far, in bytes; Linux counts in KiB, macOS in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak
