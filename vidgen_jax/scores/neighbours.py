"""Nearest real clips of generated ones, which show whether a model copies (MVT-GAN, section 6.4 and figure 6)."""

from pathlib import Path

import numpy as np

from vidgen_jax.files import write_json
from vidgen_jax.media.images import contact_sheet, mark_conditioning, save_png
from vidgen_jax.scores.clip_sets import ClipSet
from vidgen_jax.scores.extraction import FeatureExtractor

_SHOWN = 8  # generated clips in the image
_ROWS = 256  # queries at a time, which bounds the memory of the matrix of distances


def nearest(
  queries: np.ndarray, candidates: np.ndarray, *, k: int, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  """The k nearest of the candidates [M, D] of each query [N, D], nearest first.

  With `skip_self`, the queries are the candidates, and no query is its own neighbour.

  Returns:
    Indices int64[N, k] and Euclidean distances float64[N, k].

  Raises:
    ValueError: if there are too few candidates.
  """
  available = len(candidates) - skip_self
  if not 1 <= k <= available:
    raise ValueError(f"cannot find {k} neighbours among {available}")
  candidates = np.asarray(candidates, np.float64)
  found, distances = [], []
  for start in range(0, len(queries), _ROWS):
    part = np.asarray(queries[start : start + _ROWS], np.float64)
    square = np.sum(part**2, axis=1)[:, None] + np.sum(candidates**2, axis=1) - 2 * part @ candidates.T
    if skip_self:
      square[np.arange(len(part)), start + np.arange(len(part))] = np.inf
    order = np.argsort(square, axis=1, kind="stable")[:, :k]
    found.append(order)
    # From the differences: for two near clips, the expansion above leaves rounding errors only.
    distances.append(np.linalg.norm(part[:, None] - candidates[order], axis=-1))
  return np.concatenate(found), np.concatenate(distances)


def write_neighbours(
  path: Path,
  real: ClipSet,
  fake: ClipSet,
  extractor: FeatureExtractor,
  *,
  features: tuple[np.ndarray, np.ndarray],
  k: int,
) -> None:
  """Writes a sheet of generated clips above their nearest real ones, and a JSON file of the same name.

  The JSON file has the neighbours of all generated clips and their distances, the median distance of generated clips to
  their nearest real one, and that of real clips to their nearest other real one. The first is far below the second if
  the model copies.

  Args:
    path: .png file of the sheet.
    real: real clips.
    fake: generated clips.
    extractor: network of the features.
    features: [M, D] of the real clips and [N, D] of the generated ones, or [.., F, D] of their frames.
    k: neighbours per clip.
  """
  real_features, fake_features = (array.reshape(len(array), -1) for array in features)
  indices, distances = nearest(fake_features, real_features, k=k)
  _, own = nearest(real_features, real_features, k=1, skip_self=True)
  shown = np.arange(min(_SHOWN, len(fake)))
  generated = next(fake.batches(len(shown), indices=shown))
  neighbours = next(real.batches(len(shown) * k, indices=indices[shown].ravel()))
  neighbours = neighbours.reshape(len(shown), k, *neighbours.shape[1:])
  rows = np.concatenate([generated[:, None], neighbours], axis=1)
  labels = [text for i in shown for text in ("generated", *(f"real, {d:.3g}" for d in distances[i]))]
  save_png(path, contact_sheet(mark_conditioning(rows.reshape(-1, *rows.shape[2:]), ()), row_labels=labels))
  real_names = real.clip_names
  report = {
    "network": extractor.label,
    "network_hash": extractor.hash,
    "protocol": f"Euclidean distance of features, {extractor.protocol(real.clip_shape)}",
    "real": real.name,
    "num_real": len(real),
    "median_nearest": float(np.median(distances[:, 0])),
    "median_nearest_among_real": float(np.median(own)),
    "clips": [
      {
        "generated": name,
        "neighbours": [{"real": real_names[j], "distance": float(d)} for j, d in zip(nearby, far, strict=True)],
      }
      for name, nearby, far in zip(fake.clip_names, indices, distances, strict=True)
    ],
  }
  write_json(path.with_suffix(".json"), report)
