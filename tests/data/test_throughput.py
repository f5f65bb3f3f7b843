"""Clips per second, stages and windows; the frames are so small that only the form of the figures is checked."""

import io
import itertools
import time

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import records, throughput, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.throughput import measure_clips_per_second


def test_counts_clips_not_batches_and_leaves_the_warm_up_out():
  def batches():
    for number in itertools.count():
      # A slow start, such as that of threads, must not count.
      time.sleep(0.2 if number < 2 else 0.005)
      yield {"label": np.zeros((2, 3), np.int32)}

  # 6 clips in slightly more than 5 ms: at most 1200 per second, and more than the 200 batches per second.
  assert 300 < measure_clips_per_second(batches(), seconds=0.2) <= 1200


def test_a_finite_iterator_is_measured_to_its_end():
  # 3 batches are left after the warm-up.
  rate = measure_clips_per_second([{"label": np.zeros(4)}] * 5, seconds=60.0)
  assert rate > 0


@pytest.fixture(scope="module")
def config(marked_dataset):
  return DataConfig(name="marked", data_dir=str(marked_dataset), num_frames=4, resolution=4, frame_stride=2)


def test_every_stage_takes_time(config):
  seconds, _, _ = throughput.time_stages(config, batch_size=3, batches=2)
  assert tuple(seconds) == ("read", "parse", "decode", "resize and crop", "batch", "transfer")
  assert all(value > 0 for value in seconds.values())


def test_sizes_are_those_of_records_and_windows(config):
  _, record_bytes, window_bytes = throughput.time_stages(config, batch_size=4, batches=3)
  clips = records.open_split(records.load_info("marked", config.data_dir), "train")
  sizes = [len(clips.read(i)) for i in range(11) if i != 3]
  frames = [len(frame) for i in range(11) if i != 3 for frame in clips[i]["frames"]]
  assert min(sizes) <= record_bytes <= max(sizes)
  assert 4 * min(frames) <= window_bytes <= 4 * max(frames)


def test_time_is_counted_for_its_stage(config, monkeypatch):
  original = transforms.cut_square
  waited = []

  def slow(image, **options):
    waited.append(np.random.default_rng(0).normal(size=50_000).sum())  # About a millisecond, 4 times per clip.
    return original(image, **options)

  monkeypatch.setattr(transforms, "cut_square", slow)
  seconds, _, _ = throughput.time_stages(config, batch_size=2, batches=2)
  # The first batch is a warm-up: 3 batches of 2 clips of 4 frames.
  assert len(waited) == 24
  assert seconds["resize and crop"] > 0.4 * sum(seconds.values())


def test_a_window_takes_less_time_than_its_clip(tmp_path):
  rng = np.random.default_rng(0)
  strip = Image.fromarray(rng.integers(256, size=(32, 32 * 90, 3), dtype=np.uint8))
  (tmp_path / "source" / "noise").mkdir(parents=True)
  buffer = io.BytesIO()
  strip.save(buffer, "PNG")
  (tmp_path / "source" / "noise" / "0.png").write_bytes(buffer.getvalue())
  build_video_folder(
    VideoFolderOptions(source=str(tmp_path / "source"), name="noise", data_dir=str(tmp_path), test_fraction=0.0)
  )
  config = DataConfig(name="noise", data_dir=str(tmp_path), num_frames=3, resolution=32)
  window, whole, num_frames = throughput.time_windows(config, repeats=9)
  assert num_frames == 90
  # Three of ninety frames are a thirtieth; decoding all frames would give a ratio of 1.
  assert 1 / 90 < window / whole < 1 / 3
  (file,) = (tmp_path / "noise" / "1.0.0").glob("*.array_record*")
  assert throughput.stored_bytes_per_clip(config) == file.stat().st_size
