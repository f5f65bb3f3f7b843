"""Resampling in time: the frame that is shown at each time of the result."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError, decode_video
from vidgen_jax.data.resampling import Timed, TimingError, resample
from vidgen_jax.data.transforms import FrameEncoding

PNG = FrameEncoding(encoding="png")


def numbered_video(times, *, container="mp4", codec="mpeg4", start=0):
  """Bytes of a video whose frames show their index in binary, as black and white columns; times in 1/600 s."""
  content = io.BytesIO()
  with av.open(content, "w", format=container) as output:
    stream = output.add_stream(codec, rate=600)
    stream.width, stream.height, stream.pix_fmt = 64, 16, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 600)
    for index, time in enumerate(times):
      bits = [255 * (index >> bit & 1) for bit in range(8)]
      pixels = np.tile(np.repeat(np.array(bits, np.uint8), 8)[None, :, None], (16, 1, 3))
      frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
      frame.pts, frame.time_base = start + time, Fraction(1, 600)
      output.mux(stream.encode(frame))
    output.mux(stream.encode())
  return content.getvalue()


def decoded_indices(data, fps):
  decoded = decode_video(io.BytesIO(data), DecodeOptions(encoding=PNG, fps=fps))
  assert decoded.fps == fps
  columns = [np.asarray(Image.open(io.BytesIO(frame)))[8, 4::8, 0] > 127 for frame in decoded.frames]
  return [int(sum(int(bit) << place for place, bit in enumerate(bits))) for bits in columns]


VARIABLE = np.cumsum([0, *([10, 20, 12, 36, 18, 24] * 10)])[:-1].tolist()  # Gaps of 1/60 to 1/16.7 s: 1200 in all.


@pytest.mark.parametrize("start", [0, 700])
@pytest.mark.parametrize("source", [24, 25, 30, 50, 60, "variable"])
def test_two_seconds_give_50_frames_at_25_per_second(source, start):
  times = VARIABLE if source == "variable" else list(range(0, 1200, 600 // source))
  found = decoded_indices(numbered_video(times, start=start), 25.0)
  assert len(found) == 50
  # Times are in 1/600 s: a period of the result is 24, and that of the source the longest gap next to the frame.
  gaps = [*np.diff(times), 1200 - times[-1]]
  for index, time in zip(found, range(0, 1200, 24), strict=True):
    assert abs(times[index] - time) <= max(24, gaps[index], gaps[index - 1] if index else 0) / 2
    assert abs(times[index] - time) == min(abs(other - time) for other in times)


def indices(times, *, fps, rate=0.0, durations=()):
  timed = [
    Timed(
      "abcdefgh"[i], None if time is None else Fraction(time), (Fraction(durations[i]) if durations else None), rate
    )
    for i, time in enumerate(times)
  ]
  found = list(resample(timed, fps=fps))
  assert all(frame == "abcdefgh"[index] for index, frame in found)
  return [index for index, _ in found]


def test_a_frame_before_a_pause_is_repeated_until_its_end():
  # At 0, 0.5, 1, 1.5, 2 seconds; frame 2 may be early by half a period, 0.25 seconds.
  assert indices(["0", "0.25", "2.2"], fps=2, rate=4) == [0, 1, 1, 1, 2]
  assert indices(["0", "0.25", "2.3"], fps=2, rate=4) == [0, 1, 1, 1, 1]
  # The last frame lasts as long as the file says, or else a period of its rate.
  assert indices(["0", "0.25"], fps=2, rate=4, durations=["0.25", "1.75"]) == [0, 1, 1, 1]
  assert indices(["0", "0.25"], fps=4, rate=4) == [0, 1]
  assert indices(["0", "0.25"], fps=4, rate=4, durations=["0.25", "0.001"]) == [0, 1]
  with pytest.raises(TimingError, match="75 s between frames 0 and 1, at most 60"):
    indices(["0", "75"], fps=2)


@pytest.mark.parametrize(
  ("milliseconds", "count"), [((2000, 1000), 30), ((2000, 100), 21), ((500, 500, 500, 500, 100), 21), ((100, 2000), 21)]
)
def test_the_last_frame_of_a_gif_lasts_as_long_as_it_states(milliseconds, count):
  content = io.BytesIO()
  first, *others = [Image.new("L", (16, 16), 40 * index) for index in range(len(milliseconds))]
  first.save(content, "GIF", save_all=True, append_images=others, duration=milliseconds)
  content.seek(0)
  assert len(decode_video(content, DecodeOptions(encoding=PNG, fps=10.0)).frames) == count


def test_missing_repeated_and_decreasing_times():
  # Frames without a time follow at the rate of the video.
  assert indices([None, None, None, None], fps=4, rate=4) == [0, 1, 2, 3]
  assert indices(["5", None, "5.5", None], fps=4, rate=4) == [0, 1, 2, 3]
  assert indices([None, "7.25", "7.5"], fps=4, rate=4) == [0, 1, 2]
  # Of frames at one time, the last one is shown.
  assert indices(["0", "0.25", "0.25", "0.5"], fps=4, rate=4) == [0, 2, 3]
  # The clock of a broadcast begins again.
  assert indices(["9", "9.25", "0", "0.25"], fps=4, rate=4) == [0, 1, 2, 3]


def test_an_unknown_rate_matters_only_without_times():
  assert indices(["0", "0.25", "0.5"], fps=8) == [0, 1, 1, 2, 2, 2]
  with pytest.raises(TimingError, match="frame rate is unknown, which --fps needs; pass --source_fps"):
    indices([None, None], fps=8)
  assert indices([None], fps=8) == [0]
  assert indices([], fps=8) == []


def test_strips_need_their_rate(strip, marked_clip):
  data = strip(marked_clip(7, 4))
  decoded = decode_video(io.BytesIO(data), DecodeOptions(encoding=PNG, fps=6.0, source_fps=12.0))
  greens = [int(np.asarray(Image.open(io.BytesIO(frame)))[0, 0, 1]) for frame in decoded.frames]
  assert (greens, decoded.fps, decoded.source_fps) == ([0, 2], 6.0, 12.0)
  with pytest.raises(UnreadableVideoError, match="pass --source_fps"):
    decode_video(io.BytesIO(data), DecodeOptions(encoding=PNG, fps=6.0))
