"""The files of ../shared/data/cases, which were read wrongly, with the values that its README states."""

import numpy as np
import pytest

from tests.data.source_videos import decode
from vidgen_jax.data.decode import DecodeOptions
from vidgen_jax.data.listing import Source
from vidgen_jax.data.staging import read_video
from vidgen_jax.data.still_images import read_image
from vidgen_jax.scores.clip_sets import ClipOptions
from vidgen_jax.scores.clip_sets.videos import open_frames


def read_case(shared_data, name, **options):
  return decode((shared_data / "cases" / name).read_bytes(), **options)


def test_case_upright_and_mirrored(shared_data):
  marks = {}
  for name in ("upright_reference.mp4", "mirrored_hflip.mp4"):
    _, frames = read_case(shared_data, name)
    assert len(frames) == 12
    # The dominant channel of the marks, which are near the corners.
    parts = [frames[0, :24, :24], frames[0, :24, -24:], frames[0, -24:, :24], frames[0, -24:, -24:]]
    ranges = [np.ptp(part.astype(int).reshape(-1, 3), axis=0) for part in parts]
    marks[name] = "".join("rgb"[channels.argmax()] if channels.max() > 100 else "-" for channels in ranges)
  assert marks == {"upright_reference.mp4": "rgb-", "mirrored_hflip.mp4": "gr-b"}


def test_case_cover_art(shared_data):
  video, frames = read_case(shared_data, "cover_art_is_stream_0.mp4")
  assert (frames.shape, video.damage) == ((12, 64, 96, 3), "")


def test_case_non_square_pixels(shared_data):
  video, frames = read_case(shared_data, "non_square_pixels.mp4")
  assert (frames.shape[:3], video.conversions) == ((12, 128, 128), {"sample_aspect_ratio": "2:1"})
  rows, columns = np.nonzero(frames[0, ..., 0] > 127)
  assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_case_pause_of_one_second(shared_data):
  video, frames = read_case(shared_data, "pause_of_one_second.mp4")
  assert (len(frames), video.variable_rate) == (12, "100 to 1100 ms between frames")
  _, resampled = read_case(shared_data, "pause_of_one_second.mp4", fps=10.0)
  np.testing.assert_array_equal(resampled, frames[np.repeat(np.arange(12), [1] * 5 + [11] + [1] * 6)])


def test_case_pause_of_merged_frames(shared_data):
  for options in ({}, {"fps": 10.0}):
    video, frames = read_case(shared_data, "pause_merged_frames.gif", **options)
    assert (len(frames), video.fps, video.variable_rate) == (10, 10.0, "")
    changes = np.flatnonzero(np.any(np.diff(frames.astype(int), axis=0), axis=(1, 2, 3))) + 1
    assert changes.tolist() == [3, 5, 6]


def test_case_edit_list(shared_data):
  video, frames = read_case(shared_data, "stream_copied_cut_edit_list.mp4")
  assert (len(frames), video.damage) == (32, "")


def test_case_transparent(shared_data):
  video, frames = read_case(shared_data, "transparent.gif")
  assert video.conversions == {"background": "#808080"}
  assert np.unique(frames.reshape(-1, 3), axis=0).tolist() == [[128] * 3, [255] * 3]


def test_case_exif_and_two_to_one_frames_in_folders(shared_data, tmp_path):
  cases, out = shared_data / "cases", tmp_path / "source"
  for clip, name in (("a", "exif_orientation_6_frame.jpg"), ("b", "two_to_one_frame.png")):
    (out / clip).mkdir(parents=True)
    for index in range(10):
      (out / clip / f"{index}{name[-4:]}").write_bytes((cases / name).read_bytes())
  upright, changes = read_image(cases / "exif_orientation_6_frame.jpg")
  assert (upright.size, changes) == ((48, 64), ("rotated clockwise",))
  exif, wide = (open_frames(sorted((out / clip).iterdir()), clip, ClipOptions()) for clip in "ab")
  np.testing.assert_array_equal(exif.read()[3], np.asarray(upright))
  assert wide.shape == (10, 32, 64)
  source = Source(out)
  first, second = source.files()
  assert (first.path, second.path, len(second.images)) == ("a", "b", 10)
  video = read_video(source, first, DecodeOptions())
  assert (video.width, video.height, video.conversions) == (48, 64, {"orientation": "rotated clockwise"})
  video = read_video(source, second, DecodeOptions())
  assert (video.width, video.height, len(video.frames)) == (64, 32, 10)
