import pytest

from vidgen_jax.data.decode import DecodedVideo
from vidgen_jax.data.staging import StagingCache

VIDEO = DecodedVideo(
  frames=(b"first", b"", b"third frame"), fps=29.97, height=3, width=4, source_height=6, source_width=8
)


def test_what_is_written_is_read(tmp_path):
  cache = StagingCache(tmp_path / "decoded")
  path = cache.path("a/b.mp4", "12 34", 64, "png")
  assert cache.read(path) is None
  cache.write(path, VIDEO)
  assert cache.read(path) == VIDEO
  assert StagingCache(tmp_path / "decoded").path("a/b.mp4", "12 34", 64, "png") == path
  assert cache.path("a/b.mp4", "12 34", 65, "png") != path


def test_a_damaged_file_counts_as_absent(tmp_path):
  cache = StagingCache(tmp_path)
  path = cache.path("a")
  cache.write(path, VIDEO)
  whole = path.read_bytes()
  for data in (b"", whole[:10], whole[: len(whole) // 2]):
    path.write_bytes(data)
    assert cache.read(path) is None


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
  def full_disk(file, **arrays):
    file.write(b"half")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("numpy.savez", full_disk)
  cache = StagingCache(tmp_path)
  with pytest.raises(OSError, match="No space"):
    cache.write(cache.path("a"), VIDEO)
  assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
