"""The PyTorch reader: frames of its windows, and the comparison with the pipeline."""

import sys

import numpy as np
import pytest

from benchmarks import pytorch_reader
from tests.data.conftest import make_video
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.errors import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp("videos")
  # Frame t of video v has the grey 20 v + 8 t; the codec's key frames are 12 apart.
  return [
    make_video(folder / f"{v}.mp4", [20 * v + 8 * t for t in range(25)], codec="mpeg4", container="mp4", size=(24, 16))
    for v in range(2)
  ]


@pytest.fixture(scope="module")
def config(files, tmp_path_factory):
  """Config of the data set that is built from them."""
  data_dir = str(tmp_path_factory.mktemp("built"))
  source = str(files[0].parent)
  build_video_folder(VideoFolderOptions(source=source, name="ramps", data_dir=data_dir, test_fraction=0.0))
  return DataConfig(name="ramps", data_dir=data_dir, num_frames=5, resolution=8)


@pytest.mark.parametrize("start", [0, 1, 11, 12, 13, 21])
def test_a_window_begins_at_its_start(files, start):
  frames = pytorch_reader.read_window(files[1], start, num_frames=4, smallest_side=8)
  assert (frames.shape, frames.dtype) == ((4, 8, 12, 3), np.uint8)
  np.testing.assert_allclose(
    frames.mean(axis=(1, 2, 3)), 20 + 8 * np.arange(start, start + 4), atol=5
  )  # Frames differ by 8.


def test_windows_are_squares_of_all_videos_at_random_times(files):
  windows = pytorch_reader.VideoWindows(files, num_frames=5, resolution=8)
  assert len(windows) > 1000
  starts = set()
  for index in range(20):
    clip = windows[index]
    assert (clip["video"].shape, clip["video"].dtype, int(clip["label"])) == ((5, 8, 8, 3), np.uint8, index % 2)
    levels = (clip["video"].mean(axis=(1, 2, 3)) - 20 * (index % 2)) / 8
    np.testing.assert_allclose(np.diff(levels), 1, atol=0.5)
    starts.add(round(levels[0]))
  assert starts <= set(range(21))
  assert len(starts) > 5


def test_short_and_broken_videos_are_errors(files, tmp_path):
  with pytest.raises(UserError, match="has 25 frames, but 26 are needed"):
    pytorch_reader.VideoWindows(files, num_frames=26, resolution=8)
  (tmp_path / "broken.mp4").write_bytes(b"nothing")
  with pytest.raises(UserError, match=r"broken\.mp4 cannot be read as a video"):
    pytorch_reader.VideoWindows([tmp_path / "broken.mp4"], num_frames=2, resolution=8)


def test_both_readers_are_timed(files, config):
  pytest.importorskip("torch")
  figures = pytorch_reader.compare(config, files, workers=0, batch_size=2, seconds=0.2, rounds=1)
  ours, pytorch, ratio = (figure.value for figure in figures)
  assert min(ours, pytorch) > 0
  assert ratio == ours / pytorch


def test_without_pytorch_the_extra_is_named(files, config, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch.utils.data", None)
  with pytest.raises(UserError, match="extra 'parity'"):
    pytorch_reader.compare(config, files, workers=0, batch_size=2, seconds=0.2, rounds=1)
