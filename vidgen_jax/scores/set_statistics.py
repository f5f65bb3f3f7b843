"""Mean and covariance of the features of a set in a file, which replaces the clips in Frechet distances."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.scores.clip_sets.arrays import DAMAGED_ARRAY_ERRORS
from vidgen_jax.scores.extraction import FeatureExtractor, Features
from vidgen_jax.scores.inputs import versions
from vidgen_jax.scores.metric import Metric, Need
from vidgen_jax.scores.metrics.set_distance import frechet_distance, frechet_of_moments, moments
from vidgen_jax.scores.registry import network_metrics
from vidgen_jax.scores.report import Score

_FIELDS = ("extractor", "extractor_hash", "description", "layer", "input", "divisor", "clip")
"""Fields of the protocol that must be equal on both sides."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetStatistics:
  """Statistics of the features of `count` clips.

  Attributes:
    mean: float64[D].
    covariance: float64[D, D].
    count: number of clips.
    protocol: network, hash and description of its weights, layer, preprocessing ('input'), divisor of the covariance,
      shape of the clips ('clip'), the facts about the set ('clips'), and versions.
  """

  mean: np.ndarray
  covariance: np.ndarray
  count: int
  protocol: Mapping[str, Any]

  @property
  def name(self) -> str:
    """Name of the set that the statistics describe."""
    return str(self.protocol["clips"]["source"])


def frechet_metric(network: str) -> Metric:
  """The Frechet distance under its name for this network; UserError if it has none."""
  for metric in network_metrics(network):
    if metric.function is frechet_distance:
      return metric
  raise UserError(f"no Frechet distance is defined on {network}, so statistics of its features have no use")


def protocol_of(extractor: FeatureExtractor, clip_shape: Sequence[int]) -> dict[str, Any]:
  """The fields that must be equal on both sides, for clips (T, H, W, C)."""
  return {
    "extractor": extractor.label,
    "extractor_hash": extractor.hash,
    # The hash covers the tensors only.
    "description": json.dumps([extractor.weights.settings, extractor.weights.preprocessing], sort_keys=True),
    "layer": "logits" if Need.LOGITS in frechet_metric(extractor.network).needs else "features",
    "input": extractor.protocol(clip_shape),
    "divisor": "N - 1" if extractor.unbiased else "N",
    "clip": "x".join(map(str, clip_shape)),
  }


def statistics_of(
  extractor: FeatureExtractor, features: Features, *, clip_shape: Sequence[int], facts: Mapping[str, Any]
) -> SetStatistics:
  """The statistics of a set of clips (T, H, W, C); `facts` are those of `ClipSet`.

  Raises:
    UserError: if there are fewer than two clips.
  """
  if len(features) < 2:
    raise UserError(f"a covariance needs two clips, got {len(features)}")
  protocol = protocol_of(extractor, clip_shape)
  mean, covariance = moments(features.vectors(protocol["layer"]), unbiased=extractor.unbiased)
  protocol |= {"clips": dict(facts), "versions": versions()}
  return SetStatistics(mean=mean, covariance=covariance, count=len(features), protocol=protocol)


def check_protocol(real: SetStatistics, fake: Mapping[str, Any]) -> None:
  """Raises a UserError if a field of `protocol_of` the fake set differs from that of the real one."""
  for name in _FIELDS:
    expected, found = real.protocol.get(name), fake.get(name)
    if expected != found:
      raise UserError(
        f"the statistics of --real have {name} {expected!r}, the clips of --fake {found!r}; make both by one protocol "
        "with `vidgen features --stats`"
      )


def distance(real: SetStatistics, fake: SetStatistics) -> float:
  """The Frechet distance of two sets; UserError if their protocols or numbers of features differ."""
  check_protocol(real, fake.protocol)
  if real.mean.shape != fake.mean.shape:
    raise UserError(
      f"the statistics of --real have {real.mean.size} features, the clips of --fake {fake.mean.size}; write them "
      "again with `vidgen features --stats`"
    )
  return frechet_of_moments(real.mean, real.covariance, fake.mean, fake.covariance)


def score_by_statistics(extractor: FeatureExtractor, real: SetStatistics, fake: SetStatistics) -> Score:
  """The score of a set, from the statistics of both sets; see `distance`."""
  metric = frechet_metric(extractor.network)
  layer = "logits" if fake.protocol["layer"] == "logits" else "last layer but one"
  divisor = "(N - 1)" if extractor.unbiased else "N"
  return Score(
    metric=metric.row,
    value=distance(real, fake),
    subject=fake.name,
    protocol=", ".join([layer, fake.protocol["input"], metric.protocol.format(divisor=divisor)]),
    split=real.name,
    num_clips=real.count,
    num_generated=fake.count,
    window=real.protocol["clips"]["window"],
    extractor=extractor.label,
    extractor_hash=extractor.hash,
    clip=fake.protocol["clip"],
  )


def write_statistics(path: Path, statistics: SetStatistics) -> None:
  """Writes mean, covariance, count and protocol to an .npz file, atomically."""
  protocol = np.array(json.dumps(dict(statistics.protocol)))
  with atomic_write(path) as temporary:
    np.savez(
      temporary, mean=statistics.mean, covariance=statistics.covariance, count=statistics.count, protocol=protocol
    )


def read_statistics(path: str) -> SetStatistics | None:
  """Reads a file of `write_statistics`; None if `path` is anything else.

  Raises:
    UserError: if the file is one, but damaged.
  """
  file = Path(path).expanduser()
  if file.suffix != ".npz" or not file.is_file():
    return None
  try:
    # np.load leaves a path open if the archive is damaged.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
      if not {"mean", "covariance", "count"} <= set(stored.files):
        return None
      mean, covariance, count = (stored[name] for name in ("mean", "covariance", "count"))
      protocol = json.loads(str(stored["protocol"]))
    statistics = SetStatistics(mean=mean, covariance=covariance, count=int(count), protocol=protocol)
    _check(statistics)
    return statistics
  except DAMAGED_ARRAY_ERRORS as error:
    if isinstance(error, zipfile.BadZipFile):
      return None  # The reader of arrays describes the damage.
    raise UserError(f"{path} holds no usable statistics ({error}); write it again with `vidgen features`") from error


def _check(statistics: SetStatistics) -> None:
  """Raises a ValueError, KeyError or TypeError for values that `write_statistics` never writes."""
  mean, covariance, facts = statistics.mean, statistics.covariance, statistics.protocol["clips"]
  if mean.ndim != 1 or covariance.shape != mean.shape * 2 or {mean.dtype.kind, covariance.dtype.kind} != {"f"}:
    raise ValueError(f"mean {mean.dtype} {mean.shape}, covariance {covariance.dtype} {covariance.shape}")
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise ValueError("values that are not finite")
  scale = np.abs(covariance).max(initial=0.0)
  if not np.allclose(covariance, covariance.T, rtol=0.0, atol=1e-6 * scale):
    raise ValueError("a covariance that is not symmetric")
  if np.linalg.eigvalsh(covariance.astype(np.float64)).min(initial=0.0) < -1e-6 * scale * len(mean):
    raise ValueError("a covariance with negative variances")
  if statistics.count < 2:
    raise ValueError(f"a covariance of {statistics.count} clips")
  texts = [*(statistics.protocol[name] for name in _FIELDS), facts["source"], facts["window"]]
  numbers = [*facts["fps"], facts["frame_stride"]]
  if not all(isinstance(text, str) for text in texts) or not all(0 < number < np.inf for number in numbers):
    raise ValueError("a protocol with other values")
