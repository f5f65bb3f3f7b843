"""Stages and windows, timed on clips whose frames are so small that only the form of the figures can be told."""

import io

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import sources, stage_timing, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder


@pytest.fixture(scope="module")
def config(marked_dataset):
  return DataConfig(name="marked", data_dir=str(marked_dataset), num_frames=4, resolution=4, frame_stride=2)


def test_every_stage_takes_time_and_the_shares_are_a_whole(config):
  timing = stage_timing.time_stages(config, batch_size=3, batches=2)
  assert tuple(timing.seconds) == stage_timing.STAGES
  assert all(seconds > 0 for seconds in timing.seconds.values())
  assert sum(timing.shares.values()) == pytest.approx(1)
  assert timing.shares["decode"] == pytest.approx(timing.seconds["decode"] / sum(timing.seconds.values()))


def test_sizes_are_those_of_records_and_of_windows_in_them(config):
  timing = stage_timing.time_stages(config, batch_size=4, batches=3)
  clips = sources.open_split(sources.load_info("marked", config.data_dir), "train")
  records = [len(clips.read(i)) for i in range(11) if i != 3]
  frames = [len(frame) for i in range(11) if i != 3 for frame in clips[i]["frames"]]
  assert min(records) <= timing.record_bytes <= max(records)
  assert 4 * min(frames) <= timing.window_bytes <= 4 * max(frames)


def test_the_time_of_a_stage_is_that_of_a_clip(config, monkeypatch):
  original = transforms.cut_square
  waited = []

  def slow(image, **options):
    waited.append(np.random.default_rng(0).normal(size=50_000).sum())  # About a millisecond, 4 times a clip.
    return original(image, **options)

  monkeypatch.setattr(transforms, "cut_square", slow)
  timing = stage_timing.time_stages(config, batch_size=2, batches=2)
  # The first batch is a warm-up: 3 batches of 2 clips of 4 frames.
  assert len(waited) == 24
  assert timing.shares["resize and crop"] > 0.4


def test_a_window_of_a_long_clip_costs_a_part_of_it(tmp_path):
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
  cost = stage_timing.time_windows(config, repeats=9)
  assert cost.num_frames == 90
  # Three of ninety frames are a thirtieth; decoding all for them would be the whole.
  assert 1 / 90 < cost.ratio < 1 / 3
  assert cost.ratio == pytest.approx(cost.window / cost.whole)
  (file,) = (tmp_path / "noise" / "1.0.0").glob("*.array_record*")
  assert stage_timing.stored_bytes_per_clip(config) == file.stat().st_size
