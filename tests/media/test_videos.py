"""Single clips as files, read back by their decoders."""

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from vidgen_jax.data import transforms
from vidgen_jax.data.decode import DecodeOptions, decode_video
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError
from vidgen_jax.media import videos


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def halves(num_frames, height, width, channels=3):
  """A clip with a left half that brightens and a right half that darkens, in very different colours."""
  video = np.zeros((num_frames, height, width, 3), np.uint8)
  for time in range(num_frames):
    video[time, :, : width // 2] = (20 * time, 120, 250 - 20 * time)
    video[time, :, width // 2 :] = (250 - 20 * time, 60, 10 * time)
  return video[..., :channels]


def read_mp4(path):
  """(frames uint8[T, H, W, 3], name of the codec, frames per second)."""
  with av.open(str(path)) as container:
    stream = container.streams.video[0]
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    return np.stack(frames), stream.codec_context.name, stream.average_rate


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_is_read_back_exactly(channels, tmp_path):
  clip = noise(5, 8, 8, channels)
  videos.save_clips(tmp_path, clip[None, None], formats=["png"])
  path = tmp_path / "clip_000_sample_00.png"
  with Image.open(path) as image:
    assert image.size == (5 * 8, 8)
  with path.open("rb") as file:
    stored = decode_video(file, DecodeOptions(encoding=FrameEncoding(encoding="png")))
  np.testing.assert_array_equal(transforms.decode_squares(stored.frames, resolution=8, channels=channels), clip)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("mpeg4", "mpeg4")])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 80)])
def test_an_mp4_has_all_frames_and_similar_colours(codec, name, height, width, tmp_path, monkeypatch):
  monkeypatch.setattr(videos, "_CODECS", {codec: videos._CODECS[codec]})
  clip = halves(8, height, width)
  videos.save_mp4(tmp_path / "a.mp4", clip, fps=12.5)
  found, found_name, rate = read_mp4(tmp_path / "a.mp4")
  assert (found.shape, found_name, rate) == (clip.shape, name, 12.5)
  # Not at the edge between the halves, where colour is interpolated.
  inner = np.r_[0 : width // 2 - 2, width // 2 + 2 : width]
  assert np.abs(found[:, :, inner].astype(int) - clip[:, :, inner]).max() <= 6


def test_the_first_available_codec_is_used(tmp_path, monkeypatch):
  assert list(videos._CODECS) == ["libx264", "mpeg4"]
  monkeypatch.setattr(av, "codecs_available", {"h264", "mpeg4"})  # FFmpeg without x264 still decodes H.264
  videos.save_mp4(tmp_path / "a.mp4", halves(2, 8, 8))
  assert read_mp4(tmp_path / "a.mp4")[1] == "mpeg4"


def test_odd_sizes_are_padded_and_grey_stays_grey(tmp_path):
  clip = halves(3, 15, 17, 1)
  videos.save_mp4(tmp_path / "a.mp4", clip)
  found, _, _ = read_mp4(tmp_path / "a.mp4")
  assert found.shape == (3, 16, 18, 3)
  np.testing.assert_allclose(found[:, :15, :17].astype(int), np.broadcast_to(clip, (3, 15, 17, 3)), atol=6)
  np.testing.assert_allclose(found[:, 15, :17].astype(int), np.broadcast_to(clip[:, 14], (3, 17, 3)), atol=6)


def test_each_clip_has_its_own_file(tmp_path):
  samples = noise(2, 3, 4, 8, 8, 3) // 64 * 64  # at most 64 colours, which a GIF holds exactly
  videos.save_clips(tmp_path / "clips", samples, formats=("png", "gif"), fps=4)
  names = {f"clip_{n:03d}_sample_{k:02d}.{kind}" for n in range(2) for k in range(3) for kind in ("gif", "png")}
  assert {path.name for path in (tmp_path / "clips").iterdir()} == names
  with Image.open(tmp_path / "clips" / "clip_001_sample_02.gif") as image:
    frames = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
  np.testing.assert_array_equal(np.stack([frame for frame, _ in frames]), samples[1, 2])
  assert [duration for _, duration in frames] == [250] * 4
  with Image.open(tmp_path / "clips" / "clip_000_sample_01.png") as image:
    np.testing.assert_array_equal(np.array(image), np.concatenate(samples[0, 1], axis=1))
  videos.save_clips(tmp_path / "films", samples[:1, :1], formats=("mp4",), fps=4)
  assert [path.name for path in (tmp_path / "films").iterdir()] == ["clip_000_sample_00.mp4"]
  assert read_mp4(tmp_path / "films" / "clip_000_sample_00.mp4")[2] == 4


def test_files_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"a\.mp4 cannot be written"):
    videos.save_mp4(tmp_path / "file" / "a.mp4", noise(2, 4, 4, 3))


@pytest.mark.parametrize("fps", [1.5, 8, 25, 30, 36, 48])
@pytest.mark.parametrize("kind", ["still", "repeats", "noise"])
def test_a_gif_keeps_every_frame(kind, fps, tmp_path):
  levels = {"still": [7] * 10, "repeats": [7, 7, 9, 9, 9, 7, 200, 200, 7, 7], "noise": range(10)}[kind]
  clip = np.stack([np.full((6, 8, 3), level, np.uint8) for level in levels])
  if kind == "noise":
    clip = noise(10, 24, 24, 3) // 64 * 64
  videos.save_clips(tmp_path, clip[None, None], formats=["gif"], fps=fps)
  path = tmp_path / "clip_000_sample_00.gif"
  with Image.open(path) as image:
    assert image.n_frames == 10
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
  assert abs(sum(durations) - 10_000 / fps) <= (5 if fps < 33 else 50)
  assert max(abs(duration - 1000 / fps) for duration in durations) < 10
  with path.open("rb") as file:
    stored = decode_video(file, DecodeOptions(encoding=FrameEncoding(encoding="png")))
  frames = [np.asarray(transforms.decode_frame(frame, channels=3)) for frame in stored.frames]
  np.testing.assert_array_equal(np.stack(frames), clip)
  assert not stored.damage
  assert not stored.variable_rate


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_mp4_states_matrix_range_and_square_pixels(codec, tmp_path, monkeypatch):
  monkeypatch.setattr(videos, "_CODECS", {codec: videos._CODECS[codec]})
  videos.save_mp4(tmp_path / "a.mp4", halves(2, 16, 16))
  with av.open(str(tmp_path / "a.mp4")) as container:
    frame = next(container.decode(video=0))
    stream = container.streams.video[0]
    assert stream.sample_aspect_ratio == 1
    assert (frame.colorspace, frame.color_range) == (6, 1)  # BT.601, limited
