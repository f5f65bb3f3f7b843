"""Times of frames: variable rates, pauses, jumps, animations whose equal frames were merged, and their transparency."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from tests.data.source_videos import decode, encode, marked_frames
from vidgen_jax.data.decode import UnreadableVideoError
from vidgen_jax.data.resampling import irregularity
from vidgen_jax.data.source_frames import BACKGROUND
from vidgen_jax.scores.clip_sets import ClipOptions, open_clips

PAUSE = [0, 1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21]


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("matroska", "libvpx"), ("avi", "mpeg4")])
def test_pauses_are_a_variable_rate_and_no_damage(container, codec):
  data = encode(marked_frames(), container, codec, times=PAUSE, options={"bf": "0"} if codec == "libx264" else {})
  video, _ = decode(data)
  assert (len(video.frames), video.variable_rate, video.damage) == (12, "100 to 1100 ms between frames", "")
  resampled, frames = decode(data, fps=10.0)
  assert (len(frames), resampled.variable_rate) == (22, video.variable_rate)
  levels = frames[:, 32, 32, 0].astype(int)
  np.testing.assert_allclose(levels, 20 * np.repeat(np.arange(12), [1] * 5 + [11] + [1] * 6), atol=6)


THIRTIETH = Fraction(1, 30)


@pytest.mark.parametrize(
  ("times", "fps", "tick", "is_variable"),
  [
    # 25 per second in units of 1/30: gaps of one and two units by rounding only.
    ([round(index * 30 / 25) * THIRTIETH for index in range(50)], 25.0, THIRTIETH, False),
    # The same gaps where the period is a whole unit: a frame is missing.
    ([index * THIRTIETH for index in range(50) if index != 20], 30.0, THIRTIETH, True),
    # Milliseconds.
    ([Fraction(round(index * 1001 / 24), 1000) for index in range(50)], 24 / 1.001, Fraction(1, 1000), False),
    # A fifth of a frame to and fro.
    ([(index + Fraction(index % 2, 5)) / 30 for index in range(50)], 30.0, Fraction(1, 90_000), False),
    # 30 per second, then 20: no gap differs by more than a half, but frames are far from a constant rate.
    ([index * THIRTIETH for index in range(30)] + [1 + Fraction(index, 20) for index in range(30)], 24.0, 0, True),
    # Unknown times are no gaps.
    ([index * THIRTIETH if index % 5 == 0 else None for index in range(50)], 30.0, Fraction(1, 90_000), False),
    ([0, None, 1], 1.0, 0, False),
  ],
)
def test_rounding_and_jitter_are_no_variable_rate(times, fps, tick, is_variable):
  variable_rate, jump = irregularity(times, fps=fps, tick=Fraction(tick))
  assert (bool(variable_rate), jump) == (is_variable, "")


def test_times_that_run_backwards_are_a_jump():
  assert irregularity([0, 1, 2, 1, 2], fps=1.0, tick=Fraction(1)) == ("", "times jump by -1 s after frame 2")


@pytest.mark.parametrize("offset", [-30, 500])
def test_the_origin_of_the_times_does_not_matter(offset):
  data = encode(marked_frames(), "mpegts", "mpeg2video", rate=25, times=[offset + index for index in range(12)])
  video, frames = decode(data)
  assert (len(frames), video.fps, video.variable_rate, video.damage) == (12, 25.0, "", "")


def test_times_that_jump_are_damage():
  data = encode(marked_frames(), "mp4", "mpeg4", times=[*range(6), *range(10_000, 10_006)])
  video, _ = decode(data)
  assert (len(video.frames), video.damage) == (12, "times jump by 1e+03 s after frame 5")
  with pytest.raises(UnreadableVideoError, match="1000 s between frames 5 and 6"):
    decode(data, fps=10.0)


@pytest.mark.parametrize("container", ["avi", "h264"])
def test_b_frames_without_times_of_presentation_are_in_order(container):
  video, frames = decode(encode(marked_frames(), container, "libx264", rate=25, options={"bf": "3", "qp": "4"}))
  np.testing.assert_allclose(frames[:, 32, 32, 0].astype(int), 20 * np.arange(12), atol=6)
  assert (video.variable_rate, video.damage) == ("", "")


def animation(image_format, durations, images, **options):
  content = io.BytesIO()
  images[0].save(
    content, image_format, save_all=True, append_images=images[1:], duration=durations, loop=0, lossless=True, **options
  )
  return content.getvalue()


# Milliseconds. GIF rounds them down to hundredths: 83, 166, 249 are 8, 16, 24, and 33, 67, 100 are 3, 6, 10.
@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize(
  ("durations", "counts", "rate"),
  [
    ([300, 200, 100, 400], [3, 2, 1, 4], 10),
    ([100, 100, 100, 1000], [1, 1, 1, 10], 10),
    ([200, 300, 300, 200], [2, 3, 3, 2], 10),
    ([83, 166, 249, 83], [1, 2, 3, 1], 12),
    ([33, 67, 33, 100], [1, 2, 1, 3], 30),
    ([40, 40, 40, 40], [1, 1, 1, 1], 25),
    ([70, 110, 230, 1110], [1, 1, 1, 1], None),
  ],
)
def test_merged_frames_of_animations_are_repeated(image_format, durations, counts, rate):
  images = [Image.fromarray(np.full((32, 32, 3), level, np.uint8)) for level in (10, 70, 130, 190)]
  video, frames = decode(animation(image_format, durations, images))
  assert frames[:, 5, 5, 0].tolist() == np.repeat([10, 70, 130, 190], counts).tolist()
  if rate is None:
    assert video.variable_rate
  else:
    assert video.fps == pytest.approx(rate, rel=0.08)
    assert (video.variable_rate, "frames" in video.conversions) == ("", len(frames) > 4)


def test_the_still_image_of_an_animated_png_and_too_short_durations_are_ignored():
  images = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (250, 10, 70, 130)]
  video, frames = decode(animation("PNG", 10, images, default_image=True))
  assert (frames[:, 0, 0, 0].tolist(), video.fps) == ([10, 70, 130], 10.0)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_numbered_animations_are_videos_and_no_frames(suffix, tmp_path):
  for clip in range(3):
    images = [Image.fromarray(np.full((16, 16, 3), 40 * clip + 10 * frame, np.uint8)) for frame in range(4)]
    (tmp_path / f"clip_{clip}.{suffix}").write_bytes(animation(suffix.upper(), 100, images))
  clips = open_clips(tmp_path, ClipOptions())
  assert (len(clips), clips.clip_shape) == (3, (4, 16, 16, 3))
  assert clips[2][:, 0, 0, 0].tolist() == [80, 90, 100, 110]


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_objects_on_transparent_ground_are_visible(image_format, level, disposal):
  images = []
  for index in range(4):
    pixels = np.full((32, 32, 4), (255, 255, 255, 0), np.uint8)
    pixels[10:20, 2 + 7 * index : 9 + 7 * index] = (level, level, level, 255)
    images.append(Image.fromarray(pixels))
  video, frames = decode(
    animation(image_format, 100, images, **({} if image_format == "WEBP" else {"disposal": disposal}))
  )
  assert (len(frames), video.conversions) == (4, {"background": "#808080"})
  for index, frame in enumerate(frames):
    assert frame[15, 5 + 7 * index].tolist() == [level] * 3
    assert frame[2, 2].tolist() == list(BACKGROUND)
