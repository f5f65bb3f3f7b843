"""Reading videos, decoding them in several processes, some of which crash, and the cache on disk."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets.miniatures import grey, image
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.data.staging import Decoder, load_facts, load_video, read_video, save_video, stage_all
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError

PNG = FrameEncoding(encoding="png")
VIDEO = DecodedVideo(
  frames=[b"first", b"", b"third frame"],
  fps=29.97,
  source_fps=59.94,
  height=3,
  width=4,
  source_height=6,
  source_width=8,
  cuts=[1],
  parts=[[0, 1], [1, 3]],
)


def read(root, path="x", images=(), **options):
  """Reads a video without loss."""
  file = SourceFile(path=path, class_name="c", split="train", stamp="s", images=images)
  with Source(root) as source:
    return read_video(source, file, DecodeOptions(encoding=PNG, threads="NONE", **options))


def levels(decoded):
  """Mean grey of every frame."""
  return [round(float(np.mean(Image.open(io.BytesIO(frame))))) for frame in decoded.frames]


def test_read_video_file(tmp_path):
  grey(tmp_path / "a.mp4", [40, 80, 120, 160])
  decoded = read(tmp_path, path="a.mp4", size=16, stride=2)
  np.testing.assert_allclose(levels(decoded), [40, 120], atol=3)
  assert (decoded.height, decoded.width, decoded.source_height, decoded.source_width) == (16, 24, 32, 48)
  # 25 frames per second in the file, every second one stored.
  assert decoded.fps == 12.5
  (tmp_path / "b.mp4").write_bytes(bytes(1000))
  with pytest.raises(UnreadableVideoError, match="corrupt or not a video"):
    read(tmp_path, path="b.mp4")


@pytest.mark.parametrize(("options", "parts"), [({}, [[0, 2], [2, 4]]), ({"stride": 3}, [[0, 1], [1, 2]])])
def test_parts_count_the_frames_of_the_file(tmp_path, options, parts):
  # With a stride, frames 0 and 3 are stored; with 50 frames per second each frame twice.
  grey(tmp_path / "a.mp4", [40, 80, 120, 160])
  file = SourceFile(path="a.mp4", class_name="c", split="train", stamp="s", parts=((0, 2), (2, 9)))
  with Source(tmp_path) as source:
    assert read_video(source, file, DecodeOptions(encoding=PNG, **options)).parts == parts
    assert read_video(source, file, DecodeOptions(encoding=PNG, fps=50.0)).parts == [[0, 3], [3, 8]]


def test_read_images_in_the_listed_order(tmp_path):
  for name, level in (("1.jpg", 10), ("2.jpg", 60), ("3.jpg", 110)):
    (tmp_path / name).write_bytes(image(level, size=(24, 16)))
  decoded = read(tmp_path, images=("3.jpg", "1.jpg", "2.jpg"), source_fps=12.0, size=8)
  assert levels(decoded) == [110, 10, 60]
  assert (decoded.fps, decoded.cuts, decoded.height, decoded.width) == (12.0, [], 8, 12)
  strided = read(tmp_path, images=("3.jpg", "1.jpg", "2.jpg"), source_fps=12.0, stride=2)
  assert (levels(strided), strided.fps) == ([110, 60], 6.0)
  # At 0, 1/24, 2/24, ... seconds: half way between two frames the later one is taken.
  doubled = read(tmp_path, images=("3.jpg", "1.jpg", "2.jpg"), source_fps=12.0, fps=24.0)
  assert (levels(doubled), doubled.fps, doubled.source_fps) == ([110, 10, 10, 60, 60, 60], 24.0, 12.0)
  with pytest.raises(UnreadableVideoError, match="frame rate is unknown, which --fps needs; pass --source_fps"):
    read(tmp_path, images=("3.jpg", "1.jpg", "2.jpg"), fps=24.0)
  with pytest.raises(FileNotFoundError):
    read(tmp_path, images=("4.jpg",))


def _noise(image_format):
  """A 24x16 image whose pixels take more bytes than its header."""
  buffer = io.BytesIO()
  pixels = np.random.default_rng(0).integers(256, size=(16, 24, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(buffer, image_format, **({"quality": 95} if image_format == "JPEG" else {}))
  return buffer.getvalue()


def _deep_image():
  buffer = io.BytesIO()
  Image.fromarray(np.zeros((16, 24), np.uint16)).save(buffer, "PNG")
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("second", "message"),
  [
    (lambda: image(0, size=(24, 18)), r"the size changes from \(24, 16\) to \(24, 18\) after 1 frames"),
    (lambda: _noise("JPEG")[:-100], "2.jpg: corrupt image: "),
    (lambda: _noise("PNG")[:400], "2.jpg: corrupt image: "),
    (lambda: b"", "2.jpg is no image"),
    (lambda: b"Just a few words.", "2.jpg is no image"),
    (_deep_image, "2.jpg: image of more than 8 bits a channel"),
  ],
)
def test_damaged_image_gives_the_reason(tmp_path, second, message):
  (tmp_path / "1.jpg").write_bytes(image(0, size=(24, 16)))
  (tmp_path / "2.jpg").write_bytes(second())
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, images=("1.jpg", "2.jpg"))


def test_the_cache_returns_what_was_written(tmp_path):
  path = tmp_path / "decoded" / "a.npz"
  assert load_facts(path) is None
  facts = save_video(path, VIDEO)
  assert load_video(path) == VIDEO
  assert load_facts(path) == facts
  assert (facts["frames"], facts["cuts"], facts["fps"]) == (3, [1], 29.97)


def test_cache_treats_a_damaged_file_as_absent(tmp_path):
  path = tmp_path / "a.npz"
  save_video(path, VIDEO)
  whole = path.read_bytes()
  for data in (b"", whole[:10], whole[: len(whole) // 2]):
    path.write_bytes(data)
    assert load_facts(path) is None


def test_cache_treats_a_file_with_other_fields_as_absent(tmp_path):
  path = tmp_path / "a.npz"
  facts = save_video(path, VIDEO)
  np.savez(path, facts=np.array(json.dumps({name: facts[name] for name in facts if name != "frames"})))
  assert load_facts(path) is None


def test_cache_leaves_nothing_after_a_failed_write(tmp_path, monkeypatch):
  def full_disk(file, **arrays):
    file.write_bytes(b"half")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("numpy.savez", full_disk)
  with pytest.raises(UserError, match="cannot be written: No space"):
    save_video(tmp_path / "a.npz", VIDEO)
  assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class CrashingSource(Source):
  """Opening one of its files crashes the process, as a decoder may do on unexpected damage."""

  def open(self, path):
    if path == "a/03.png":
      os.kill(os.getpid(), signal.SIGSEGV)
    return super().open(path)


@pytest.fixture
def folder(tmp_path, strip, marked_clip):
  """Eight clips of 5 frames; the number of the file is the red value."""
  (tmp_path / "source" / "a").mkdir(parents=True)
  for clip in range(8):
    (tmp_path / "source" / "a" / f"{clip:02d}.png").write_bytes(strip(marked_clip(clip, 5)))
  return tmp_path / "source"


def _decoder(source, root, **changes):
  return Decoder(source, root / "decoded", DecodeOptions(**{"encoding": PNG} | changes))


def test_a_crashing_video_is_skipped_and_the_others_are_decoded(folder):
  source = CrashingSource(folder)
  results = stage_all(_decoder(source, folder.parent), source.files(), num_workers=2)
  assert [entry.file.path for entry in results] == [f"a/{clip:02d}.png" for clip in range(8)]
  assert {entry.file.path: entry.reason for entry in results if entry.cached is None} == {
    "a/03.png": "makes the decoder crash"
  }


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_number_of_processes_does_not_change_the_frames(folder, num_workers):
  source = Source(folder)
  decoder = _decoder(source, folder.parent)
  results = stage_all(decoder, source.files(), num_workers=num_workers)
  videos = [load_video(entry.cached) for entry in results]
  expected = [load_video(decoder.stage(file).cached) for file in source.files()]
  assert videos == expected
  assert [entry.facts["frames"] for entry in results] == [5] * 8
  assert len([path for path in (folder.parent / "decoded").rglob("*") if path.is_file()]) == 8


def test_facts_from_the_cache_equal_those_of_decoding(folder):
  source = Source(folder)
  decoder = _decoder(source, folder.parent, size=4, source_fps=10.0)
  decoded, cached = ([decoder.stage(file) for file in source.files()] for _ in range(2))
  assert decoded == cached
  assert decoded[0].facts == {
    "frames": 5,
    "fps": 10.0,
    "source_fps": 10.0,
    "height": 4,
    "width": 4,
    "source_height": 8,
    "source_width": 8,
    "cuts": [],
    "parts": [],
    "damage": "",
    "variable_rate": "",
    "conversions": {},
  }


def test_stride_skips_frames_and_divides_the_frame_rate(folder, tmp_path, video):
  (folder / "b").mkdir()
  video(folder / "b" / "x.avi", [0, 40, 80, 120, 160, 200, 240], codec="mjpeg", container="avi", rate=24)
  source = Source(folder)
  decoder = _decoder(source, tmp_path, stride=3, source_fps=12.0)
  strips, others = (
    [decoder.stage(file) for file in source.files() if file.class_name == class_name] for class_name in "ab"
  )
  assert {(entry.facts["frames"], entry.facts["fps"]) for entry in strips} == {(2, 4.0)}
  assert [(entry.facts["frames"], entry.facts["fps"]) for entry in others] == [(3, 8.0)]


def test_the_cache_path_depends_on_options_but_not_on_threads(folder, tmp_path):
  (file, *_) = Source(folder).files()
  stage = lambda **changes: _decoder(Source(folder), tmp_path, **changes).stage(file).cached
  assert stage(threads="NONE") == stage(threads="AUTO")
  assert len({stage(), stage(size=4), stage(stride=2), stage(source_fps=1.0), stage(encoding=FrameEncoding())}) == 5


def test_workers_exit_when_their_parent_is_killed(folder, repository):
  program = (
    "import sys, time\n"
    "from vidgen_jax.data import decode, listing, staging\n"
    "from pathlib import Path\n"
    "if __name__ == '__main__':\n"
    "  source = listing.Source(sys.argv[1])\n"
    "  decoder = staging.Decoder(source, Path(sys.argv[2]), decode.DecodeOptions())\n"
    "  isolated = [staging.IsolatedDecoder(decoder) for _ in range(2)]\n"
    "  [decoder.stage(file) for decoder in isolated for file in source.files()]\n"
    "  print(*(pid for decoder in isolated for pid in decoder._executor._processes), flush=True)\n"
    "  time.sleep(60)\n"
  )
  command = [sys.executable, "-c", program, str(folder), str(folder.parent / "cache")]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
    workers = [int(word) for word in process.stdout.readline().split()]
    process.send_signal(signal.SIGKILL)
  assert workers
  deadline = time.monotonic() + 60
  while any(_is_alive(pid) for pid in workers) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(_is_alive(pid) for pid in workers)


def _is_alive(pid):
  try:
    os.kill(pid, 0)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except (ProcessLookupError, FileNotFoundError):
    return False


def test_a_file_that_disappears_is_skipped_with_the_reason(folder):
  (file, *_) = Source(folder).files()
  decoder = _decoder(Source(folder), folder.parent)
  (folder / file.path).unlink()
  assert decoder.stage(file).reason == "cannot be read: No such file or directory"
