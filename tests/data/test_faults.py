"""Builds from damaged files, and builds that are killed."""

import contextlib
import filecmp
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from vidgen_jax.data import building, records, verification
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder

NUM_DAMAGED = 200


def _noisy_video(codec, container, seed):
  """A video of 20 frames of moving noise."""
  buffer, image = io.BytesIO(), np.random.default_rng(seed).integers(256, size=(32, 48, 3), dtype=np.uint8)
  with av.open(buffer, "w", format=container) as output:
    stream = output.add_stream(codec, rate=Fraction(25))
    stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
    for shift in range(20):
      frame = av.VideoFrame.from_ndarray(np.roll(image, shift, axis=1), format="rgb24")
      output.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
    output.mux(stream.encode())
  return buffer.getvalue()


def _truncate(data, draw):
  return data[: draw.randrange(1, len(data))]


def _flip_bits(data, draw):
  damaged = bytearray(data)
  for _ in range(draw.choice([1, 8, 64])):
    damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
  return bytes(damaged)


def _text(data, draw):
  return "".join(draw.choices("abc \n", k=500)).encode()


def _zeros(data, draw):
  return bytes(draw.choice([0, 1, 5000]))


DAMAGES = (_truncate, _flip_bits, _text, _zeros)


@pytest.fixture(scope="module")
def kinds():
  codecs = [("mpeg4", "mp4"), ("mpeg4", "avi"), ("mjpeg", "avi"), ("libx264", "mp4"), ("libvpx-vp9", "webm")]
  return [(container, _noisy_video(codec, container, seed)) for seed, (codec, container) in enumerate(codecs)]


def test_200_damaged_videos_are_listed_and_the_good_ones_are_used(tmp_path, kinds):
  draw, damaged = random.Random(0), {}
  for number in range(NUM_DAMAGED):
    container, data = kinds[number % len(kinds)]
    damage = DAMAGES[number // len(kinds) % len(DAMAGES)]
    damaged[f"{damage.__name__}/{number:03d}.{container}"] = damage(data, draw)
  good = {f"_{name}/good{number}.{name}": data for number, (name, data) in enumerate(kinds)}
  for name, data in (damaged | good).items():
    path = tmp_path / "source" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  options = {"source": str(tmp_path / "source"), "name": "clips", "data_dir": str(tmp_path), "max_skipped": 1.0}
  built = build_video_folder(VideoFolderOptions(**options, split_group="file"))
  listed = {entry["source"]: entry for entry in json.loads((built / "manifest.json").read_text())["sources"]}
  assert set(listed) == set(damaged) | set(good)
  for name, entry in listed.items():
    if name in good:
      assert (entry["status"], entry["frames"], "damage" in entry) == ("used", 20, False)
    elif name.startswith(("_text/", "_zeros/")):
      assert (entry["status"], bool(entry["reason"])) == ("skipped", True)
    else:
      # Partly readable videos are used up to the damage.
      assert entry["status"] == "skipped" or entry["frames"] >= 2
  truncated = [entry for name, entry in listed.items() if name.startswith("_truncate/")]
  # Truncated videos are reported as damaged, except WebM, which does not contain its length.
  unreported = {entry["source"] for entry in truncated if entry["status"] == "used" and "damage" not in entry}
  assert all(name.endswith(".webm") and listed[name]["frames"] < 20 for name in unreported)
  assert sum(entry["status"] == "used" for entry in truncated) > 0
  assert verification.verify_dataset("clips", tmp_path).problems == ()


@pytest.mark.slow
def test_a_build_killed_three_times_gives_the_same_bytes(tmp_path, kinds):
  for number in range(40):
    container, data = kinds[number % len(kinds)]
    path = tmp_path / "source" / f"{number % 2}" / f"{number:02d}.{container}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  command = [sys.executable, "-m", "vidgen_jax", "data", "build", "video_folder", "--name=clips", "--size=16"]
  command += [f"--source={tmp_path / 'source'}", "--clip_frames=5", "--num_workers=2"]
  expected, found = (records.dataset_directory("clips", tmp_path / name) for name in ("undisturbed", "killed"))
  with _started(command, tmp_path / "undisturbed") as process:
    begun = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - begun
  draw, moments = random.Random(1), []
  while len(moments) < 3:
    with _started(command, tmp_path / "killed") as process:
      moment = draw.uniform(0, duration)
      time.sleep(moment)
      process.send_signal(signal.SIGKILL)
    if found.exists():  # It was complete already: start again.
      shutil.rmtree(found)
    else:
      moments.append(moment)
  with _started(command, tmp_path / "killed") as process:
    assert process.wait() == 0
  names = building.file_names(expected)
  assert names == building.file_names(found)
  assert filecmp.cmpfiles(expected, found, names, shallow=False) == (names, [], [])


@contextlib.contextmanager
def _started(command, data_dir):
  """A build that has started to work."""
  lock = data_dir / ".incomplete" / "clips" / "lock"
  lock.unlink(missing_ok=True)
  quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  with subprocess.Popen([*command, f"--data_dir={data_dir}"], **quiet) as process:
    while process.poll() is None and not lock.exists():
      time.sleep(0.002)
    yield process
