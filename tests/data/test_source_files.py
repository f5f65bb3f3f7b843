"""Videos and images as people have them: orientation, pixel shape, streams, times, colours, transparency."""

import io
import struct
from fractions import Fraction
from types import SimpleNamespace
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.data.source_videos import (
  BLUE,
  GREEN,
  GREY,
  MATRICES,
  NUM_FRAMES,
  RED,
  corners,
  decode,
  encode,
  ffmpeg_frames,
  marked_frames,
  with_aperture,
  with_matrix,
)
from vidgen_jax.data.container_crop import Crop, read_crop
from vidgen_jax.data.decode import UnreadableVideoError, measure_video
from vidgen_jax.data.source_frames import BACKGROUND
from vidgen_jax.data.still_images import to_rgb


class Row(NamedTuple):
  container: str
  codec: str
  pixel_format: str = "yuv420p"
  matrix: str = "identity"
  sar: str = "1:1"
  rate: str = "10"
  size: tuple[int, int] = (64, 64)
  tags: tuple[int, int] = ()  # Matrix and range.
  alpha: bool = False

  def __str__(self):
    return " ".join(map(str, self))


BEST = {
  "libx264": {"qp": "4"},
  "libx265": {"x265-params": "qp=4:log-level=none"},
  "libvpx": {"qmin": "1", "qmax": "10", "b": "1000000"},
  "libvpx-vp9": {"crf": "4", "b": "0"},
  "libsvtav1": {"crf": "10", "preset": "10"},
  "mpeg4": {"qscale": "1", "flags": "+qscale", "global_quality": "118"},
}
H264 = ("mp4", "libx264", "yuv444p")
ROWS = [
  *(Row(*H264, matrix, sar) for matrix in MATRICES for sar in ("1:1", "2:1", "64:51")),
  *(Row("mov", "mpeg4", "yuv420p", matrix, size=(64, 48)) for matrix in MATRICES),
  *(Row("matroska", "libx264", "yuv444p", sar=sar) for sar in ("2:1", "64:51", "1:2", "8:9")),
  *(Row("avi", "mpeg4", sar=sar) for sar in ("2:1", "64:51", "1:2")),
  *(Row("flv", "libx264", sar=sar) for sar in ("2:1", "64:51")),
  *(Row("mpegts", "libx264", sar=sar, rate="25") for sar in ("2:1", "12:11")),
  *(Row(*H264, rate=rate) for rate in ("24", "30000/1001", "50", "240")),
  *(Row("matroska", "libx264", rate=rate) for rate in ("24000/1001", "30", "60")),
  *(Row("webm", codec, rate="30") for codec in ("libvpx", "libsvtav1")),
  *(Row("avi", codec, "yuvj420p" if codec == "mjpeg" else "bgr0", rate="12") for codec in ("mjpeg", "ffv1")),
  *(Row("mpegts", codec, rate="25") for codec in ("libx265", "mpeg2video")),
  *(Row("mov", codec, pixel, rate="15") for codec, pixel in (("prores_ks", "yuv422p10le"), ("mjpeg", "yuvj444p"))),
  Row("flv", "libx264", rate="20"),
  Row("h264", "libx264", rate="25"),  # FFmpeg's default for files without a rate.
  *(Row("matroska", "ffv1", pixel, size=size) for pixel in ("bgr0", "yuv444p") for size in ((63, 61), (65, 33))),
  *(Row("matroska", "libx264", "yuv444p", size=size) for size in ((63, 61), (37, 53))),
  *(
    Row("mp4", "libx264", pixel, tags=(matrix, limits))
    for pixel in ("yuv444p", "yuv444p10le")
    for matrix in (1, 6, 9)
    for limits in (1, 2)
  ),
  *(
    Row(*kind, alpha=True)
    for kind in (
      *(("webm", "libvpx-vp9", "yuva420p"), ("mov", "qtrle", "argb")),
      *(("mov", "prores_ks", "yuva444p10le"), ("mov", "png", "rgba"), ("matroska", "ffv1", "yuva444p")),
    )
  ),
  Row("mov", "qtrle", "argb", "clockwise", "2:1", alpha=True),
  Row("webm", "libvpx-vp9", "yuva420p", size=(66, 50), alpha=True),
]


def upright(colours, matrix):
  """Colours of the corners after the display matrix."""
  grid = np.reshape(colours, (2, 2, 3))
  a, b, c, d = MATRICES[matrix]
  grid = grid if a else grid.transpose(1, 0, 2)
  return grid[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1].reshape(4, 3)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_frames_are_upright_and_square_in_the_right_colours(row):
  source = marked_frames(*row.size, alpha=row.alpha)
  tags = dict(zip(("colorspace", "color_range"), row.tags, strict=False))
  sar = None if row.sar == "1:1" else Fraction(row.sar.replace(":", "/"))
  data = encode(
    source, row.container, row.codec, row.pixel_format, rate=row.rate, sar=sar, tags=tags, options=BEST.get(row.codec)
  )
  data = with_matrix(data, MATRICES[row.matrix]) if row.container in ("mp4", "mov") else data
  video, frames = decode(data)
  expected = [BACKGROUND] * 4 if row.alpha else upright([RED, GREEN, BLUE, GREY], row.matrix)
  for frame, step in zip(frames, source[:, row.size[1] // 2, row.size[0] // 2, 0], strict=True):
    np.testing.assert_allclose(corners(frame), expected, atol=6)
    np.testing.assert_allclose(frame[frame.shape[0] // 2, frame.shape[1] // 2].astype(int), int(step), atol=6)
  assert len(frames) == NUM_FRAMES
  assert (video.damage, video.variable_rate) == ("", "")
  assert video.fps == pytest.approx(float(Fraction(row.rate)), rel=0.002)
  assert set(video.conversions) == {
    *(["orientation"] * (row.matrix != "identity")),
    *(["sample_aspect_ratio"] * (sar is not None)),
    *(["background"] * row.alpha),
  }
  if row.alpha:
    np.testing.assert_allclose(
      frames[:, :, -1].astype(int), np.broadcast_to(BACKGROUND, frames[:, :, -1].shape), atol=3
    )
  else:
    reference = ffmpeg_frames(data)
    assert frames.shape == reference.shape
    assert np.abs(frames.astype(int) - reference).mean() < 1.5  # Filters interpolate chroma otherwise.
    np.testing.assert_allclose(corners(frames[0]), corners(reference[0]), atol=3)


def test_the_pixel_shape_of_the_container_overrides_that_of_the_codec():
  data = encode(marked_frames(), "mp4", "libx264", "yuv444p", sar=2)
  start = data.rindex(b"pasp") + 4
  assert data[start : start + 8] == struct.pack(">2i", 2, 1)
  for stated, size, noted in (((1, 2), (128, 64), "1:2"), ((1, 1), (64, 64), None), ((0, 0), (64, 128), "2:1")):
    video, frames = decode(data[:start] + struct.pack(">2i", *stated) + data[start + 8 :])
    assert (frames.shape[1:3], video.conversions.get("sample_aspect_ratio")) == (size, noted)
  with pytest.raises(UnreadableVideoError, match="sample aspect ratio of 1000:1"):
    decode(data[:start] + struct.pack(">2i", 1000, 1) + data[start + 8 :])


def test_other_angles_are_refused():
  data = encode(marked_frames(), "mp4", "mpeg4")
  with pytest.raises(UnreadableVideoError, match="not a rotation by a multiple of 90 degrees"):
    decode(with_matrix(data, (1, 1, -1, 1)))
  assert decode(with_matrix(data, (0, 0, 0, 0)))[0].conversions == {}


# The second one has the size of the stored frame.
@pytest.mark.parametrize(("sar", "crop", "size"), [(None, (32, 48), (32, 48)), (2, (32, 64), (64, 64))])
def test_the_clean_aperture_of_mp4_is_cropped(sar, crop, size):
  source, (width, height) = marked_frames(), crop
  data = with_aperture(encode(source, "mp4", "libx264", "yuv444p", sar=sar), width, height, 4, (height - 64) // 2)
  video, frames = decode(data)
  # From (64 - 32) / 2 + 4 = 20 to 52, and from 0.
  assert (frames.shape[2:0:-1], video.conversions["cropping"]) == (size, f"{width}x{height} of 64x64")
  shown = frames if sar is None else frames[:, :, ::2]
  np.testing.assert_allclose(corners(shown[0]), corners(source[0, :height, 20:52, :3]), atol=6)
  _, turned = decode(with_matrix(data, MATRICES["clockwise"]))
  np.testing.assert_array_equal(turned, np.rot90(frames, -1, axes=(1, 2)))


def test_the_cropping_of_matroska_is_read():
  def element(kind, content):
    return kind + bytes([0x80 | len(content)]) + content

  crops = element(b"\x54\xbb", b"\x08") + element(b"\x54\xcc", b"\x02") + element(b"\x54\xdd", b"\0\x04")
  video = element(b"\xae", element(b"\x83", b"\x01") + element(b"\xe0", crops))
  sound = element(b"\xae", element(b"\x83", b"\x02"))
  tracks = element(b"\x16\x54\xae\x6b", sound + video)
  content = element(b"\x1a\x45\xdf\xa3", b"head") + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + tracks
  stream = SimpleNamespace(width=64, height=64)
  container = SimpleNamespace(
    format=SimpleNamespace(name="matroska,webm"), streams=SimpleNamespace(video=[stream, SimpleNamespace()])
  )
  file = io.BytesIO(content)
  assert read_crop(file, container, stream) == Crop(left=2, top=8, right=4, bottom=0)
  assert file.tell() == 0
  assert read_crop(file, container, container.streams.video[1]) is None
  stream.width = 6  # Nothing would be left.
  assert read_crop(file, container, stream) is None


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer, name):
  tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer}
  data = encode(marked_frames(), "matroska", "libx264", "yuv420p10le", tags=tags)
  for read in (decode, lambda data: measure_video(io.BytesIO(data))):
    with pytest.raises(UnreadableVideoError, match=rf"HDR video \({name}\)"):
      read(data)


def cover(container, *, order, default=None, video=True):
  """A file with an attached picture of 96x96 and, if `video`, with streams of 64x64 and 80x80, in this order."""
  content = io.BytesIO()
  with av.open(content, "w", format=container) as output:
    streams = {}
    for name in order:
      side = {"cover": 96, "small": 64, "large": 80}[name]
      stream = streams[name] = output.add_stream("mjpeg" if name == "cover" else "libx264", rate=10)
      stream.width = stream.height = side
      stream.pix_fmt = "yuvj420p" if name == "cover" else "yuv420p"
      # PyAV 17 takes numbers only.
      stream.disposition = (Disposition.attached_pic if name == "cover" else Disposition(int(name == default))).value
    for name, stream in streams.items():
      for index in range(1 if name == "cover" else 12):
        pixels = np.full((stream.height, stream.width, 3), 20 * index, np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = index, Fraction(1, 10)
        output.mux(stream.encode(frame))
      output.mux(stream.encode())
  return content.getvalue()


@pytest.mark.parametrize(
  ("order", "default", "side", "noted"),
  [
    (("cover", "small"), None, 64, None),
    (("small", "cover"), None, 64, None),
    (("small", "large"), None, 80, "2 of 2"),
    (("large", "small"), "small", 64, "2 of 2"),
    (("cover", "small", "large"), "small", 64, "1 of 2"),
  ],
)
def test_the_default_stream_else_the_largest_is_read(order, default, side, noted):
  video, frames = decode(cover("matroska" if "cover" not in order else "mp4", order=order, default=default))
  assert (frames.shape[:3], video.conversions.get("stream")) == ((12, side, side), noted)


def test_files_without_moving_images_give_the_reason():
  with pytest.raises(UnreadableVideoError, match="no video stream, only cover image"):
    decode(cover("mp4", order=("cover",)))
  unknown = encode(marked_frames(), "matroska", "libx264").replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC")
  with pytest.raises(UnreadableVideoError, match="no video stream, only video of unknown codec"):
    decode(unknown)
  content = io.BytesIO()
  with av.open(content, "w", format="mp4") as output:
    stream = output.add_stream("aac", rate=8000)
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
    sound.rate = 8000
    output.mux(stream.encode(sound))
    output.mux(stream.encode())
  with pytest.raises(UnreadableVideoError, match="no video stream, only audio"):
    decode(content.getvalue())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_and_frames_are_turned_as_their_exif_says(orientation, strip, tmp_path):
  frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (40, 120, 200)])
  frames[:, :4, :4] = RED
  turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpositions that undo the ones of EXIF, see its definition.
  stored = Image.open(io.BytesIO(strip(frames)))
  stored = stored if orientation == 1 else stored.transpose(Image.Transpose(turns[orientation]))
  exif, content = Image.Exif(), io.BytesIO()
  exif[0x0112] = orientation
  stored.save(content, "PNG", exif=exif)
  video, found = decode(content.getvalue())
  np.testing.assert_array_equal(found, frames)
  assert list(video.conversions) == ([] if orientation == 1 else ["orientation"])
  np.testing.assert_array_equal(
    np.asarray(to_rgb(Image.open(content))), np.asarray(Image.open(io.BytesIO(strip(frames))))
  )
