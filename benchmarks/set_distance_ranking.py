"""Ranks degradations of real clips by a distance between sets: real halves must be nearest, stronger ones farther."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from absl import flags
from jax import image

from benchmarks.script import run_script
from vidgen_jax.bench.measurements import Report, describe
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.scores.builtin import load_builtin_extractor
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor
from vidgen_jax.scores.metrics.set_distance import frechet_distance, kernel_distance

_DISTANCES = {"Frechet": frechet_distance, "kernel": kernel_distance}
_SPLITS = 20  # random halves of the real clips, for the spread of their distance
_REAL = "real, other half"

_Found = dict[tuple[str, str, float], float]
"""Distances by the distance's name, the degradation's name and strength."""

Degradation = tuple[str, float, Callable[[np.ndarray, np.random.Generator], np.ndarray]]
"""Name, strength, and function from windows uint8[N, F, H, W, 3] of consecutive frames to clips of T frames."""


def _define_flags(flag_values: flags.FlagValues) -> None:
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_list("sets", None, "built data sets, NAME/SPLIT, of clips of 32 frames or more", required=True, **values)
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of the built data sets", **values)
  flags.DEFINE_string("network", "builtin", "weight file; builtin for the network of the package", **values)
  flags.DEFINE_integer("max_clips", 200, "clips per set, half of them degraded", lower_bound=8, **values)
  flags.DEFINE_integer("resolution", 0, "side to which frames are resized and cropped before tiling; 0: none", **values)
  flags.DEFINE_integer("side", 64, "side of the clips in pixels; larger frames are cut into tiles", **values)
  flags.DEFINE_integer("num_frames", 16, "frames per clip", **values)
  flags.DEFINE_integer("stride", 1, "distance between these frames", lower_bound=1, **values)


def _windows(name: str, flag_values: flags.FlagValues) -> np.ndarray:
  """uint8[N, F, side, side, 3] in random order: tiles of all clips, with the frames that the double speed needs."""
  frames, side = 2 * flag_values.stride * (flag_values.num_frames - 1) + 1, flag_values.side
  options = ClipOptions(num_frames=frames, resolution=flag_values.resolution, max_clips=flag_values.max_clips)
  clips = open_clips(name, options, what="--sets", data_dir=flag_values.data_dir)
  tiles = []
  for (clip,) in clips.batches(1):
    if min(clip.shape[1:3]) < side:
      raise UserError(f"--sets={name} has frames of {clip.shape[1]}x{clip.shape[2]}, below --side={side}")
    rows, columns = (range(0, size - side + 1, side) for size in clip.shape[1:3])
    tiles += [clip[:, top : top + side, left : left + side] for top in rows for left in columns]
  order = np.random.default_rng(0).permutation(len(tiles))[: flag_values.max_clips]
  return np.stack([tiles[index] for index in order])


def _pixels(video: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(video), 0, 255).astype(np.uint8)


def _blurred(video: np.ndarray, deviation: float) -> np.ndarray:
  offsets = np.arange(-int(3 * deviation + 1), int(3 * deviation + 1) + 1)
  weights = np.exp(-0.5 * (offsets / deviation) ** 2)
  for axis in (2, 3):
    pads = [(0, 0)] * 5
    pads[axis] = (-offsets[0], offsets[-1])
    padded, span = np.pad(video.astype(np.float32), pads, mode="edge"), np.arange(video.shape[axis])
    parts = (w * padded.take(span + i, axis) for i, w in enumerate(weights / weights.sum()))
    video = sum(parts, np.zeros((), np.float32))
  return _pixels(video)


def _resampled(video: np.ndarray, side: int) -> np.ndarray:
  batch, frames, *full = video.shape
  small = image.resize(video.astype(np.float32), (batch, frames, side, side, 3), "bilinear")
  return _pixels(np.asarray(image.resize(small, (batch, frames, *full), "bilinear")))


def _shuffled(video: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
  """Permutes a random share of the frames of each clip."""
  result = video.copy()
  for clip, source in zip(result, video, strict=True):
    places = generator.choice(len(clip), round(share * len(clip)), replace=False)
    clip[places] = source[generator.permutation(places)]
  return result


def _patches(video: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Permutes a 4x4 grid of patches, in all frames alike."""
  batch, frames, height, width, channels = video.shape
  grid = video.reshape(batch, frames, 4, height // 4, 4, width // 4, channels).swapaxes(3, 4)
  mixed = grid.reshape(batch, frames, 16, *grid.shape[4:])[:, :, generator.permutation(16)].reshape(grid.shape)
  return mixed.swapaxes(3, 4).reshape(video.shape)


def _degradations(frames: int, stride: int) -> Iterator[Degradation]:
  """All degradations; those of one name from mild to strong. A name in brackets demands no order."""
  time = np.arange(frames)

  def at(indices: np.ndarray) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    return lambda video, _: video[:, np.floor(indices + 1e-6).astype(int)]

  def plain(function: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable:
    return lambda video, generator: function(video[:, stride * time], generator)

  for deviation in (0.75, 1.5, 3.0):
    yield "blur: deviation in pixels", deviation, plain(lambda v, _, d=deviation: _blurred(v, d))
  for share in (0.25, 0.5, 1.0):
    yield "shuffled: share of the frames", share, plain(lambda v, g, s=share: _shuffled(v, s, g))
  for speed in (0.8, 0.65, 0.5):
    yield "slow: speed", speed, at(stride * speed * time)
  for speed in (1.5, 1.75, 2.0):
    yield "fast: speed", speed, at(stride * speed * time)
  for share in (0.75, 0.5, 0.25):
    yield "resolution: factor", share, plain(lambda v, _, s=share: _resampled(v, round(s * v.shape[2])))
  for share in (0.25, 0.5, 1.0):
    last = frames - 1 - round(share * (frames - 1))
    yield "frozen: share of the frames", share, at(stride * np.minimum(time, last))
  for deviation in (4, 8, 16):
    yield "noise: deviation in levels", deviation, plain(lambda v, g, d=deviation: _pixels(v + g.normal(0, d, v.shape)))
  for share in (2, 4, 8):
    yield "(mode collapse: copies of each clip)", share, plain(lambda v, _, s=share: v[np.arange(len(v)) // s * s])
  yield "(fast: speed)", 1.25, at(stride * 1.25 * time)
  yield "(contrast: factor)", 1.25, plain(lambda v, _: _pixels((v - 127.5) * 1.25 + 127.5))
  yield "(contrast: factor)", 2.0, plain(lambda v, _: _pixels((v - 127.5) * 2.0 + 127.5))
  yield "(brighter: levels)", 20, plain(lambda v, _: _pixels(v + 20.0))
  yield "(red and blue swapped)", 0, plain(lambda v, _: v[..., ::-1])
  yield "(grey)", 0, plain(lambda v, _: _pixels(v.mean(axis=-1, keepdims=True) + np.zeros(3)))
  yield "(black)", 0, plain(lambda v, _: np.zeros_like(v))
  yield "(mirrored)", 0, plain(lambda v, _: v[:, :, :, ::-1])
  yield "(upside down)", 0, plain(lambda v, _: v[:, :, ::-1])
  yield "(reversed in time)", 0, plain(lambda v, _: v[:, ::-1])
  yield "(patches permuted)", 0, plain(_patches)


def _measure_set(name: str, extractor: FeatureExtractor, flag_values: flags.FlagValues) -> tuple[_Found, str]:
  """The distances of each degradation of one half of the clips to the other half, and a description of the set."""
  windows, stride, frames = _windows(name, flag_values), flag_values.stride, flag_values.num_frames
  half = len(windows) // 2
  windows = windows[: 2 * half]
  real = extractor.extract(windows[:, : stride * frames : stride]).features
  features = {(_REAL, 0.0): real}
  for label, strength, degrade in _degradations(frames, stride):
    # Only where an order is demanded all clips are degraded, for other halves.
    clips = windows[half:] if label[0] == "(" else windows
    features[label, strength] = extractor.extract(degrade(clips, np.random.default_rng(1))).features
  found = {(kind, *key): d(real[:half], x[-half:]) for kind, d in _DISTANCES.items() for key, x in features.items()}
  floors, ranked = [], dict.fromkeys((key[0] for key in features if key[0] != _REAL and key[0][0] != "("), 0)
  for seed in range(_SPLITS):
    order = np.random.default_rng(seed).permutation(2 * half)
    values = {
      key: frechet_distance(real[order[:half]], x[order[half:]]) for key, x in features.items() if key[0][0] != "("
    }
    floors.append(values[_REAL, 0.0])
    for label in ranked:
      ranked[label] += _is_ranked(values, label)
  counts = ", ".join(f"{label.split(':')[0]} {count}" for label, count in ranked.items())
  spread = f"{min(floors):.3g} to {max(floors):.3g}"
  return found, f"{name}: 2 x {half} clips; {_SPLITS} other halves, {spread} from each other, ranked: {counts}"


def _is_ranked(values: Mapping[tuple[str, float], float], label: str) -> bool:
  return all(a < b for a, b in pairwise(value for key, value in values.items() if key[0] in (_REAL, label)))


def _faults(name: str, found: _Found) -> Iterator[str]:
  for kind in _DISTANCES:
    values = {key[1:]: value for key, value in found.items() if key[0] == kind}
    for label in dict.fromkeys(key[0] for key in values):
      if label[0] != "(" and not _is_ranked(values, label):
        yield f"{name}: {label} is not ranked by the {kind} distance"


def _measure(flag_values: flags.FlagValues) -> Report:
  mesh, path = make_mesh(MeshConfig()), flag_values.network
  extractor = load_builtin_extractor(mesh=mesh) if path == "builtin" else load_extractor(path, mesh=mesh)
  columns, notes, faults = {}, [], []
  for name in flag_values.sets:
    columns[name], note = _measure_set(name, extractor, flag_values)
    notes.append(note)
    faults += _faults(name, columns[name])
  keys = [key[1:] for key in next(iter(columns.values())) if key[0] == "Frechet"]
  rows = [
    {"set": name, "distance": kind, "degradation": label, "strength": strength, "value": value}
    for name, found in columns.items()
    for (kind, label, strength), value in found.items()
  ]
  lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
  for label, strength in keys:
    values = (f"{c['Frechet', label, strength]:.3g} / {c['kernel', label, strength]:.3g}" for c in columns.values())
    lines.append(f"| {label}{f' {strength:g}' if strength else ''} | {' | '.join(values)} |")
  head = describe("set distance ranking", network=extractor.label, hash=extractor.hash)
  return Report(head=head, rows=rows, text="\n".join([*notes, *lines, *(faults or ["all ranked"])]))


if __name__ == "__main__":
  run_script(_define_flags, _measure)
