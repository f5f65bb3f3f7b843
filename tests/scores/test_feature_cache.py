"""The cache of features: what an entry depends on, and entries and folders that cannot be used."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from vidgen_jax.scores import feature_cache
from vidgen_jax.scores.extraction import Features
from vidgen_jax.scores.feature_cache import cache_folder, cached_features


@dataclasses.dataclass
class Extractor:
  settings: dict = dataclasses.field(default_factory=dict)
  preprocessing: dict = dataclasses.field(default_factory=dict)
  count: int = 0
  network, label, hash = "r3d18", "r3d18, 3 classes", "0123"

  @property
  def weights(self):
    return SimpleNamespace(settings=self.settings, preprocessing=self.preprocessing)

  def protocol(self, clip_shape):
    return "16x16"

  def extract_all(self, clips, *, description):
    self.count += 1
    return {"": Features(np.full((len(clips), 3), self.count, np.float32), np.zeros((len(clips), 0), np.float32))}


class Clips:
  clip_shape = (4, 16, 16, 3)

  def __len__(self):
    return 5

  def digests(self):
    return [b"1"] * 5


def test_entries_depend_on_the_description_of_the_weights(tmp_path):
  for extractor in (Extractor(), Extractor({"num_heads": 2}), Extractor({}, {"mean": [0.1] * 3})):
    for _ in range(2):
      assert len(cached_features(extractor, Clips(), folder=tmp_path)) == 5
    assert extractor.count == 1


def test_damaged_entries_are_computed_again(tmp_path, caplog):
  cached_features(Extractor(), Clips(), folder=tmp_path)
  (entry,) = tmp_path.iterdir()
  data, generator = entry.read_bytes(), np.random.default_rng(0)
  for _ in range(200):
    changed = bytearray(data)
    changed[generator.integers(len(data))] ^= 1 << generator.integers(8)
    entry.write_bytes(changed)
    found = feature_cache._read(entry, 5)
    assert found is None or (found.features == 1).all()
  assert "cannot be used and is ignored" in caplog.text


@pytest.mark.parametrize("name", ["file/below", "n" * 300])
def test_folders_that_cannot_be_used_cache_nothing(name, tmp_path, monkeypatch, caplog):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / name))
  extractor = Extractor()
  for _ in range(2):
    cached_features(extractor, Clips(), folder=cache_folder())
  assert extractor.count == 2 and "features are not cached" in caplog.text


def test_unknown_home_folder(monkeypatch):
  monkeypatch.setenv("VIDGEN_CACHE", "~nobody_has_this_name/cache")
  assert str(cache_folder()) == "~nobody_has_this_name/cache"
