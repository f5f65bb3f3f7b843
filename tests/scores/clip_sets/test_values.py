import logging

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips


def noise(num_clips=4, low=0.0, high=1.0, dtype=np.float32):
  """[N, 2, 4, 4, 3]; every clip contains both ends of the range."""
  values = np.random.default_rng(0).uniform(low, high, (num_clips, 2, 4, 4, 3))
  values[:, 0, 0, 0, 0], values[:, 0, 0, 0, 1] = low, high
  return values.astype(dtype)


def save(tmp_path, array):
  np.save(tmp_path / "a.npy", array)
  return tmp_path / "a.npy"


def read(path, **options):
  clips = open_clips(path, ClipOptions(**options))
  return np.concatenate(list(clips.batches(3))), clips.value_range.name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize(("low", "high", "name"), [(0, 1, "1"), (-1, 1, "-1..1"), (0, 255, "255"), (3, 40, "255")])
def test_the_range_of_floats_is_found(tmp_path, low, high, name, dtype, caplog):
  values = noise(low=low, high=high, dtype=dtype)
  exact = values.astype(np.float32)
  expected = {"1": 255 * exact, "-1..1": 127.5 * (exact + 1), "255": exact}[name]
  with caplog.at_level(logging.INFO):
    found, value_range = read(save(tmp_path, values))
  assert value_range == name
  np.testing.assert_array_equal(found, np.rint(expected).astype(np.uint8))
  assert any("are read as" in message and message.startswith("--real: ") for message in caplog.messages)


def test_rounding_is_that_of_generated_video(tmp_path):
  # All multiples of 1/510 of the range: the uint8 levels and the ties between them.
  values = np.linspace(-1, 1, 511, dtype=np.float32)
  values = np.concatenate([values, values[:65]]).reshape(1, 2, 8, 12, 3)
  found, _ = read(save(tmp_path, values))
  np.testing.assert_array_equal(found, np.asarray(to_uint8(values)))


def test_a_given_range_is_not_inferred(tmp_path):
  found, value_range = read(save(tmp_path, noise(high=1)), value_range="255")
  assert (value_range, set(found.ravel())) == ("255", {0, 1})
  found, _ = read(save(tmp_path, noise(high=1)), value_range="-1..1")
  assert found.min() == 128


def test_a_range_of_integers_is_logged_as_without_effect(tmp_path, caplog):
  path = save(tmp_path, noise(high=255, dtype=np.uint8))
  open_clips(path, ClipOptions(), what="--fake")
  assert not caplog.records
  open_clips(path, ClipOptions(value_range="1"), what="--fake")
  assert caplog.messages == [f"--fake_range=1 has no effect: --fake={path} holds no floats"]


def test_all_black_floats_are_black(tmp_path):
  found, value_range = read(save(tmp_path, np.zeros((2, 2, 4, 4, 3))))
  assert (value_range, found.max()) == ("1", 0)


def test_rounding_errors_beyond_the_ends_are_clipped(tmp_path):
  found, value_range = read(save(tmp_path, noise(low=-0.0005, high=1.0005)))
  assert (value_range, found.min(), found.max()) == ("1", 0, 255)
  found, value_range = read(save(tmp_path, noise(low=-1.0005, high=1.0005)))
  assert (value_range, found.min(), found.max()) == ("-1..1", 0, 255)


@pytest.mark.parametrize(("low", "high"), [(0, 1.2), (0, 2), (-2, 2), (-1, 255), (0, 256), (-0.5, 1.3)])
def test_floats_of_no_range_are_refused(tmp_path, low, high):
  message = (
    rf"^--fake: floats of {low}..{high} are neither 0..255 nor 0..1 nor -1..1; scale or clip them, or set "
    r"--fake_range to 255, 1 or -1..1$"
  )
  with pytest.raises(UserError, match=message):
    open_clips(save(tmp_path, noise(low=low, high=high)), ClipOptions(), what="--fake")


def test_a_later_clip_of_another_range_is_refused(tmp_path):
  # The range is inferred from 16 of 40 clips: 0, 2.6, 5.2, ...; clip 1 is not among them.
  values = noise(num_clips=40)
  values[1] *= 255
  clips = open_clips(save(tmp_path, values), ClipOptions())
  message = r"^--real: clip a.npy\[1\] has floats of 0..255, but other clips are in 0..1; set --real_range=255$"
  with pytest.raises(UserError, match=message):
    list(clips.batches(8))


def test_the_range_is_inferred_from_clips_of_the_whole_set(tmp_path):
  values = noise(num_clips=40)
  values[20:] = 2 * values[20:] - 1
  _, value_range = read(save(tmp_path, values))
  assert value_range == "-1..1"


def test_values_outside_a_given_range_are_refused(tmp_path):
  message = r"--real: clip a.npy\[0\] has floats of 0..255, but --real_range=1 was given; set --real_range=255$"
  with pytest.raises(UserError, match=message):
    read(save(tmp_path, noise(high=255)), value_range="1")
  with pytest.raises(UserError, match=r"has floats of -3..1, but --real_range=1 was given; scale or clip the values$"):
    read(save(tmp_path, noise(low=-3)), value_range="1")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("value_range", ["auto", "1"])
def test_values_that_are_not_finite_are_refused(tmp_path, value, value_range):
  values = noise()
  values[2, 1, 0, 0, 0] = value
  with pytest.raises(UserError, match=r"^--real: clip a.npy\[2\] has NaN or infinite values; leave it out"):
    read(save(tmp_path, values), value_range=value_range)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.int32])
def test_integers_must_be_0_to_255(tmp_path, dtype):
  values = noise(high=120).astype(dtype)
  found, value_range = read(save(tmp_path, values))
  assert value_range == "255"
  np.testing.assert_array_equal(found, values)
  values[3, 0, 0, 0, 0] = -1 if dtype == np.int8 else 300
  with pytest.raises(UserError, match=r"clip a.npy\[3\] has integers of (-1..120|\d..300|0..300); they must be 0..255"):
    read(save(tmp_path, values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_only_zeros_and_ones_are_a_cast_of_floats(tmp_path, dtype):
  values = np.zeros((6, 2, 4, 4, 3), dtype)
  values[3, 0, 0, 0, 0] = 1
  clips = open_clips(save(tmp_path, values), ClipOptions())
  # A part of the set proves nothing, even if it is read twice.
  list(clips.batches(2, indices=[3, 2]))
  list(clips.batches(2, indices=[3, 2]))
  message = r"^--real: values 0 and 1 only: \[0, 1\] floats cast to uint8\? Multiply them by 255 before the cast$"
  with pytest.raises(UserError, match=message):
    list(clips.batches(2))


def test_passes_over_parts_add_up(tmp_path):
  values = np.zeros((6, 2, 4, 4, 3), np.uint8)
  values[3] = 1
  clips = open_clips(save(tmp_path, values), ClipOptions())
  list(clips.batches(2, indices=[0, 1, 2]))
  with pytest.raises(UserError, match="values 0 and 1 only"):
    list(clips.batches(2, indices=[3, 4, 5]))


@pytest.mark.parametrize("brightest", [0, 2])
def test_dark_clips_are_accepted(tmp_path, brightest):
  values = np.zeros((6, 2, 4, 4, 3), np.uint8)
  values[4] = brightest
  values[2] = min(brightest, 1)
  assert read(save(tmp_path, values))[0].max() == brightest


def test_dark_floats_are_no_cast(tmp_path):
  # 0.004 * 255 = 1.02, so that all levels are 0 and 1.
  assert read(save(tmp_path, noise(high=0.004)))[0].max() == 1


def test_images_are_checked_too(tmp_path, make):
  for clip in range(3):
    make.strip(tmp_path / f"{clip}.png", make.clip(clip) // 200)
  with pytest.raises(UserError, match=r"values 0 and 1 only"):
    list(open_clips(tmp_path, ClipOptions()).batches(2))


def test_integers_next_to_floats(tmp_path, make):
  np.save(tmp_path / "a.npy", make.clip(1, 2, 4, 4))
  np.save(tmp_path / "b.npy", make.clip(1, 2, 4, 4) / np.float32(255))
  found, value_range = read(tmp_path)
  assert value_range == "1"
  np.testing.assert_array_equal(found[0], found[1])


def test_a_clip_of_0_to_1_among_clips_of_0_to_255_is_refused_unless_confirmed(tmp_path):
  values = noise(high=255.0)
  values[2] /= 255
  path = save(tmp_path, values)
  with pytest.raises(UserError, match=r"clip .*2.* is in 0\.\.1 and other clips in 0\.\.255; .*--real_range=255"):
    read(path)
  found, _ = read(path, value_range="255")
  assert found[2].max() == 1
  values[2] = 0  # black is black on every scale
  read(save(tmp_path, values))
