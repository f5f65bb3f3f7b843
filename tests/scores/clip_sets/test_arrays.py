import io
import logging
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets import ClipOptions, arrays, open_clips
from vidgen_jax.scores.clip_sets.arrays import clip_layout

WRITERS = {"npy": np.save, "npz": np.savez, "compressed.npz": np.savez_compressed}


def clips_array(make, num_clips=5, **shape):
  """uint8[N, 6, H, W, 3]."""
  return np.stack([make.clip(clip, **shape) for clip in range(num_clips)])


def read(path, **options):
  with open_clips(path, ClipOptions(**options)) as clips:
    return np.concatenate(list(clips.batches(2)))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("layout", ["NTHWC", "NTCHW", "NCTHW"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_layouts(tmp_path, make, kind, layout, order, caplog):
  # Height and width differ, so that the test detects any confusion of axes.
  videos = clips_array(make, height=8, width=10)
  stored = videos.transpose(["NTHWC".index(axis) for axis in layout])
  path = tmp_path / f"a.{kind}"
  WRITERS[kind](path, np.asarray(stored, order=order))
  with caplog.at_level(logging.INFO):
    np.testing.assert_array_equal(read(path), videos)
  assert f"--real={path}: the axes of a clip are {', '.join(layout[1:])} of uint8" in caplog.messages


@pytest.mark.parametrize(
  ("shape", "layout"),
  [
    ((7, 16, 64, 64, 3), "THWC"),
    ((7, 16, 64, 64, 1), "THWC"),
    ((7, 3, 64, 64, 3), "THWC"),  # three frames, not three channels: the last axis has priority
    ((7, 16, 3, 64, 64), "TCHW"),
    ((7, 3, 16, 64, 64), "CTHW"),
    ((3, 16, 1, 64, 64), "TCHW"),  # three clips
    ((1, 16, 64, 64), "CTHW"),
    ((16, 64, 64, 3), "THWC"),
  ],
)
def test_channels_are_found(shape, layout):
  assert clip_layout(shape, name="a.npy", what="--real") == layout


@pytest.mark.parametrize(
  ("shape", "reason"),
  [
    ((7, 3, 1, 64, 64), "two of its axes could be channels"),
    ((7, 1, 3, 64, 64), "two of its axes could be channels"),
    ((7, 16, 64, 64, 4), "none of its axes can be channels"),
    ((7, 16, 3, 64), "none of its axes can be channels"),
  ],
)
def test_ambiguous_layouts_are_refused(tmp_path, shape, reason):
  np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
  with pytest.raises(UserError, match=rf"--real: array a.npy has shape \(7, .*: {reason}, .* \[N, T, H, W, C\]$"):
    open_clips(tmp_path / "a.npy", ClipOptions())


@pytest.mark.parametrize("compress", [False, True])
def test_the_array_of_an_npz(tmp_path, make, compress):
  save = np.savez_compressed if compress else np.savez
  videos, others = clips_array(make), 255 - clips_array(make)
  save(tmp_path / "only.npz", anything=videos, label=np.arange(5))
  save(tmp_path / "named.npz", other=others, video=videos)
  save(tmp_path / "both.npz", samples=others, videos=videos)
  save(tmp_path / "one.npz", clip=videos[0], label=0)
  for name in ("only", "named", "both"):
    np.testing.assert_array_equal(read(tmp_path / f"{name}.npz"), videos)
  np.testing.assert_array_equal(read(tmp_path / "one.npz"), videos[:1])


def test_an_npz_with_several_arrays_lists_them(tmp_path, make):
  np.savez(tmp_path / "a.npz", first=clips_array(make), second=clips_array(make), label=np.arange(5))
  message = (
    r"a.npz cannot be used: holds first \[5, 6, 8, 8, 3\], second \[5, 6, 8, 8, 3\], label \[5\], and not one array "
    r"\[N, T, H, W, C\]; give that array one of the names video, videos, samples$"
  )
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path / "a.npz", ClipOptions())


@pytest.mark.parametrize("with_truth", [False, True])
def test_samples_of_this_project(tmp_path, make, with_truth):
  # Samples are whole clips: conditioning frames are not added to them.
  samples = np.stack([[make.clip(10 * clip % 7 + sample, 6) for sample in range(2)] for clip in range(3)])
  arrays = {
    "conditioning": 255 - samples[:, 0, :2],
    "conditioning_indices": np.arange(2),
    "samples": samples,
    "label": np.arange(3),
  }
  if with_truth:
    arrays["truth"] = samples[:, 0]
  np.savez_compressed(tmp_path / "samples.npz", **arrays)
  clips = open_clips(tmp_path / "samples.npz", ClipOptions())
  assert clips.clip_names[:3] == ["samples.npz[0, 0]", "samples.npz[0, 1]", "samples.npz[1, 0]"]
  expected = [samples[clip, sample] for clip in range(3) for sample in range(2)]
  np.testing.assert_array_equal(np.concatenate(list(clips.batches(4))), expected)
  np.testing.assert_array_equal(read(tmp_path / "samples.npz", num_frames=3), [clip[:3] for clip in expected])


def test_samples_without_conditioning_frames(tmp_path, make):
  samples = np.stack([[make.clip(clip, 4)] for clip in range(3)])
  np.savez(
    tmp_path / "a.npz", conditioning=samples[:, 0, :0], conditioning_indices=np.zeros(0, np.int32), samples=samples
  )
  np.testing.assert_array_equal(read(tmp_path / "a.npz"), samples[:, 0])


@pytest.mark.parametrize(
  ("shapes", "message"),
  [
    (
      {"conditioning": (4, 2, 8, 8, 3), "samples": (4, 2, 5, 8, 8, 4)},
      r"\(4, 2, 5, 8, 8, 4\): none of its axes can be",
    ),
    # The single array of five axes is not chosen: conditioning frames are no clips.
    ({"first": (4, 2, 8, 8, 3), "samples": (4, 2, 5, 8, 8, 3)}, r"holds first \[4, 2, 8, 8, 3\], samples \[.* not one"),
    ({"features": (4, 32), "logits": (4, 3), "protocol": ()}, "holds features, not clips; only --real may be"),
  ],
)
def test_unreadable_samples_are_refused(tmp_path, shapes, message):
  np.savez(tmp_path / "a.npz", **{name: np.zeros(shape, np.uint8) for name, shape in shapes.items()})
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path / "a.npz", ClipOptions())


class Boom:
  def __reduce__(self):
    return os.mkdir, ("was_unpickled",)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_python_objects_are_never_unpickled(tmp_path, kind, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with (tmp_path / f"a.{kind}").open("wb") as file:
    (np.save if kind == "npy" else np.savez)(file, np.array([Boom()], dtype=object))
  with pytest.raises(UserError, match=r"cannot be used: holds Python objects, which are never unpickled"):
    open_clips(tmp_path / f"a.{kind}", ClipOptions())
  (tmp_path / "b.npy").write_bytes(pickle.dumps(Boom()))
  with pytest.raises(UserError, match=r"b.npy cannot be used: damaged: "):
    open_clips(tmp_path / "b.npy", ClipOptions())
  assert not (tmp_path / "was_unpickled").exists()


@pytest.mark.parametrize(
  ("array", "message"),
  [
    (np.zeros((2, 3, 8, 8, 3), bool), r"array a.npy is of type bool; save clips as uint8 of 0..255, or as floats"),
    (np.zeros((2, 3, 8, 8, 3), complex), "array a.npy is of type complex128"),
    (np.zeros((0, 3, 8, 8, 3), np.uint8), r"cannot be used: empty: shape \(0, 3, 8, 8, 3\)"),
    (np.zeros((8, 8, 3), np.uint8), r"cannot be used: shape \(8, 8, 3\) is not \[N, T, H, W, C\]"),
    (np.zeros((2, 3, 8, 8, 3), np.uint8), r"cannot be used: 3 frames, 4 are needed; lower --num_frames"),
  ],
)
def test_arrays_that_are_no_clips_are_refused(tmp_path, array, message):
  np.save(tmp_path / "a.npy", array)
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path / "a.npy", ClipOptions(num_frames=4))


@pytest.mark.parametrize("kind", WRITERS)
def test_truncated_files_are_detected_on_opening(tmp_path, make, kind):
  path = tmp_path / f"a.{kind}"
  WRITERS[kind](path, clips_array(make))
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(UserError, match=r"cannot be used: damaged: "):
    open_clips(path, ClipOptions())


def test_a_truncated_array_is_described_in_words_of_the_file(tmp_path, make):
  np.save(tmp_path / "a.npy", clips_array(make))
  data = (tmp_path / "a.npy").read_bytes()
  (tmp_path / "a.npy").write_bytes(data[: len(data) // 2])
  with pytest.raises(UserError, match=r"a.npy cannot be used: damaged: fewer values than its header says"):
    open_clips(tmp_path / "a.npy", ClipOptions())


def test_a_changed_byte_of_a_compressed_array_is_detected(tmp_path):
  noise = np.random.default_rng(0).integers(256, size=(6, 8, 8, 3), dtype=np.uint8)
  for name, array in {"one": noise, "many": noise[None]}.items():
    path = tmp_path / f"{name}.npz"
    np.savez_compressed(path, array)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be used: damaged: "):
      open_clips(path, ClipOptions())


def test_damage_in_a_folder_is_detected_on_opening(tmp_path, make):
  noise = np.random.default_rng(0).integers(256, size=(16, 32, 32, 3), dtype=np.uint8)
  for index in range(3):
    np.savez_compressed(tmp_path / f"{index}.npz", noise)
  data = bytearray((tmp_path / "1.npz").read_bytes())
  data[len(data) * 3 // 4] ^= 255
  (tmp_path / "1.npz").write_bytes(data)
  clips = open_clips(tmp_path, ClipOptions())
  assert clips.clip_names == ["0.npz", "2.npz"]
  assert [name for name, _ in clips.skipped] == ["1.npz"]


def test_headers_of_the_second_version_are_read(tmp_path, make):
  with (tmp_path / "a.npy").open("wb") as file:
    np.lib.format.write_array(file, clips_array(make), version=(2, 0))
  np.testing.assert_array_equal(read(tmp_path / "a.npy"), clips_array(make))


def test_a_large_end_of_a_local_zip_header_is_skipped(tmp_path, make):
  # Writers can pad a member's own header, which the archive's directory does not record.
  buffer = io.BytesIO()
  np.save(buffer, clips_array(make))
  info = zipfile.ZipInfo("video.npy")
  info.extra = b"\xff\xff" + (60).to_bytes(2, "little") + bytes(60)
  with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
    archive.writestr(info, buffer.getvalue())
  np.testing.assert_array_equal(read(tmp_path / "a.npz"), clips_array(make))


def test_unpacked_arrays_are_removed(tmp_path, make, monkeypatch):
  monkeypatch.setattr(arrays.tempfile, "tempdir", str(tmp_path / "scratch"))
  (tmp_path / "scratch").mkdir()
  np.savez_compressed(tmp_path / "a.npz", clips_array(make))
  with open_clips(tmp_path / "a.npz", ClipOptions()) as clips:
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    clips[1]
  assert not list((tmp_path / "scratch").iterdir())
  clips = open_clips(tmp_path / "a.npz", ClipOptions())
  assert len(list((tmp_path / "scratch").iterdir())) == 1
  del clips
  assert not list((tmp_path / "scratch").iterdir())


def test_a_full_disk_is_reported_before_unpacking(tmp_path, make, monkeypatch):
  usage = arrays.shutil.disk_usage(tmp_path)._replace(free=10)
  monkeypatch.setattr(arrays.shutil, "disk_usage", lambda path: usage)
  np.savez_compressed(tmp_path / "a.npz", clips_array(make))
  with pytest.raises(UserError, match=r"a.npz needs .* GB to be unpacked and .* set TMPDIR to a larger disk"):
    open_clips(tmp_path / "a.npz", ClipOptions())


@pytest.mark.parametrize("kind", WRITERS)
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, kind):
  """400 clips of 49,152 bytes are 19.7 MB; read in batches of 8 they take a few batches of 0.4 MB."""
  clip_bytes, num_clips, batch_size = 16 * 32 * 32 * 3, 400, 8
  videos = np.zeros((num_clips, 16, 32, 32, 3), np.uint8)
  videos[..., 0] = (np.arange(num_clips) % 251)[:, None, None, None]
  videos[..., 1] = 255
  path = tmp_path / f"a.{kind}"
  WRITERS[kind](path, videos)
  del videos
  # The first pass loads modules and fills caches.
  with open_clips(path, ClipOptions(max_clips=2)) as clips:
    list(clips.batches(2))
  tracemalloc.start()
  try:
    count = 0
    with open_clips(path, ClipOptions()) as clips:
      for batch in clips.batches(batch_size):
        assert batch[:, 0, 0, 0, 0].tolist() == [(count + index) % 251 for index in range(len(batch))]
        count += len(batch)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert count == num_clips
  # Unpacking uses a buffer of a few MB, whatever the size of the array.
  assert peak < 5 * batch_size * clip_bytes + (3 << 20 if kind != "npy" else 0)


def num_handles():
  return len(list(Path("/proc/self/fd").iterdir()))


def test_thousands_of_files_need_few_handles(tmp_path, make):
  # A mapping keeps its file open, and most systems allow 1024 of them.
  for index in range(60):
    np.save(tmp_path / f"{index}.npy", make.clip(1)[None])
    np.savez_compressed(tmp_path / f"{index}.npz", make.clip(1)[None])
  before = num_handles()
  clips = open_clips(tmp_path, ClipOptions())
  kept = list(clips.batches(120))
  assert len(kept[0]) == 120
  assert num_handles() <= before + 5
