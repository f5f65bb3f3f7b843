"""Decoding by several processes, some of which die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidgen_jax.data.decode import DecodeOptions
from vidgen_jax.data.decoding import Decoder, stage_all
from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.data.listing import Source
from vidgen_jax.data.staging import StagingCache

PNG = FrameEncoding(encoding="png")


class CrashingSource(Source):
  """One of its files takes the process that opens it along, as a decoder does that meets damage it does not expect."""

  def open(self, path):
    if path == "a/03.png":
      os.kill(os.getpid(), signal.SIGSEGV)
    return super().open(path)


@pytest.fixture
def folder(tmp_path, strip, marked_clip):
  """Eight clips of 5 frames; the file's number is their red value."""
  (tmp_path / "source" / "a").mkdir(parents=True)
  for clip in range(8):
    (tmp_path / "source" / "a" / f"{clip:02d}.png").write_bytes(strip(marked_clip(clip, 5)))
  return tmp_path / "source"


def _decoder(source, root, **changes):
  return Decoder(source, StagingCache(root / "decoded"), DecodeOptions(**{"encoding": PNG} | changes))


def test_a_video_that_kills_its_process_is_skipped_and_the_others_are_not(folder):
  source = CrashingSource(folder)
  results = stage_all(_decoder(source, folder.parent), source.files(), num_workers=2)
  assert [entry.file.path for entry in results] == [f"a/{clip:02d}.png" for clip in range(8)]
  assert {entry.file.path: entry.reason for entry in results if entry.cached is None} == {
    "a/03.png": "makes the decoder crash"
  }


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_number_of_processes_stores_the_same(folder, num_workers):
  source = Source(folder)
  decoder = _decoder(source, folder.parent)
  results = stage_all(decoder, source.files(), num_workers=num_workers)
  videos = [decoder.cache.read(entry.cached) for entry in results]
  expected = [decoder.cache.read(decoder.stage(file).cached) for file in source.files()]
  assert videos == expected
  assert [entry.facts["frames"] for entry in results] == [5] * 8
  assert not list((folder.parent / "decoded").rglob("*.unfinished"))


def test_what_is_decoded_is_told_from_the_cache_like_anew(folder):
  source = Source(folder)
  decoder = _decoder(source, folder.parent, size=4, strip_fps=10.0)
  anew, again = ([decoder.stage(file) for file in source.files()] for _ in range(2))
  assert anew == again
  assert anew[0].facts == {
    "frames": 5,
    "fps": 10.0,
    "height": 4,
    "width": 4,
    "source_height": 8,
    "source_width": 8,
    "cuts": (),
    "damage": "",
  }


def test_a_stride_keeps_every_so_many_th_frame_and_divides_the_rate(folder, tmp_path, video):
  levels = [0, 40, 80, 120, 160, 200, 240]
  (folder / "b").mkdir()
  video(folder / "b" / "x.avi", levels, codec="mjpeg", container="avi", rate=24)
  source = Source(folder)
  decoder = _decoder(source, tmp_path, stride=3, strip_fps=12.0)
  strips, others = (
    [decoder.stage(file) for file in source.files() if file.class_name == class_name] for class_name in "ab"
  )
  assert {(entry.facts["frames"], entry.facts["fps"]) for entry in strips} == {(2, 4.0)}
  assert [(entry.facts["frames"], entry.facts["fps"]) for entry in others] == [(3, 8.0)]


def test_other_options_are_other_videos_but_threads_are_not(folder, tmp_path):
  (file, *_) = Source(folder).files()
  stage = lambda **changes: _decoder(Source(folder), tmp_path, **changes).stage(file).cached
  assert stage(threads="NONE") == stage(threads="AUTO")
  assert len({stage(), stage(size=4), stage(stride=2), stage(strip_fps=1.0), stage(encoding=FrameEncoding())}) == 5


def test_processes_end_when_their_parent_is_killed(folder, repository):
  program = (
    "import sys, time\n"
    "from vidgen_jax.data import decoding, listing, staging, decode\n"
    "from pathlib import Path\n"
    "if __name__ == '__main__':\n"
    "  source = listing.Source(sys.argv[1])\n"
    "  decoder = decoding.Decoder(source, staging.StagingCache(Path(sys.argv[2])), decode.DecodeOptions())\n"
    "  executor = decoding._executor(decoder, 2)\n"
    "  [f.result() for f in [executor.submit(decoding._stage, file) for file in source.files()]]\n"
    "  print(*executor._processes, flush=True)\n"
    "  time.sleep(60)\n"
  )
  command = [sys.executable, "-c", program, str(folder), str(folder.parent / "cache")]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
    workers = [int(word) for word in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
  assert workers
  deadline = time.monotonic() + 20
  while any(_is_alive(pid) for pid in workers) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(_is_alive(pid) for pid in workers)


def _is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_reason_of_a_missing_file_is_its_own(folder):
  (file, *_) = Source(folder).files()
  decoder = _decoder(Source(folder), folder.parent)
  (folder / file.path).unlink()
  assert decoder.stage(file).reason == "cannot be read: No such file or directory"
