"""Builds with Apache Beam on this machine."""

import filecmp
import json
import os
import signal

import pytest

from vidgen_jax.data import beam_pipeline, building
from vidgen_jax.data.datasets import video_folder
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.decode import DecodeOptions
from vidgen_jax.data.listing import Source
from vidgen_jax.data.staging import Decoder
from vidgen_jax.errors import UserError

pytest.importorskip("apache_beam", reason="Apache Beam (extra beam) is not installed")


class CrashingSource(Source):
  """Opening one of its files crashes the process."""

  def open(self, path):
    if path == "b/1.png":
      os.kill(os.getpid(), signal.SIGSEGV)
    return super().open(path)


@pytest.fixture
def folder(tmp_path, strip, marked_clip):
  """Twelve strips of 6 frames in two classes, one of them damaged; the number of the file is the red value."""
  for clip in range(12):
    path = tmp_path / "source" / "ab"[clip % 2] / f"{clip}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(strip(marked_clip(clip, 6)) if clip != 5 else b"no video")
  return tmp_path / "source"


def _options(folder, built, **changes):
  values = {"source": str(folder), "name": "clips", "data_dir": str(folder.parent / built), "encoding": "png"}
  return VideoFolderOptions(**values | {"clip_frames": 3, "source_fps": 12.0} | changes)


def test_builds_with_and_without_beam_are_bitwise_equal(folder, monkeypatch):
  first = build_video_folder(_options(folder, "first", fps=6.0))
  with monkeypatch.context() as patched:
    patched.delattr(video_folder, "stage_all")  # Beam decodes, not the local process pool.
    second = build_video_folder(_options(folder, "second", fps=6.0, beam_options=["runner=DirectRunner"]))
  names = building.file_names(first)
  assert names == building.file_names(second)
  assert filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])
  listed = json.loads((second / "manifest.json").read_text())["sources"]
  assert [entry["source"] for entry in listed if entry["status"] == "skipped"] == ["b/5.png"]
  # Three frames of six are stored of each of eleven strips.
  assert sum(entry.get("clips", 0) for entry in listed) == 11
  assert not (folder.parent / "second" / ".incomplete").exists()


def test_a_crashing_video_does_not_end_the_pipeline(folder):
  files = Source(folder).files()
  decoder = Decoder(CrashingSource(folder), folder.parent / "decoded", DecodeOptions())
  run = beam_pipeline.parse_options(["runner=DirectRunner"])
  results = beam_pipeline.stage_all(decoder, files, run, folder=folder.parent)
  assert [entry.file for entry in results] == files
  skipped = {entry.file.path: entry.reason for entry in results if entry.cached is None}
  assert skipped.pop("b/1.png") == "makes the decoder crash"
  assert list(skipped) == ["b/5.png"]
  # The facts about the others equal those without Beam.
  assert [entry for entry in results if entry.cached] == [
    decoder.stage(entry.file) for entry in results if entry.cached
  ]


@pytest.mark.parametrize(
  ("option", "message"),
  [("DirectRunner", "NAME=VALUE"), ("--runner=DirectRunner", "without dashes"), ("runer=x", "no option runer")],
)
def test_invalid_beam_options_are_refused(folder, option, message):
  with pytest.raises(UserError, match=message):
    build_video_folder(_options(folder, "built", beam_options=[option]))


def test_missing_beam_names_the_extra(folder, monkeypatch):
  monkeypatch.setattr(beam_pipeline.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"vidgen-jax\[beam\]"):
    build_video_folder(_options(folder, "built", beam_options=["runner=DirectRunner"]))
