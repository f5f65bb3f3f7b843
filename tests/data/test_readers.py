"""How videos of each kind are read, and what is said of damaged ones."""

import io

import numpy as np
import pytest
from PIL import Image

from tests import tfrecords
from tests.data.datasets.miniatures import grey, image, trajectory
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError
from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.data.listing import Source, SourceFile
from vidgen_jax.data.readers import READERS, moving_mnist_shape, read_video


def read(root, reader, *, size=0, stride=1, strip_fps=0.0, **file):
  """Reads a video that is said to lie at 'x', without loss."""
  described = SourceFile(**{"path": "x", "class_name": "c", "split": "train", "stamp": "s", "reader": reader} | file)
  options = DecodeOptions(
    size=size, encoding=FrameEncoding(encoding="png"), stride=stride, strip_fps=strip_fps, threads="NONE"
  )
  with Source(root) as source:
    return read_video(source, described, options)


def levels(decoded):
  """Mean grey of every frame."""
  return [round(float(np.mean(Image.open(io.BytesIO(frame))))) for frame in decoded.frames]


def test_readers_are_those_that_a_file_may_name():
  assert set(READERS) == {"video", "images", "bair", "moving_mnist"}


def test_a_video_file(tmp_path):
  grey(tmp_path / "a.mp4", [40, 80, 120, 160])
  decoded = read(tmp_path, "video", path="a.mp4", size=16, stride=2)
  np.testing.assert_allclose(levels(decoded), [40, 120], atol=3)
  assert (decoded.height, decoded.width, decoded.source_height, decoded.source_width) == (16, 24, 32, 48)
  # make_video's 25 frames a second, every second of them.
  assert decoded.fps == 12.5
  (tmp_path / "b.mp4").write_bytes(bytes(1000))
  with pytest.raises(UnreadableVideoError, match="corrupt or not a video"):
    read(tmp_path, "video", path="b.mp4")


def test_images_are_frames_in_the_order_that_the_file_says(tmp_path):
  for name, level in (("1.jpg", 10), ("2.jpg", 60), ("3.jpg", 110)):
    (tmp_path / name).write_bytes(image(level, size=(24, 16)))
  decoded = read(tmp_path, "images", images=("3.jpg", "1.jpg", "2.jpg"), strip_fps=12.0, size=8)
  assert levels(decoded) == [110, 10, 60]
  assert (decoded.fps, decoded.cuts, decoded.height, decoded.width) == (12.0, (), 8, 12)
  strided = read(tmp_path, "images", images=("3.jpg", "1.jpg", "2.jpg"), strip_fps=12.0, stride=2)
  assert (levels(strided), strided.fps) == ([110, 60], 6.0)


def _noise(image_format):
  """An image of 24x16 whose bytes are its pixels' more than its header's."""
  buffer = io.BytesIO()
  pixels = np.random.default_rng(0).integers(256, size=(16, 24, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(buffer, image_format, **({"quality": 95} if image_format == "JPEG" else {}))
  return buffer.getvalue()


def _deep_image():
  buffer = io.BytesIO()
  Image.fromarray(np.zeros((16, 24), np.uint16)).save(buffer, "PNG")
  return buffer.getvalue()


@pytest.mark.parametrize(
  ("second", "message"),
  [
    (lambda: image(0, size=(24, 18)), r"the size changes from \(24, 16\) to \(24, 18\) after 1 frames"),
    (lambda: _noise("JPEG")[:-100], "2.jpg: corrupt image: "),
    (lambda: _noise("PNG")[:400], "2.jpg: corrupt image: "),
    (lambda: b"", "2.jpg is no image"),
    (lambda: b"Just a few words.", "2.jpg is no image"),
    (_deep_image, "2.jpg: image of more than 8 bits a channel"),
  ],
)
def test_a_bad_image_among_good_ones(tmp_path, second, message):
  (tmp_path / "1.jpg").write_bytes(image(0, size=(24, 16)))
  (tmp_path / "2.jpg").write_bytes(second())
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, "images", images=("1.jpg", "2.jpg"))


def test_no_images_and_a_image_that_is_not_there(tmp_path):
  with pytest.raises(UnreadableVideoError, match="no frames"):
    read(tmp_path, "images")
  with pytest.raises(FileNotFoundError):
    read(tmp_path, "images", images=("1.jpg",))


def test_trajectories_are_clips_of_one_video(tmp_path):
  tfrecords.write_tfrecord(tmp_path / "x", [trajectory(number, num_steps=3 + number) for number in range(4)])
  decoded = read(tmp_path, "bair", clips=(1, 3))
  # Number 1 has four steps from grey 7, number 2 five from 14; a step adds 20.
  assert levels(decoded) == [7, 27, 47, 67, 14, 34, 54, 74, 94]
  assert (decoded.cuts, decoded.fps, decoded.source_height, decoded.source_width) == ((4,), 0.0, 64, 64)
  strided = read(tmp_path, "bair", clips=(1, 3), stride=2, size=16)
  assert (levels(strided), strided.cuts) == ([7, 47, 14, 54, 94], (2,))


def test_a_step_is_height_then_width_then_colour(tmp_path):
  pixels = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
  tfrecords.write_tfrecord(tmp_path / "x", [{"0/image_aux1/encoded": [pixels.tobytes()]}])
  (frame,) = read(tmp_path, "bair", clips=(0, 1)).frames
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(frame))), pixels)


def _records(*features):
  return [tfrecords.record(tfrecords.example(entry)) for entry in features]


def _cut_off():
  first, second = _records(trajectory(0), trajectory(1))
  return first + second[:-5], f"record 1 at byte {len(first)} is cut off in its data"


def _cut_off_in_length():
  first, second = _records(trajectory(0), trajectory(1))
  return first + second[:7], f"record 1 at byte {len(first)} is cut off in its length"


def _flipped_bit():
  first, second = _records(trajectory(0), trajectory(1))
  damaged = bytearray(second)
  damaged[1000] ^= 1
  return first + bytes(damaged), f"record 1 at byte {len(first)}: the checksum of its data is wrong"


def _other_size():
  other = dict(trajectory(1)) | {"1/image_aux1/encoded": [bytes(48 * 64 * 3)]}
  return b"".join(_records(trajectory(0), other)), "step 1 of a trajectory is not one image of 64x64 pixels"


def _numbers():
  other = dict(trajectory(1)) | {"2/image_aux1/encoded": np.zeros(1, np.float32)}
  return b"".join(_records(trajectory(0), other)), "step 2 of a trajectory is not one image of 64x64 pixels"


def _other_camera():
  other = {"0/image_main/encoded": [bytes(64 * 64 * 3)]}
  return b"".join(_records(trajectory(0), other)), "a trajectory has no 0/image_aux1/encoded"


def _no_example():
  return _records(trajectory(0))[0] + tfrecords.record(b"\x0a\x7f"), "an entry is too short"


def _too_few():
  return _records(trajectory(0))[0], "has 1 trajectories, not 2"


def _text():
  return b"Just a few words.", "record 0 at byte 0: the checksum of its length is wrong"


@pytest.mark.parametrize(
  "damage",
  [*(_cut_off, _cut_off_in_length, _flipped_bit, _other_size, _numbers, _other_camera, _no_example, _too_few, _text)],
)
def test_damaged_trajectories_say_why(tmp_path, damage):
  data, message = damage()
  (tmp_path / "x").write_bytes(data)
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, "bair", clips=(0, 2))


def test_fewer_trajectories_than_the_name_of_the_file_says(tmp_path):
  tfrecords.write_tfrecord(tmp_path / "x", [trajectory(0), trajectory(1)])
  with pytest.raises(UnreadableVideoError, match=r"^has 2 trajectories, not 3"):
    read(tmp_path, "bair", clips=(1, 3))


def test_trajectories_before_the_damage_can_be_read(tmp_path):
  data, _ = _cut_off()
  (tmp_path / "x").write_bytes(data)
  assert levels(read(tmp_path, "bair", clips=(0, 1))) == [0, 20, 40]


def test_clips_of_a_numpy_file(tmp_path):
  # 3 times, 5 clips of 4x6 pixels; clip n is grey 10 n + t, but for its last pixel, which is black.
  videos = np.broadcast_to(10 * np.arange(5)[None, :, None, None] + np.arange(3)[:, None, None, None], (3, 5, 4, 6))
  videos = videos.astype(np.uint8)
  videos[:, :, 3, 5] = 0
  with (tmp_path / "x").open("wb") as file:
    np.save(file, videos)
  decoded = read(tmp_path, "moving_mnist", clips=(1, 4))
  frames = [np.asarray(Image.open(io.BytesIO(frame))) for frame in decoded.frames]
  assert [frame[0, 0].tolist() for frame in frames] == [[10 * n + t] * 3 for n in (1, 2, 3) for t in range(3)]
  assert all(frame.shape == (4, 6, 3) and frame[3, 5].tolist() == [0, 0, 0] for frame in frames)
  assert (decoded.cuts, decoded.fps) == ((3, 6), 0.0)
  with (tmp_path / "x").open("rb") as file:
    assert moving_mnist_shape(file) == (3, 5, 4, 6)


def _saved(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


VIDEOS = np.zeros((3, 5, 4, 6), np.uint8)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (_saved(VIDEOS)[:-1], "ends after 359 of 360 pixels"),
    (_saved(VIDEOS)[:40], "is no numpy file, or a damaged one"),
    (_saved(VIDEOS).replace(b"descr", b"de'cr"), "is no numpy file, or a damaged one"),
    (_saved(VIDEOS).replace(b"(3, 5, 4, 6)", b"(3, 5, 4, 6("), "is no numpy file, or a damaged one"),
    (b"", "is no numpy file, or a damaged one"),
    (b"Just a few words.", "is no numpy file, or a damaged one"),
    (_saved(VIDEOS.astype(np.float32)), r"holds float32 \(3, 5, 4, 6\) in C order, not uint8"),
    (_saved(VIDEOS[0]), r"holds uint8 \(5, 4, 6\) in C order, not uint8 \[T, N, H, W\]"),
    (_saved(np.asfortranarray(VIDEOS)), r"holds uint8 \(3, 5, 4, 6\) in Fortran's order"),
    (_saved(VIDEOS[:, :0]), r"holds uint8 \(3, 0, 4, 6\)"),
    (_saved(VIDEOS[:, :3]), "holds 3 clips, not 4"),
  ],
)
def test_damaged_numpy_files_say_why(tmp_path, data, message):
  (tmp_path / "x").write_bytes(data)
  with pytest.raises(UnreadableVideoError, match=f"^{message}"):
    read(tmp_path, "moving_mnist", clips=(0, 4))
