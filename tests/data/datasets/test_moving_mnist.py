"""Moving MNIST: clips of one file."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets.listings import PUBLISHED, build, clips_by_split, levels, listed
from tests.data.datasets.miniatures import make_moving_mnist
from vidgen_jax.data.datasets.moving_mnist import read_clips, read_shape
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.data.staging import read_video
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError


def _claim(path, num_clips):
  """Writes the header of a file of `num_clips` clips; listing reads nothing else."""
  with path.open("wb") as file:
    header = {"descr": "|u1", "fortran_order": False, "shape": (20, num_clips, 64, 64)}
    np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize("rule", ["nine_tenths", "test"])
def test_the_complete_file_is_read_500_clips_at_a_time(tmp_path, rule):
  _claim(tmp_path / "mnist_test_seq.npy", 10_000)
  files = listed("moving_mnist", tmp_path, rule)
  assert clips_by_split(files) == dict(PUBLISHED["moving_mnist"].split_rules[rule].num_videos)
  assert [file.clips for file in files] == [(start, start + 500) for start in range(0, 10_000, 500)]
  assert files[17].name == "clips_8500..8999"


def test_a_border_divides_a_piece(tmp_path):
  _claim(tmp_path / "mnist_test_seq.npy", 1234)
  # Nine tenths of 1234 are 1110.6.
  assert [(file.clips, file.split) for file in listed("moving_mnist", tmp_path)] == [
    ((0, 500), "train"),
    ((500, 1000), "train"),
    ((1000, 1110), "train"),
    ((1110, 1234), "test"),
  ]
  assert [file.clips for file in listed("moving_mnist", tmp_path, "test")] == [(0, 500), (500, 1000), (1000, 1234)]


def test_each_split_gets_its_clips(tmp_path):
  info, _ = build("moving_mnist", make_moving_mnist(tmp_path / "m"), "--size=16")
  assert levels(info, "train") == [[7 * clip + time for time in range(20)] for clip in range(27)]
  assert levels(info, "test") == [[7 * clip + time for time in range(20)] for clip in (27, 28, 29)]


def test_another_file_of_that_name_is_refused(tmp_path):
  np.save(tmp_path / "mnist_test_seq.npy", np.zeros((20, 3, 64, 64), np.float32))
  with pytest.raises(UserError, match=r"has a mnist_test_seq\.npy that holds float32 \(20, 3, 64, 64\).*: fetch "):
    listed("moving_mnist", tmp_path)


def read(root, *, clips):
  """Reads clips of the file 'x' without loss."""
  file = SourceFile(path="x", class_name="c", split="train", stamp="s", reader=read_clips, clips=clips)
  with Source(root) as source:
    return read_video(source, file, DecodeOptions(encoding=FrameEncoding(encoding="png")))


def test_clips_of_a_numpy_file(tmp_path):
  # 3 times, 5 clips of 4x6 pixels; clip n is grey 10 n + t, except for its last pixel, which is black.
  videos = np.broadcast_to(10 * np.arange(5)[None, :, None, None] + np.arange(3)[:, None, None, None], (3, 5, 4, 6))
  videos = videos.astype(np.uint8)
  videos[:, :, 3, 5] = 0
  with (tmp_path / "x").open("wb") as file:
    np.save(file, videos)
  decoded = read(tmp_path, clips=(1, 4))
  frames = [np.asarray(Image.open(io.BytesIO(frame))) for frame in decoded.frames]
  assert [frame[0, 0].tolist() for frame in frames] == [[10 * n + t] * 3 for n in (1, 2, 3) for t in range(3)]
  assert all(frame.shape == (4, 6, 3) and frame[3, 5].tolist() == [0, 0, 0] for frame in frames)
  assert (decoded.cuts, decoded.fps) == ([3, 6], 0.0)
  with (tmp_path / "x").open("rb") as file:
    assert read_shape(file) == (3, 5, 4, 6)


def _saved(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


VIDEOS = np.zeros((3, 5, 4, 6), np.uint8)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (_saved(VIDEOS)[:-1], "ends after 359 of 360 pixels"),
    (_saved(VIDEOS)[:40], "is not a NumPy file, or damaged"),
    (_saved(VIDEOS).replace(b"descr", b"de'cr"), "is not a NumPy file, or damaged"),
    (_saved(VIDEOS).replace(b"(3, 5, 4, 6)", b"(3, 5, 4, 6("), "is not a NumPy file, or damaged"),
    (b"", "is not a NumPy file, or damaged"),
    (b"Some words.", "is not a NumPy file, or damaged"),
    (_saved(VIDEOS.astype(np.float32)), r"holds float32 \(3, 5, 4, 6\) in C order, not uint8"),
    (_saved(VIDEOS[0]), r"holds uint8 \(5, 4, 6\) in C order, not uint8 \[T, N, H, W\]"),
    (_saved(np.asfortranarray(VIDEOS)), r"holds uint8 \(3, 5, 4, 6\) in Fortran order"),
    (_saved(VIDEOS[:, :0]), r"holds uint8 \(3, 0, 4, 6\)"),
  ],
)
def test_damaged_files_give_the_reason(tmp_path, data, message):
  (tmp_path / "x").write_bytes(data)
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, clips=(0, 4))
