import io
import struct

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.decode import UnreadableVideoError, measure_video
from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips


def read_marks(make, folder, **options):
  """The marks of every clip, by name."""
  with open_clips(folder, ClipOptions(**options)) as clips:
    read = [clip for batch in clips.batches(2) for clip in batch]
    return {name: make.marks(clip) for name, clip in zip(clips.clip_names, read, strict=True)}


def expected(clip, num_frames=6):
  return [(clip, frame) for frame in range(num_frames)]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
def test_videos_in_the_order_of_their_names(tmp_path, make, suffix):
  for clip in (2, 0, 1):
    make.video(tmp_path / "deep" / f"{clip}{suffix}", make.clip(clip, height=16, width=16))
  found = read_marks(make, tmp_path)
  assert list(found) == [f"deep/{clip}{suffix}" for clip in range(3)]
  assert list(found.values()) == [expected(clip) for clip in range(3)]


def test_a_gif_is_a_video(tmp_path, make):
  # 8 bits per pixel hold 8 levels of red and green; only black and white are exact.
  frames = np.zeros((5, 16, 16, 3), np.uint8)
  frames[::2] = 255
  make.video(tmp_path / "a.gif", frames)
  clips = open_clips(tmp_path, ClipOptions())
  assert clips.clip_shape == (5, 16, 16, 3)
  np.testing.assert_allclose(clips[0].mean(axis=(1, 2, 3)), [255, 0, 255, 0, 255], atol=3)


def test_strips(tmp_path, make):
  for clip in range(3):
    make.strip(tmp_path / f"{clip}.png", make.clip(clip))
  assert read_marks(make, tmp_path) == {f"{clip}.png": expected(clip) for clip in range(3)}
  np.testing.assert_array_equal(open_clips(tmp_path, ClipOptions())[2], make.clip(2))


def test_folders_of_single_frames_in_the_order_of_their_numbers(tmp_path, make):
  # As words, frame10 comes before frame2.
  make.frames(tmp_path / "clip_0001", make.clip(1, 12), name="frame{}.png")
  make.frames(tmp_path / "clip_0002", make.clip(2, 12), name="{:04d}.png")
  make.frames(tmp_path / "x" / "y", make.clip(3, 12), name="a_00_{:d}_img.bmp")
  found = read_marks(make, tmp_path)
  assert found == {"clip_0001": expected(1, 12), "clip_0002": expected(2, 12), "x/y": expected(3, 12)}


def test_the_folder_itself_can_be_the_clip(tmp_path, make):
  make.frames(tmp_path / "clip", make.clip(4))
  assert read_marks(make, tmp_path / "clip") == {"clip": expected(4)}


def test_frames_twice_as_wide_as_high_are_no_strips(tmp_path, make):
  make.frames(tmp_path / "clip", make.clip(4, height=8, width=16))
  assert open_clips(tmp_path, ClipOptions()).clip_shape == (6, 8, 16, 3)


def test_a_preview_next_to_frames_is_no_frame(tmp_path, make):
  make.frames(tmp_path / "clip", make.clip(4))
  make.frames(tmp_path / "clip", make.clip(4, 1), name="preview.png")
  clips = open_clips(tmp_path, ClipOptions())
  assert make.marks(clips[0]) == expected(4)
  assert clips.skipped == (
    ("clip/preview.png", "a single image, neither a strip nor one of the numbered frames of a clip"),
  )


@pytest.mark.parametrize(
  ("names", "reason"),
  [
    (("a_{}.png", "b_{}.png"), r"images named a_#.png and b_#.png; give each clip a folder of its own"),
    (("clip1_{}.png", "clip2_{}.png"), r"images named clip#_#.png do not differ in exactly one number"),
    (("{}.png", "0{}.png"), r"images named #.png do not differ in exactly one number"),
    (("{0}_{0}.png",), r"images named #_#.png do not differ in exactly one number"),
  ],
)
def test_frames_of_several_clips_in_one_folder_are_not_mixed(tmp_path, make, names, reason):
  for clip, name in enumerate(names):
    make.frames(tmp_path / "clip", make.clip(clip), name=name)
  with pytest.raises(UserError, match=f"holds no usable clip: skipped 1, the first clip: {reason}"):
    open_clips(tmp_path, ClipOptions())


def test_a_damaged_frame_skips_its_clip_only(tmp_path, make):
  for clip in range(2):
    make.frames(tmp_path / f"{clip}", make.clip(clip))
  (tmp_path / "0" / "0003.png").write_bytes((tmp_path / "0" / "0003.png").read_bytes()[:40])
  clips = open_clips(tmp_path, ClipOptions())
  assert clips.clip_names == ["1"]
  assert clips.skipped[0][0] == "0"
  assert clips.skipped[0][1].startswith("frame 0003.png: cannot identify image file")
  # Damage behind the window does not matter.
  assert len(open_clips(tmp_path, ClipOptions(num_frames=3))) == 2


def test_frames_of_two_sizes_are_no_clip(tmp_path, make):
  make.frames(tmp_path / "a", make.clip(0))
  Image.new("RGB", (9, 8)).save(tmp_path / "a" / "0002.png")
  with pytest.raises(UserError, match=r"a: the size changes from \(8, 8\) to \(9, 8\) after 2 frames"):
    open_clips(tmp_path, ClipOptions())


def test_sixteen_bit_images_are_refused(tmp_path):
  for index in range(3):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / f"{index}.png")
  with pytest.raises(UserError, match=r"frame 0.png: image of more than 8 bits a channel \(mode I;16\)"):
    open_clips(tmp_path, ClipOptions())


def test_a_damaged_second_page_of_a_tiff(make):
  # Pillow reads the pages of a TIFF one after the other when it counts them.
  buffer = io.BytesIO()
  Image.open(io.BytesIO(make.strip_bytes(make.clip(0)))).save(buffer, "TIFF")
  data = bytearray(buffer.getvalue())
  (directory,) = struct.unpack_from("<I", data, 4)
  (num_entries,) = struct.unpack_from("<H", data, directory)
  struct.pack_into("<I", data, directory + 2 + 12 * num_entries, len(data))
  with pytest.raises(UnreadableVideoError, match=r"corrupt image: Missing dimensions"):
    measure_video(io.BytesIO(data + bytes(6)))


def test_folders_of_arrays(tmp_path, make):
  (tmp_path / "b").mkdir()
  np.save(tmp_path / "b" / "one.npy", make.clip(1))
  np.save(tmp_path / "a.npy", np.stack([make.clip(2), make.clip(3)]))
  np.savez(tmp_path / "c.npz", make.clip(4))
  np.savez_compressed(tmp_path / "d.npz", clip=np.stack([make.clip(5), make.clip(6)]), fps=25)
  found = read_marks(make, tmp_path)
  assert list(found) == ["a.npy[0]", "a.npy[1]", "b/one.npy", "c.npz", "d.npz[0]", "d.npz[1]"]
  assert list(found.values()) == [expected(clip) for clip in (2, 3, 1, 4, 5, 6)]


def test_class_folders_give_labels(tmp_path, make):
  make.video(tmp_path / "walk" / "deep" / "0.mp4", make.clip(0, height=16, width=16))
  np.save((tmp_path / "walk" / "b.npy"), np.stack([make.clip(1, height=16, width=16)] * 3))
  make.frames(tmp_path / "run" / "clip", make.clip(2, height=16, width=16))
  clips = open_clips(tmp_path, ClipOptions())
  assert clips.class_names == ("run", "walk")
  assert clips.clip_names == ["run/clip", "walk/b.npy[0]", "walk/b.npy[1]", "walk/b.npy[2]", "walk/deep/0.mp4"]
  assert clips.labels.dtype == np.int32
  assert clips.labels.tolist() == [0, 1, 1, 1, 1]
  # Labels do not depend on the number of clips, and each clip has one.
  for num_clips in (1, 2):
    few = open_clips(tmp_path, ClipOptions(max_clips=num_clips))
    assert (few.class_names, len(few)) == (("run", "walk"), num_clips)
    assert [few.class_names[label] for label in few.labels] == [name.split("/")[0] for name in few.clip_names]


def test_no_labels_without_two_classes(tmp_path, make):
  for name in ("walk/0.png", "train/0.png", "test/0.png"):
    make.strip(tmp_path / "one" / name if name.startswith("walk") else tmp_path / "splits" / name, make.clip(0))
  for name in ("walk/0.png", "run/0.png", "outside.png"):
    make.strip(tmp_path / "outside" / name, make.clip(0))
  for name in ("one", "splits", "outside"):
    clips = open_clips(tmp_path / name, ClipOptions())
    assert (clips.labels, clips.class_names) == (None, ())


def test_other_and_hidden_files_are_ignored(tmp_path, make):
  make.strip(tmp_path / "0.png", make.clip(0))
  for name in (
    "notes.txt",
    "meta.json",
    "a.csv",
    "README.md",
    "Thumbs.db",
    ".DS_Store",
    ".git/x.mp4",
    "__MACOSX/y.mp4",
  ):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("words")
  clips = open_clips(tmp_path, ClipOptions())
  assert (clips.clip_names, clips.skipped) == (["0.png"], ())


def test_unusable_files_are_listed(tmp_path, make):
  make.strip(tmp_path / "good.png", make.clip(0))
  make.strip(tmp_path / "short.png", make.clip(0, 3))
  (tmp_path / "empty.mp4").write_bytes(b"")
  (tmp_path / "words.mp4").write_text("no video")
  np.save(tmp_path / "labels.npy", np.arange(3))
  np.savez(tmp_path / "moments.npz", mean=np.zeros(3))
  clips = open_clips(tmp_path, ClipOptions(num_frames=4), what="--fake")
  assert clips.clip_names == ["good.png"]
  assert dict(clips.skipped) == {
    "empty.mp4": "empty file",
    "labels.npy": "shape (3,) is not [N, T, H, W, C]",
    "moments.npz": "holds mean [3], and not one array [N, T, H, W, C]; give that array one of the names video, "
    "videos, samples",
    "short.png": "3 frames, 4 are needed; lower --num_frames",
    "words.mp4": "corrupt or not a video: Invalid data found when processing input",
  }


def test_linked_folders_are_followed_but_not_in_circles(tmp_path, make):
  make.strip(tmp_path / "real" / "0.png", make.clip(0))
  (tmp_path / "folder").mkdir()
  (tmp_path / "folder" / "a").symlink_to(tmp_path / "real")
  (tmp_path / "folder" / "circle").symlink_to(tmp_path / "folder")
  assert open_clips(tmp_path / "folder", ClipOptions()).clip_names == ["a/0.png"]


def test_an_empty_folder_says_so(tmp_path):
  (tmp_path / "notes.txt").write_text("words")
  with pytest.raises(UserError, match=f"^--fake={tmp_path} holds no files; give a folder of"):
    open_clips(tmp_path, ClipOptions(), what="--fake")


def test_a_folder_without_usable_clips_says_why(tmp_path):
  (tmp_path / "a.mp4").write_text("words")
  message = f"^--real={tmp_path} holds no usable clip: skipped 1, the first a.mp4: corrupt or not a video"
  with pytest.raises(UserError, match=message):
    open_clips(tmp_path, ClipOptions())


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_one_file_is_one_clip(tmp_path, make, name):
  (make.strip if name == "a.png" else make.video)(tmp_path / name, make.clip(1, height=16, width=16))
  assert read_marks(make, tmp_path / name) == {name: expected(1)}


def test_one_unusable_file_says_why(tmp_path, make):
  make.strip(tmp_path / "a.png", make.clip(1))
  with pytest.raises(UserError, match=r"--real=.*a.png cannot be used: 6 frames, 7 are needed; lower --num_frames"):
    open_clips(tmp_path / "a.png", ClipOptions(num_frames=4, frame_stride=2))


def test_damage_after_opening_is_reported_when_the_clip_is_read(tmp_path, make):
  for clip in range(3):
    make.strip(tmp_path / f"{clip}.png", make.clip(clip))
  clips = open_clips(tmp_path, ClipOptions())
  buffer = io.BytesIO()
  Image.new("RGB", (24, 8)).save(buffer, "PNG")
  (tmp_path / "1.png").write_bytes(buffer.getvalue())
  with pytest.raises(UserError, match=r"1.png changed while it was being read: 3 of 6 frames are left; start again"):
    list(clips.batches(3))
  (tmp_path / "1.png").unlink()
  with pytest.raises(UserError, match=r"1.png changed while it was being read"):
    clips[1]


def test_numbers_in_names_are_sorted_as_numbers(tmp_path, make):
  for index in (10, 2, 1, 9):
    make.strip(tmp_path / "a" / f"clip_{index}.png", make.clip(index))
    make.strip(tmp_path / f"b{index}" / "0.png", make.clip(index))
  assert open_clips(tmp_path / "a", ClipOptions()).clip_names == [f"clip_{index}.png" for index in (1, 2, 9, 10)]
  names = open_clips(tmp_path, ClipOptions()).clip_names
  assert names[4:] == ["b1/0.png", "b2/0.png", "b9/0.png", "b10/0.png"]


def test_a_clip_with_a_missing_frame_is_skipped(tmp_path, make):
  make.frames(tmp_path / "whole", make.clip(1))
  make.frames(tmp_path / "torn", make.clip(2))
  numbered = sorted((tmp_path / "torn").iterdir())
  numbered[3].unlink()
  clips = open_clips(tmp_path, ClipOptions())
  assert clips.clip_names == ["whole"]
  ((name, reason),) = clips.skipped
  assert (name, reason) == ("torn", "the frame after number 2 is missing")
