"""Files of statistics: equal after a round trip, refused if damaged or changed."""

import dataclasses
import json

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.set_statistics import SetStatistics, distance, read_statistics, write_statistics

_X = np.random.default_rng(0).normal(size=(20, 4))
_TEXTS = ("extractor", "extractor_hash", "description", "layer", "input", "divisor", "clip")
_FACTS = {"source": "real", "window": "all frames", "fps": [25.0], "frame_stride": 1, "content": None}
STATISTICS = SetStatistics(
  mean=_X.mean(axis=0),
  covariance=np.cov(_X.T),
  count=20,
  protocol={**dict.fromkeys(_TEXTS, "text"), "clips": _FACTS, "versions": {}},
)


def test_damaged_files_are_never_other_statistics(tmp_path):
  path = tmp_path / "x.npz"
  write_statistics(path, STATISTICS)
  data, generator = path.read_bytes(), np.random.default_rng(0)
  for _ in range(300):
    changed = bytearray(data)
    changed[generator.integers(len(data))] ^= 1 << generator.integers(8)
    path.write_bytes(changed)
    try:
      found = read_statistics(str(path))
    except UserError:
      continue
    if found is not None:
      np.testing.assert_array_equal(found.mean, STATISTICS.mean)
      np.testing.assert_array_equal(found.covariance, STATISTICS.covariance)
      assert (found.count, found.protocol) == (20, STATISTICS.protocol)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"mean": np.full(4, np.nan)}, "values that are not finite"),
    ({"mean": np.zeros(5)}, r"mean float64 \(5,\), covariance float64 \(4, 4\)"),
    ({"mean": np.zeros(4, np.complex64)}, "mean complex64"),
    ({"mean": np.array(["1"] * 4)}, "mean <U1"),
    ({"mean": np.array([{}] * 4)}, "allow_pickle=False"),
    ({"covariance": -np.eye(4)}, "negative variances"),
    ({"covariance": np.eye(4) + np.eye(4, k=1)}, "not symmetric"),
    ({"count": 1}, "covariance of 1 clips"),
    ({"count": np.arange(2)}, "."),
    ({"protocol": np.array("[]")}, "."),
    ({"protocol": np.array("{")}, "."),
    ({"protocol": np.array(json.dumps({**STATISTICS.protocol, "clips": _FACTS | {"window": None}}))}, "other values"),
    ({"protocol": np.array(json.dumps({**STATISTICS.protocol, "clips": _FACTS | {"fps": ["25"]}}))}, "."),
    ({"protocol": np.array(json.dumps({**STATISTICS.protocol, "clips": _FACTS | {"frame_stride": 0}}))}, "."),
  ],
)
def test_changed_files_are_refused(change, reason, tmp_path):
  path = tmp_path / "x.npz"
  write_statistics(path, STATISTICS)
  np.savez(path, **dict(np.load(path)) | change)
  with pytest.raises(UserError, match=rf"holds no usable statistics \(.*{reason}"):
    read_statistics(str(path))


def test_statistics_of_another_size_are_refused():
  wide = dataclasses.replace(STATISTICS, mean=np.zeros(1), covariance=np.eye(1))
  with pytest.raises(UserError, match=r"--real have 1 features, the clips of --fake 4"):
    distance(wide, STATISTICS)
