import pytest

from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError


def test_clip_length_includes_the_frames_between():
  # Frames 0, 3, 6, 9, 12 of a clip: 13 frames.
  assert DataConfig(name="x", num_frames=5, resolution=8, frame_stride=3).clip_length == 13
  assert DataConfig(name="x", num_frames=1, resolution=8, frame_stride=3).clip_length == 1


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("num_frames", 0),
    ("resolution", 0),
    ("frame_stride", 0),
    ("num_threads", 0),
    ("prefetch", 0),
    ("workers", -1),
    ("channels", 4),
    ("eval_window", "middle"),
    ("eval_window_stride", 0),
    ("resize", "stretch"),
    ("resize_to", 31),
    ("train_crop", "left"),
  ],
)
def test_invalid_value_names_the_field(field, value):
  with pytest.raises(UserError, match=rf"data\.{field}.*{value}"):
    DataConfig(**{"name": "x", "num_frames": 8, "resolution": 32, field: value})


def test_a_side_without_resizing_is_refused():
  with pytest.raises(UserError, match=r"data\.resize_to=64 .*data\.resize=none"):
    DataConfig(name="x", num_frames=8, resolution=32, resize="none", resize_to=64)


def test_a_distance_of_windows_without_several_windows_is_refused():
  with pytest.raises(UserError, match=r"data\.eval_window_stride=4 needs data\.eval_window=all, got start"):
    DataConfig(name="x", num_frames=8, resolution=32, eval_window="start", eval_window_stride=4)


def test_the_framing_is_described():
  make = lambda **changes: DataConfig(name="x", num_frames=8, resolution=96, **changes).framing
  assert make() == "smallest side 96, centre crop"
  assert make(resize="squash", resize_to=127) == "squashed to 127x127, centre crop"
  assert make(resize="none") == "not resized, centre crop"
