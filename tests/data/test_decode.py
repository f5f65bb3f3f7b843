import io
import wave

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError, decode_video
from vidgen_jax.data.transforms import FrameEncoding

PNG = FrameEncoding(encoding="png")
LEVELS = [20, 60, 100, 140, 180, 220]


def decode(data, *, size=0, **options):
  return decode_video(io.BytesIO(data), DecodeOptions(size=size, encoding=PNG, **options))


def levels(decoded):
  """Mean grey of every frame."""
  return [float(np.mean(Image.open(io.BytesIO(frame)))) for frame in decoded.frames]


@pytest.mark.parametrize(
  ("codec", "container"),
  [("mpeg4", "mp4"), ("libx264", "mp4"), ("mpeg4", "avi"), ("mjpeg", "avi"), ("libvpx", "webm"), ("gif", "gif")],
)
@pytest.mark.parametrize("name", ["video.txt", "video.jpg"])
def test_the_content_decides_the_format(tmp_path, video, codec, container, name):
  path = video(tmp_path / name, LEVELS, codec=codec, container=container)
  with path.open("rb") as file:
    decoded = decode_video(file, DecodeOptions(encoding=PNG))
  np.testing.assert_allclose(levels(decoded), LEVELS, atol=5)
  assert decoded.fps == pytest.approx(25, rel=0.01)
  assert (decoded.height, decoded.width) == (decoded.source_height, decoded.source_width) == (32, 48)


def test_videos_are_resized(tmp_path, video):
  path = video(tmp_path / "a.mp4", LEVELS, codec="mpeg4", container="mp4", size=(64, 48))
  decoded = decode(path.read_bytes(), size=24)
  assert (decoded.height, decoded.width, decoded.source_height, decoded.source_width) == (24, 32, 48, 64)
  assert Image.open(io.BytesIO(decoded.frames[0])).size == (32, 24)


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("tall", [False, True])
def test_strips_are_split_along_the_long_side(strip, marked_clip, image_format, tall):
  frames = marked_clip(7, 5)
  decoded = decode(strip(frames, tall=tall, image_format=image_format), source_fps=12.5)
  assert decoded.fps == 12.5
  assert (decoded.height, decoded.width, len(decoded.frames)) == (8, 8, 5)
  found = np.stack([np.asarray(Image.open(io.BytesIO(frame))) for frame in decoded.frames])
  np.testing.assert_allclose(found.astype(int), frames, atol=6 if image_format == "WEBP" else 0)


def test_an_alpha_channel_is_dropped(strip, marked_clip):
  frames = np.concatenate([marked_clip(7, 3), np.full((3, 8, 8, 1), 255, np.uint8)], axis=-1)
  decoded = decode(strip(frames))
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(decoded.frames[2]))), frames[2, ..., :3])


def damaged_files(strip, marked_clip):
  png = strip(np.random.default_rng(0).integers(256, size=(6, 16, 16, 3), dtype=np.uint8))
  return {
    "empty": (b"", "empty file"),
    "zeros": (bytes(5000), "corrupt or not a video"),
    "text": (b"Some words.\n" * 50, "corrupt or not a video"),
    "half a PNG": (png[: len(png) // 2], "corrupt image"),
    "PNG header only": (png[:20], "corrupt"),
    "no strip": (strip(marked_clip(0, 1, 8)[:, :, :5]), "not a strip of square frames"),
  }


@pytest.mark.parametrize("kind", ["empty", "zeros", "text", "half a PNG", "PNG header only", "no strip"])
def test_damaged_files_give_the_reason(strip, marked_clip, kind):
  data, reason = damaged_files(strip, marked_clip)[kind]
  with pytest.raises(UnreadableVideoError, match=reason) as error:
    decode(data)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "text"), [("list.mp4", "ffconcat version 1.0\nfile real.mp4\n"), ("notes.txt", "Some words.\n" * 50)]
)
def test_play_lists_and_texts_are_not_videos(tmp_path, video, name, text):
  # FFmpeg would follow the play list to the real video, and render the text.
  video(tmp_path / "real.mp4", LEVELS, codec="mpeg4", container="mp4")
  (tmp_path / name).write_text(text)
  with (tmp_path / name).open("rb") as file, pytest.raises(UnreadableVideoError, match="corrupt or not a video"):
    decode_video(file, DecodeOptions(encoding=PNG))


def test_truncated_mp4_gives_the_reason(tmp_path, video):
  data = video(tmp_path / "a.mp4", LEVELS, codec="mpeg4", container="mp4").read_bytes()
  with pytest.raises(UnreadableVideoError, match=r"no video stream|corrupt or not a video"):
    decode(data[: len(data) // 2])


def test_sound_without_images_is_not_a_video(tmp_path):
  with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
    sound.setnchannels(1)
    sound.setsampwidth(2)
    sound.setframerate(8000)
    sound.writeframes(bytes(8000))
  with pytest.raises(UnreadableVideoError):
    decode((tmp_path / "a.wav").read_bytes())


@pytest.mark.parametrize(
  ("name", "frames", "fps", "size"),
  [("demo.mp4", 280, 28, (256, 427)), ("part_0.mp4", 32, 30, (256, 455)), ("test.avi", 164, 25, (240, 320))],
)
def test_real_clips_have_square_pixels(shared_data, name, frames, fps, size):
  with (shared_data / "clips" / name).open("rb") as file:
    decoded = decode_video(file, DecodeOptions(size=32, encoding=FrameEncoding(encoding="jpeg")))
  assert (len(decoded.frames), decoded.fps) == (frames, fps)
  # The first two store 340 columns, of 64:51 and 1024:765.
  assert (decoded.source_height, decoded.source_width, decoded.height) == (*size, 32)
