import dataclasses
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import video_stream
from vidgen_jax.data.decode import UnreadableVideoError, iterate_frames, measure_video
from vidgen_jax.data.transforms import decode_squares
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips
from vidgen_jax.scores.clip_sets.clip_set import ordered_map
from vidgen_jax.scores.clip_sets.videos import frame_array, open_video


@pytest.fixture
def folder(tmp_path, make):
  """Seven strips of 10 frames."""
  for clip in range(7):
    make.strip(tmp_path / f"{clip}.png", make.clip(clip, 10))
  return tmp_path


def test_batches_are_the_clips_in_order(folder, make):
  clips = open_clips(folder, ClipOptions())
  batches = list(clips.batches(3))
  assert [batch.shape for batch in batches] == [(3, 10, 8, 8, 3), (3, 10, 8, 8, 3), (1, 10, 8, 8, 3)]
  assert all(batch.dtype == np.uint8 for batch in batches)
  np.testing.assert_array_equal(np.concatenate(batches), [make.clip(clip, 10) for clip in range(7)])


def test_files_of_other_content_between_two_passes_are_refused(folder, make):
  clips = open_clips(folder, ClipOptions())
  clips.digests()
  make.strip(folder / "3.png", make.clip(9, 10))
  with pytest.raises(UserError, match=r"--real: 3.png changed while it was being read; start again"):
    list(clips.batches(4))


def test_batches_of_chosen_clips(folder, make):
  clips = open_clips(folder, ClipOptions())
  read = np.concatenate(list(clips.batches(2, indices=np.array([5, 0, 5]))))
  np.testing.assert_array_equal(read, [make.clip(clip, 10) for clip in (5, 0, 5)])
  assert list(clips.batches(2, indices=[])) == []


def test_random_access(folder, make):
  clips = open_clips(folder, ClipOptions())
  assert (len(clips), clips.clip_shape, clips.name) == (7, (10, 8, 8, 3), str(folder))
  np.testing.assert_array_equal(clips[-1], make.clip(6, 10))
  for index in (7, -8):
    with pytest.raises(IndexError):
      clips[index]


def test_closing_an_iteration_ends_its_threads(folder):
  clips = open_clips(folder, ClipOptions())
  before = threading.active_count()
  batches = clips.batches(1)
  next(batches)
  batches.close()
  assert threading.active_count() == before


# 10 frames: the middle window of 3 with stride 2 spans 5, so it starts at (10 - 5) // 2 = 2.
@pytest.mark.parametrize(
  ("options", "frames"),
  [
    ({}, range(10)),
    ({"frame_stride": 3}, (0, 3, 6, 9)),
    ({"num_frames": 3}, (0, 1, 2)),
    ({"num_frames": 3, "frame_stride": 2}, (0, 2, 4)),
    ({"num_frames": 3, "frame_stride": 2, "window": "centre"}, (2, 4, 6)),
    ({"num_frames": 10, "window": "centre"}, range(10)),
    ({"num_frames": 4, "window": "centre"}, (3, 4, 5, 6)),
  ],
)
def test_windows_of_every_kind_of_clip(tmp_path, make, options, frames):
  clip = make.clip(7, 10, height=16, width=16)
  make.video(tmp_path / "a.mp4", clip)
  make.strip(tmp_path / "b.png", clip)
  make.frames(tmp_path / "c", clip)
  np.save(tmp_path / "d.npy", clip)
  np.savez(tmp_path / "e.npz", conditioning=clip[None, :3], samples=clip[None, None])
  np.save(tmp_path / "f.npy", clip[None].transpose(0, 4, 1, 2, 3))
  clips = open_clips(tmp_path, ClipOptions(**options))
  assert len(clips) == 6
  for name, found in zip(clips.clip_names, np.concatenate(list(clips.batches(4))), strict=True):
    assert make.marks(found) == [(7, frame) for frame in frames], name


@pytest.mark.parametrize(("window", "measured", "read"), [("start", 3, 3), ("centre", 10, 6)])
def test_only_the_needed_frames_are_decoded(tmp_path, make, monkeypatch, window, measured, read):
  # The middle window of 3 of 10 frames is 3, 4, 5; finding the middle takes all 10.
  make.video(tmp_path / "a.mp4", make.clip(0, 10, height=16, width=16))
  decoded = []
  original = video_stream.Frame
  monkeypatch.setattr(video_stream, "Frame", lambda *fields: decoded.append(fields) or original(*fields))
  clip = open_video(tmp_path / "a.mp4", "a", ClipOptions(num_frames=3, window=window))
  assert len(decoded) == measured
  clip.read()
  assert len(decoded) == measured + read


def test_a_video_whose_size_changes_is_no_clip(tmp_path, make):
  # Raw H.264 streams can be joined.
  sides = [(16, 16), (32, 32)]
  parts = [make.video(tmp_path / "a.h264", make.clip(0, 3, *side)).read_bytes() for side in sides]
  with pytest.raises(UnreadableVideoError, match=r"the size changes from \(16, 16\) to \(32, 32\) after 3 frames"):
    measure_video(io.BytesIO(b"".join(parts)))


def test_damage_behind_the_window_does_not_matter(tmp_path, make):
  rng = np.random.default_rng(0)
  noise = rng.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
  data = make.video(tmp_path / "a.mkv", noise).read_bytes()
  (tmp_path / "a.mkv").write_bytes(data[: len(data) * 3 // 4])
  assert len(open_clips(tmp_path, ClipOptions(num_frames=5))) == 1
  with pytest.raises(UserError, match=r"[123]\d frames, 40 are needed"):
    open_clips(tmp_path, ClipOptions(num_frames=40))


@pytest.mark.parametrize(("height", "width", "resolution"), [(24, 17, 8), (8, 13, 8), (16, 32, 8), (10, 12, 24)])
def test_squares_are_those_of_the_data_pipeline(height, width, resolution):
  video = np.random.default_rng(0).integers(256, size=(2, height, width, 3), dtype=np.uint8)
  encoded = []
  for frame in video:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    encoded.append(buffer.getvalue())
  expected = decode_squares(encoded, resolution=resolution)
  found = frame_array(video, ClipOptions(resolution=resolution))
  np.testing.assert_array_equal(found, expected)


def test_grey_is_repeated():
  rng = np.random.default_rng(0)
  grey = rng.integers(256, size=(2, 8, 8, 1), dtype=np.uint8)
  repeated = np.repeat(grey, 3, axis=-1)
  np.testing.assert_array_equal(frame_array(grey, ClipOptions()), repeated)
  np.testing.assert_array_equal(
    frame_array(grey, ClipOptions(resolution=4)), frame_array(repeated, ClipOptions(resolution=4))
  )


def test_mixed_sizes_are_reported_with_examples(tmp_path, make):
  make.strip(tmp_path / "a.png", make.clip(0))
  make.video(tmp_path / "b.mp4", make.clip(0, height=16, width=32))
  message = (
    rf"^--fake={tmp_path} mixes sizes: a.png has 8x8 \(height x width\), b.mp4 has 16x32 \(height x width\); "
    "make them equal with --resolution=N$"
  )
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path, ClipOptions(), what="--fake")
  assert open_clips(tmp_path, ClipOptions(resolution=8)).clip_shape == (6, 8, 8, 3)
  assert len(open_clips(tmp_path, ClipOptions(max_clips=1))) == 1


def test_mixed_lengths_are_reported_with_examples(tmp_path, make):
  make.strip(tmp_path / "a.png", make.clip(0))
  np.save(tmp_path / "b.npy", make.clip(0, 9))
  message = "mixes lengths: a.png has 6 frames, b.npy has 9 frames; make them equal with --num_frames=N"
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path, ClipOptions())
  assert len(open_clips(tmp_path, ClipOptions(num_frames=6))) == 2
  # Every second frame of 6 is 3, of 9 is 5.
  with pytest.raises(UserError, match=r"a.png has 3 frames, b.npy has 5 frames"):
    open_clips(tmp_path, ClipOptions(frame_stride=2))


def test_max_clips_draws_files_with_a_fixed_seed(tmp_path, make):
  for label, name in enumerate("abcd"):
    for index in range(10):
      make.strip(tmp_path / name / f"{index}.png", make.clip(label, 4))
  clips = open_clips(tmp_path, ClipOptions(max_clips=12))
  assert len(set(clips.clip_names)) == len(clips) == 12
  assert clips.clip_names == sorted(clips.clip_names)
  assert set(clips.labels) == {0, 1, 2, 3}  # the first twelve are of a and b only
  assert open_clips(tmp_path, ClipOptions(max_clips=12)).clip_names == clips.clip_names
  assert np.concatenate(list(clips.batches(5))).shape == (12, *clips.clip_shape)
  assert open_clips(tmp_path, ClipOptions(max_clips=50)).clip_names == open_clips(tmp_path, ClipOptions()).clip_names


def test_max_clips_draws_clips_of_an_array(tmp_path, make, caplog):
  caplog.set_level("INFO", logger="absl")
  np.save(tmp_path / "a.npy", np.stack([make.clip(clip) for clip in range(20)]))
  drawn = {seed: open_clips(tmp_path / "a.npy", ClipOptions(max_clips=5, seed=seed)) for seed in (0, 1)}
  marks = {seed: [make.marks(clip)[0][0] for clip in next(clips.batches(5))] for seed, clips in drawn.items()}
  assert marks[0] != marks[1]
  for seed, clips in drawn.items():
    assert clips.clip_names == [f"a.npy[{clip}]" for clip in marks[seed]]
    assert marks[seed] == sorted(set(marks[seed]))
  assert "drew 5 of 20 clips at random, seed 1" in caplog.text


def test_random_windows_depend_on_the_seed_and_the_name_only(folder, tmp_path, make):
  options = ClipOptions(num_frames=3, window="random")
  starts = lambda clips: [make.marks(clip)[0][1] for clip in clips]
  every = open_clips(folder, options)
  found = dict(zip(every.clip_names, starts(next(every.batches(99))), strict=True))
  assert len(set(found.values())) > 1
  few = open_clips(folder, dataclasses.replace(options, max_clips=3))
  assert starts(next(few.batches(2, indices=[2, 0]))) == [found[few.clip_names[index]] for index in (2, 0)]
  other = open_clips(folder, dataclasses.replace(options, seed=1))
  assert starts(next(other.batches(99))) != list(found.values())
  # All positions of a window occur, and none beyond the end.
  assert {options.wanted(5, str(name)).start for name in range(50)} == {0, 1, 2}
  assert options.text == "random, seed 0"


def test_facts_are_those_of_the_files(tmp_path, make):
  make.video(tmp_path / "a" / "0.mp4", make.clip(1, height=16, width=16))
  for clip in (1, 2):
    make.strip(tmp_path / "a" / f"{clip}.png", make.clip(clip + 1, height=16, width=16))
  clips = open_clips(tmp_path / "a", ClipOptions())
  assert clips.facts["content"] is None
  assert len(set(clips.digests())) == 3
  expected = {"clips": 3, "encoding": ["mpeg4", "png"], "fps": [25.0], "window": "all frames"}
  assert expected.items() <= clips.facts.items()
  np.save(tmp_path / "b.npy", np.stack([clips[2], clips[1], clips[0]]) / 255)
  array = open_clips(tmp_path / "b.npy", ClipOptions())
  # The same clips in another order and file.
  assert array.digests() == clips.digests()[::-1]
  assert array.facts["content"] == clips.facts["content"]
  assert (array.facts["encoding"], array.facts["value_range"], array.facts["fps"]) == (["float64 array"], "1", [])


def test_max_clips_counts_clips_and_not_files(folder, make):
  (folder / "0.png").write_bytes(b"")
  every = open_clips(folder, ClipOptions())
  clips = open_clips(folder, ClipOptions(max_clips=len(every)))
  assert clips.clip_names == every.clip_names
  np.save(folder / "0a.npy", np.stack([make.clip(clip % 20, 10) for clip in range(50)]))
  assert len(open_clips(folder, ClipOptions(max_clips=30))) == 30


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_videos_are_measured_and_iterated(tmp_path, make, name):
  clip = make.clip(3, 8, height=16, width=16 if name == "a.png" else 32)
  (make.strip if name == "a.png" else make.video)(tmp_path / name, clip)
  with (tmp_path / name).open("rb") as file:
    assert measure_video(file)[:3] == (8, *clip.shape[1:3])
  with (tmp_path / name).open("rb") as file:
    assert measure_video(file, stop=3)[0] == 3
  for wanted in (range(8), range(1, 6, 2), range(6, 20)):
    with (tmp_path / name).open("rb") as file:
      frames = [np.asarray(frame) for frame in iterate_frames(file, wanted=wanted)]
    assert make.marks(frames) == [(3, frame) for frame in range(8) if frame in wanted]


def test_files_that_are_no_videos_are_not_measured():
  with pytest.raises(UnreadableVideoError, match="empty file"):
    measure_video(io.BytesIO(b""))
  with pytest.raises(UnreadableVideoError, match="corrupt or not a video"):
    next(iterate_frames(io.BytesIO(bytes(1000)), wanted=range(1)))


def test_ordered_map_keeps_the_order_and_does_not_run_ahead():
  release = threading.Event()
  started = []

  def wait(item):
    started.append(item)
    if item == 0:
      release.wait(10)
    return -item

  results = ordered_map(wait, iter(range(50)), ahead=4)
  threading.Timer(0.05, release.set).start()
  assert next(results) == 0
  # At most 4 of the 50 items have been started.
  assert len(started) <= 4
  assert list(results) == [-item for item in range(1, 50)]


def test_ordered_map_raises_in_place():
  def fail_at_two(item):
    if item == 2:
      raise KeyError(item)
    return item

  results = ordered_map(fail_at_two, range(9), ahead=3)
  assert [next(results), next(results)] == [0, 1]
  with pytest.raises(KeyError):
    next(results)


def test_ordered_map_cancels_items_when_closed():
  started = []

  def slow(item):
    started.append(item)
    time.sleep(0.005)

  results = ordered_map(slow, range(200), ahead=100)
  next(results)
  results.close()
  assert len(started) < 50
