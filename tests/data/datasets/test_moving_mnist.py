"""Moving MNIST: clips of one file."""

import numpy as np
import pytest

from tests.data.datasets.listings import build, clips_by_split, levels, listed
from tests.data.datasets.miniatures import make_moving_mnist
from vidgen_jax.data.datasets import LAYOUTS
from vidgen_jax.errors import UserError


def _claim(path, num_clips):
  """The header of a file of so many clips, which is all that a listing reads."""
  with path.open("wb") as file:
    header = {"descr": "|u1", "fortran_order": False, "shape": (20, num_clips, 64, 64)}
    np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize("rule", ["nine_tenths", "test"])
def test_the_complete_file_is_read_500_clips_at_a_time(tmp_path, rule):
  _claim(tmp_path / "mnist_test_seq.npy", 10_000)
  files = listed("moving_mnist", tmp_path, rule)
  assert clips_by_split(files) == dict(LAYOUTS["moving_mnist"].num_videos[rule])
  assert [file.clips for file in files] == [(start, start + 500) for start in range(0, 10_000, 500)]
  assert files[17].name == "clips_8500..8999"


def test_a_border_within_a_piece_divides_it(tmp_path):
  _claim(tmp_path / "mnist_test_seq.npy", 1234)
  # Nine tenths of 1234 are 1110.6.
  assert [(file.clips, file.split) for file in listed("moving_mnist", tmp_path)] == [
    ((0, 500), "train"),
    ((500, 1000), "train"),
    ((1000, 1110), "train"),
    ((1110, 1234), "test"),
  ]
  assert [file.clips for file in listed("moving_mnist", tmp_path, "test")] == [(0, 500), (500, 1000), (1000, 1234)]


def test_each_side_gets_its_clips(tmp_path):
  info, _ = build("moving_mnist", make_moving_mnist(tmp_path / "m"), "--size=16")
  assert levels(info, "train") == [[7 * clip + time for time in range(20)] for clip in range(27)]
  assert levels(info, "test") == [[7 * clip + time for time in range(20)] for clip in (27, 28, 29)]


def test_another_file_of_that_name_says_what_is_wrong(tmp_path):
  np.save(tmp_path / "mnist_test_seq.npy", np.zeros((20, 3, 64, 64), np.float32))
  with pytest.raises(UserError, match=r"has a mnist_test_seq\.npy that holds float32 \(20, 3, 64, 64\).*: fetch "):
    listed("moving_mnist", tmp_path)
