"""The cache of features: what an entry depends on, and entries and folders that cannot be used."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from vidgen_jax.scores import feature_cache
from vidgen_jax.scores.extraction import Features
from vidgen_jax.scores.feature_cache import cache_folder, cached_features


@dataclasses.dataclass(kw_only=True)
class Extractor:
  settings: dict = dataclasses.field(default_factory=dict)
  preprocessing: dict = dataclasses.field(default_factory=dict)
  network: str = "r3d18"
  hash: str = "0123"
  input: str = "16x16"
  count: int = 0
  label = "r3d18, 3 classes"

  @property
  def weights(self):
    return SimpleNamespace(settings=self.settings, preprocessing=self.preprocessing)

  def protocol(self, clip_shape):
    return self.input

  def extract_all(self, clips, *, description):
    self.count += 1
    return {"": Features(np.full((len(clips), 3), self.count, np.float32), np.zeros((len(clips), 0), np.float32))}


@dataclasses.dataclass
class Clips:
  content: bytes = b"1"
  clip_shape: tuple = (4, 16, 16, 3)

  def __len__(self):
    return 5

  def digests(self):
    return [self.content] * 5


def test_entries_depend_on_all_that_features_depend_on(tmp_path, monkeypatch):
  changes = ({}, {"settings": {"num_heads": 2}}, {"preprocessing": {"mean": [0.1] * 3}})
  changes += ({"network": "tsn"}, {"hash": "4567"}, {"input": "8x8"})
  cases = [*((Extractor(**change), Clips()) for change in changes), (Extractor(), Clips(b"2"))]
  cases.append((Extractor(), Clips(clip_shape=(5, 16, 16, 3))))
  for code in ("first", "second"):
    monkeypatch.setattr(feature_cache, "_code_hash", lambda code=code: code)
    for extractor, clips in cases:
      extractor.count = 0
      for _ in range(2):
        assert len(cached_features(extractor, clips, folder=tmp_path)) == 5
      assert extractor.count == 1, (extractor, clips)


@pytest.mark.parametrize("part", ["scores/networks", "ops", "nn"])
def test_the_code_of_networks_and_their_operations_counts(part, tmp_path, monkeypatch):
  monkeypatch.setattr(feature_cache.vidgen_jax, "__file__", str(tmp_path / "__init__.py"))
  (tmp_path / part).mkdir(parents=True)
  found = []
  for text in ("x = 1", "x = 2"):
    (tmp_path / part / "a.py").write_text(text)
    found.append(feature_cache._code_hash.__wrapped__())
  assert found[0] != found[1]


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
  entry.write_bytes(data)
  assert feature_cache._read(entry, 5) is not None and feature_cache._read(entry, 4) is None
  np.savez(entry, **dict(np.load(entry)) | {"features": np.zeros((5, 3), np.float32)})
  assert feature_cache._read(entry, 5) is None
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
