"""Measures a feature network with random weights: clips per second, and memory for few and for many clips."""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks.script import parse_shape, run_script
from vidgen_jax.bench.measurements import Measurement, Report, describe
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.networks import NETWORKS
from vidgen_jax.scores.weights.weight_file import WeightFile

_PARTS = 10
"""Memory is measured after a tenth of the clips, and at the end."""
_FIXED_SIDES = {"i3d": 224, "c3d": 112}
"""Networks that resize clips to one size."""


class RandomClips:
  """Clips of noise as an `IndexedClips`; they are windows into one pool, because drawing each would take too long.

  Args:
    count: number of clips.
    clip_shape: (T, H, W, C).
  """

  def __init__(self, count: int, clip_shape: Sequence[int]) -> None:
    self._count = count
    self._pool = np.random.default_rng(0).integers(256, size=(2 * clip_shape[0], *clip_shape[1:]), dtype=np.uint8)
    self._length = clip_shape[0]

  def __len__(self) -> int:
    return self._count

  def batches(self, batch_size: int, *, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yields uint8[B, T, H, W, C]; the last batch may be smaller."""
    order = range(self._count) if indices is None else indices
    for start in range(0, len(order), batch_size):
      offsets = [int(index) % self._length for index in order[start : start + batch_size]]
      yield np.stack([self._pool[offset : offset + self._length] for offset in offsets])


def random_weights(network: str, settings: dict[str, Any], clip_shape: Sequence[int]) -> WeightFile:
  """Random weights in the shapes of a network's initialisation.

  Args:
    network: a name in `NETWORKS`.
    settings: arguments of its constructor.
    clip_shape: (T, H, W, C) of the clips; I3D and C3D are initialised at their own size.
  """
  side = _FIXED_SIDES.get(network)
  shape = (1, clip_shape[0], side or clip_shape[1], side or clip_shape[2], 3)
  module = NETWORKS[network](**settings)
  variables = jax.eval_shape(module.init, {"params": jax.random.key(0)}, jax.ShapeDtypeStruct(shape, np.float32))
  generator = np.random.default_rng(0)

  def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    if path[-1].key in ("var", "scale"):
      return np.ones(leaf.shape, np.float32)
    fan_in = max(1, int(np.prod(leaf.shape[:-1])))
    return generator.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  filled = jax.tree.map_with_path(fill, variables)
  preprocessing = {} if side else {"resolution": clip_shape[1]}
  return WeightFile(
    network=network,
    settings=settings,
    variables=dict(filled),
    preprocessing=preprocessing,
    source="random",
    source_hash="",
  )


def measure(weights: WeightFile, *, clip_shape: Sequence[int], num_clips: int, batch_size: int) -> list[Measurement]:
  """Extracts features of noise on all devices; the goal is that memory does not grow with the number of clips.

  Args:
    weights: weights of the network.
    clip_shape: (T, H, W, C).
    num_clips: number of clips; at least 10 batches give a steady figure.
    batch_size: clips of a batch, over all devices.

  Raises:
    UserError: if the network does not accept such clips.
  """
  extractor = FeatureExtractor(weights, mesh=make_mesh(MeshConfig()), batch_size=batch_size)
  extractor.check(clip_shape)
  start = time.perf_counter()
  extractor.extract_all(RandomClips(extractor.batch_size, clip_shape))
  compilation = time.perf_counter() - start
  few = max(extractor.batch_size, num_clips // _PARTS)
  peaks, seconds = [], 0.0
  for count in (few, num_clips):
    start = time.perf_counter()
    features = extractor.extract_all(RandomClips(count, clip_shape))[""].features
    seconds += time.perf_counter() - start
    if count > 3:
      frechet_distance(features[: count // 2], features[count // 2 :])
    peaks.append(_peak_memory())
  speed = (few + num_clips) / seconds
  times = f"{num_clips / few:.3g} times as many clips"
  return [
    Measurement(name="clips", value=speed, unit="clips/s", note="from host memory to features"),
    Measurement(name="first batch", value=compilation, unit="s", note="with compilation"),
    Measurement(name="peak memory, few clips", value=peaks[0] / 2**20, unit="MiB", note="of the process"),
    Measurement(name="peak memory, all clips", value=peaks[1] / 2**20, unit="MiB", note=f"{num_clips}"),
    Measurement(name="all / few", value=peaks[1] / peaks[0], at_most=1.1, note=times),
  ]


def _peak_memory() -> int:
  """Peak memory of this process in bytes; Linux counts in KiB, macOS in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak


def _define_flags(flag_values: flags.FlagValues) -> None:
  flags.DEFINE_enum("network", None, list(NETWORKS), "feature network", required=True, flag_values=flag_values)
  flags.DEFINE_integer("width", None, "r3d18 or tsn: channels of the first stage", flag_values=flag_values)
  flags.DEFINE_string("clip", "16x64x64x3", "frames x height x width x channels", flag_values=flag_values)
  flags.DEFINE_integer("clips", 64, "number of clips", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer("batch_size", 4, "clips of a batch", lower_bound=1, flag_values=flag_values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures with the settings of the flags."""
  network, batch_size = flag_values.network, flag_values.batch_size
  clip_shape = parse_shape("clip", flag_values.clip, "16x64x64x3")
  settings = {"num_classes": 400 if network == "i3d" else 101}
  if flag_values.width is not None:
    settings["width"] = flag_values.width
  try:
    weights = random_weights(network, settings, clip_shape)
  except (TypeError, ValueError) as error:
    raise UserError(f"--network={network} does not fit --clip={flag_values.clip}: {error}") from error
  figures = measure(weights, clip_shape=clip_shape, num_clips=flag_values.clips, batch_size=batch_size)
  return Report.of(describe(network, clip=flag_values.clip, batch=batch_size), figures)


if __name__ == "__main__":
  run_script(_define_flags, report)
