"""Small video files of every kind, and their frames according to FFmpeg's filters."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from PIL import Image

from vidgen_jax.data.decode import DecodeOptions, decode_video, iterate_frames, measure_video
from vidgen_jax.data.transforms import FrameEncoding

NUM_FRAMES = 12

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 180, 30), (40, 40, 200), (180, 180, 180)

# (a, b, c, d) of the display matrix by what it does.
MATRICES = {
  "identity": (1, 0, 0, 1),
  "mirrored": (-1, 0, 0, 1),
  "upside down": (1, 0, 0, -1),
  "half turn": (-1, 0, 0, -1),
  "transposed": (0, 1, 1, 0),
  "clockwise": (0, 1, -1, 0),
  "counterclockwise": (0, -1, 1, 0),
  "transversed": (0, -1, -1, 0),
}


def corners(video):
  """Colours [4, 3] of top left, top right, bottom left and bottom right of a frame [H, W, 3], a little inside."""
  (height, width), video = video.shape[:2], video.astype(int)
  return [video[y, x] for y in (height // 8, height - 1 - height // 8) for x in (width // 8, width - 1 - width // 8)]


def marked_frames(width=64, height=64, *, alpha=False):
  """Frames with red, green, blue and grey quarters, and in the centre a square that becomes brighter with time.

  With `alpha`, all but the centre is transparent, and opaque colours are the exception.
  """
  frames = np.zeros((NUM_FRAMES, height, width, 4), np.uint8)
  y, x = height // 2, width // 2
  for quarter, colour in (
    *((np.s_[:, :y, :x, :3], RED), (np.s_[:, :y, x:, :3], GREEN)),
    *((np.s_[:, y:, :x, :3], BLUE), (np.s_[:, y:, x:, :3], GREY)),
  ):
    frames[quarter] = colour
  frames[..., 3] = 0 if alpha else 255
  centre = np.s_[:, y // 2 : y + y // 2, x // 2 : x + x // 2]
  frames[centre] = 255
  frames[(*centre, np.s_[:3])] = (20 * np.arange(NUM_FRAMES, dtype=np.uint8))[:, None, None, None]
  return frames


def encode(frames, container, codec, pixel_format="yuv420p", *, rate=10, sar=None, tags=None, options=None, times=None):
  """Bytes of a video file of the frames uint8[T, H, W, 4].

  `tags` are 'colorspace', 'color_range', 'color_primaries' and 'color_trc', by FFmpeg's numbers, and `times` are those
  of the frames in periods.
  """
  content, tags, rate = io.BytesIO(), tags or {}, Fraction(rate)
  with av.open(content, "w", format=container) as output:
    stream = output.add_stream(codec, rate=rate, options=options or {})
    (stream.height, stream.width), stream.pix_fmt = frames.shape[1:3], pixel_format
    if sar is not None:
      stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(sar)
    for name, value in tags.items():
      setattr(stream.codec_context, name, value)
    for index, pixels in enumerate(frames):
      matrix, limits = {1: 1, 9: 9}.get(tags.get("colorspace"), 5), tags.get("color_range", 1)
      frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(
        format=pixel_format, dst_colorspace=matrix, dst_color_range=limits
      )
      frame.pts, frame.time_base = (index if times is None else times[index]), 1 / rate
      frame.colorspace, frame.color_range = tags.get("colorspace", 2), tags.get("color_range", 0)
      output.mux(stream.encode(frame))
    output.mux(stream.encode())
  return content.getvalue()


def with_matrix(data, matrix):
  """MP4 or MOV bytes whose only track has the display matrix (a, b, c, d)."""
  (a, b, c, d), header = matrix, data.rindex(b"tkhd")
  start = header + (44 if data[header + 4] == 0 else 56)
  one = 1 << 16
  packed = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
  return data[:start] + packed + data[start + 36 :]


def with_aperture(data, width, height, right, down):
  """Bytes of an MP4 of H.264 with a clean aperture of this size, whose centre is moved right and down."""
  entry = data.rindex(b"avc1") - 4
  end = entry + int.from_bytes(data[entry : entry + 4])
  box = struct.pack(">I4s4I4i", 40, b"clap", width, 1, height, 1, right, 1, down, 1)
  grown = bytearray(data[:end] + box + data[end:])
  for start in (entry, *(data.rindex(kind) - 4 for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"))):
    grown[start : start + 4] = (int.from_bytes(data[start : start + 4]) + len(box)).to_bytes(4)
  return bytes(grown)


def ffmpeg_frames(data):
  """uint8[T, H, W, 3] as FFmpeg's program shows them by the display matrix, and square pixels by its 'scale'."""
  with av.open(io.BytesIO(data)) as container:
    stream = container.streams.video[0]
    graph, found = None, []
    for frame in container.decode(stream):
      if graph is None:
        graph = _graph(stream, frame)
      graph.vpush(frame)
      found.append(graph.vpull().to_ndarray())
  return np.stack(found)


def _graph(stream, frame):
  matrix = frame.side_data.get(Type.DISPLAYMATRIX)
  m = [1, 0, 0, 0, 1] if matrix is None else np.sign(np.frombuffer(matrix, np.int32)).tolist()
  # fftools/ffmpeg_filter.c, configure_input_video_filter.
  if m[1]:
    clockwise = ("cclock_flip" if m[3] > 0 else "clock") if m[1] > 0 else ("clock_flip" if m[3] < 0 else "cclock")
    turns = [("transpose", clockwise)]
  else:
    turns = [("hflip", "")] * (m[0] < 0) + [("vflip", "")] * (m[4] < 0)
  # The side with the larger pixels is enlarged.
  width, height, aspect = frame.width, frame.height, stream.sample_aspect_ratio or 1
  sides = [round(width * aspect), height] if aspect > 1 else [width, round(height / aspect)]
  scale = ("scale", "{}:{}:flags=bicubic".format(*(sides[::-1] if m[1] else sides)))
  graph = av.filter.Graph()
  filters = [graph.add(*node) for node in (*turns, scale, ("format", "rgb24"), ("buffersink", ""))]
  graph.link_nodes(graph.add_buffer(template=stream), *filters).configure()
  return graph


def decode(data, **options):
  """(DecodedVideo, its frames as uint8[T, H, W, 3]); checks that the other functions give the same frames."""
  video = decode_video(io.BytesIO(data), DecodeOptions(encoding=FrameEncoding(encoding="png"), **options))
  frames = np.stack([np.asarray(Image.open(io.BytesIO(frame))) for frame in video.frames])
  if not options:
    assert measure_video(io.BytesIO(data))[:4] == (*frames.shape[:3], video.source_fps)
    iterated = list(iterate_frames(io.BytesIO(data), wanted=range(1, 100, 2)))
    np.testing.assert_array_equal(np.stack(iterated), frames[1::2])
  return video, frames
