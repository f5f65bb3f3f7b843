"""Contact sheets, and PNG and GIF files, read back by Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.sheet_cells import read_cells
from vidgen_jax.errors import UserError
from vidgen_jax.media import images


def _read_gif(path) -> tuple[np.ndarray, list[int]]:
  """Frames uint8[T, H, W, 3] and durations in ms."""
  with Image.open(path) as image:
    frames = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
  return np.stack([frame for frame, _ in frames]), [duration for _, duration in frames]


def _noise(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_exact(tmp_path, channels):
  image = _noise(5, 7, channels)
  images.save_png(tmp_path / "new" / "a.png", image)
  with Image.open(tmp_path / "new" / "a.png") as image:
    np.testing.assert_array_equal(np.array(image), np.broadcast_to(image, (5, 7, 3)))
  assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_gif_of_few_colours_is_exact(tmp_path):
  # 3 clips of 8x8 noise are at most 192 colours a frame and far more than 256 over all frames.
  videos = _noise(3, 5, 8, 8, 3)
  images.save_gif(tmp_path / "a.gif", videos, fps=4, columns=2, gap=1)
  frames, durations = _read_gif(tmp_path / "a.gif")
  assert frames.shape == (5, 1 + 2 * 9, 1 + 2 * 9, 3) and durations == [250] * 5
  np.testing.assert_array_equal(frames[:, 1:9, 1:9], videos[0])
  np.testing.assert_array_equal(frames[:, 1:9, 10:18], videos[1])
  np.testing.assert_array_equal(frames[:, 10:18, 1:9], videos[2])
  assert (frames[:, 10:18, 10:18] == 255).all()


def test_a_small_object_keeps_its_colour(tmp_path):
  # A smooth background of thousands of colours, and 4x4 pixels of a pure blue far from all of them.
  rows, columns = np.mgrid[:96, :96]
  ground = np.stack([rows * 2, columns * 2, (rows + columns) // 2], axis=-1).astype(np.uint8)
  videos = np.stack([ground] * 3)[None]
  for frame in range(3):
    videos[0, frame, 20:24, 10 * frame : 10 * frame + 4] = (10, 0, 255)
  images.save_gif(tmp_path / "a.gif", videos, gap=0)
  frames, _ = _read_gif(tmp_path / "a.gif")
  for frame in range(3):
    seen = frames[frame, 20:24, 10 * frame : 10 * frame + 4].astype(int)
    assert np.abs(seen - [10, 0, 255]).mean() < 12
  assert np.abs(frames.astype(int) - videos[0]).mean() < 8


def test_files_are_written_atomically(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"a\.png cannot be written"):
    images.save_png(tmp_path / "file" / "a.png", _noise(4, 4, 3))
  (tmp_path / "b.png").mkdir()
  with pytest.raises(UserError, match=r"b\.png cannot be written"):
    images.save_png(tmp_path / "b.png", _noise(4, 4, 3))
  assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "file"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("conditioning_indices", [(0, 1), (0, 4), (2,), ()])
def test_prediction_images(tmp_path, channels, conditioning_indices):
  truth = _noise(2, 5, 64, 64, channels)
  prediction, guess = truth // 2, truth // 3
  sheet = images.save_prediction_images(
    tmp_path, 1000, conditioning_indices=conditioning_indices, prediction=prediction, truth=truth, guess=guess
  )
  with Image.open(tmp_path / "contact_sheet_00001000.png") as image:
    np.testing.assert_array_equal(np.array(image), sheet)
  # Cells of 64 pixels + 2 of border on each side + 2 of gap; four rows: truth and prediction of either clip.
  strip = sheet.shape[0] - (2 + 4 * 70)
  assert sheet.shape[1] == 2 + 5 * 70 and strip > 0
  full = [clips[n] for n in range(2) for clips in (truth, prediction)]
  for row in range(4):
    for column in range(5):
      top, left = strip + 2 + 70 * row, 2 + 70 * column
      cell = sheet[top : top + 68, left : left + 68]
      np.testing.assert_array_equal(cell[2:66, 2:66], np.broadcast_to(full[row][column], (64, 64, 3)))
      border = images.CONDITIONING_COLOUR if column in conditioning_indices else images.GENERATED_COLOUR
      np.testing.assert_array_equal(cell[[0, 1, -1]], np.broadcast_to(border, (3, 68, 3)))
  frames, _ = _read_gif(tmp_path / "prediction_00001000.gif")
  assert frames.shape == (5, 2 + 2 * 70, 2 + 3 * 70, 3)


def test_frame_labels():
  assert images.frame_labels((0, 3), 4) == ["cond 0", "t=1", "t=2", "cond 3"]
  assert images.frame_labels((), 2) == ["t=0", "t=1"]


def test_prediction_images_enlarge_small_frames(tmp_path):
  clips = _noise(1, 2, 16, 16, 3)
  arrays = {"prediction": clips, "truth": clips, "guess": clips}
  sheet = images.save_prediction_images(tmp_path, 1, conditioning_indices=(0,), **arrays)
  strip = sheet.shape[0] - (2 + 2 * 70)
  np.testing.assert_array_equal(sheet[strip + 4 : strip + 68, 4:68][::4, ::4], clips[0, 0])
  with pytest.raises(ValueError, match="same shape"):
    images.save_prediction_images(tmp_path, 1, conditioning_indices=(0,), **arrays | {"truth": clips[:, :1]})


def test_the_rows_of_a_comparison_are_versions_of_each_clip(tmp_path):
  values = np.array([10, 20], np.uint8).reshape(2, 1, 1, 1, 1)
  clips = np.broadcast_to(values, (2, 3, 64, 64, 1))
  images.save_comparison(tmp_path / "sheet.png", {"a": clips, "b": clips + 5}, (2,))
  shown, borders = read_cells(tmp_path / "sheet.png", 4, 3)
  assert shown[:, 0, 9, 9, 0].tolist() == [10, 15, 20, 25]
  colours = [images.GENERATED_COLOUR] * 2 + [images.CONDITIONING_COLOUR]
  np.testing.assert_array_equal(borders, np.broadcast_to(colours, (4, 3, 3)))


def test_contact_sheet_places_every_frame():
  clips = _noise(2, 3, 4, 5, 3)
  sheet = images.contact_sheet(clips, gap=1)
  assert sheet.shape == (1 + 2 * 5, 1 + 3 * 6, 3)
  assert sheet.dtype == np.uint8
  seen = np.zeros(sheet.shape[:2], bool)
  for row in range(2):
    for column in range(3):
      cell = (slice(1 + 5 * row, 5 + 5 * row), slice(1 + 6 * column, 6 + 6 * column))
      np.testing.assert_array_equal(sheet[cell], clips[row, column])
      seen[cell] = True
  assert (sheet[~seen] == 255).all()
  np.testing.assert_array_equal(images.contact_sheet(clips[:, None], gap=1), sheet)
  np.testing.assert_array_equal(images.contact_sheet(clips[..., :1]), images.contact_sheet(clips[..., [0, 0, 0]]))


def test_column_labels_are_above_their_columns():
  clips = np.zeros((1, 3, 32, 32, 3), np.uint8)
  plain = images.contact_sheet(clips)
  labelled = images.contact_sheet(clips, column_labels=["1", "", "3"])
  strip = labelled[: len(labelled) - len(plain)]
  np.testing.assert_array_equal(labelled[len(strip) :], plain)
  inked = (strip < 128).any(axis=(0, 2))
  assert inked[2:34].any() and not inked[36:68].any() and inked[70:102].any()


@pytest.mark.parametrize("column_labels", [(), ["a", "b"]])
def test_row_labels_are_left_of_their_rows(column_labels):
  clips = np.zeros((3, 2, 32, 32, 3), np.uint8)
  plain = images.contact_sheet(clips, column_labels=column_labels)
  labelled = images.contact_sheet(clips, column_labels=column_labels, row_labels=["1", "", "a long label"])
  width = labelled.shape[1] - plain.shape[1]
  np.testing.assert_array_equal(labelled[:, width:], plain)
  inked = (labelled[:, :width] < 128).any(axis=(1, 2))
  top = len(plain) - 3 * 34
  assert inked[top : top + 32].any() and not inked[top + 32 : top + 68].any() and inked[top + 68 : top + 100].any()
  assert not inked[:top].any() and (labelled[:, : width - 1] < 128).any(axis=(0, 2))[width - 6 :].any()


def test_only_grey_and_rgb_uint8_is_shown():
  with pytest.raises(TypeError, match="uint8"):
    images.contact_sheet(np.zeros((1, 2, 4, 4, 3), np.float32))
  with pytest.raises(ValueError, match="channels"):
    images.contact_sheet(np.zeros((1, 2, 4, 4, 2), np.uint8))


def test_borders_by_hand():
  framed = images.mark_conditioning(np.full((2, 64, 64, 1), 7, np.uint8), (1,), colour=(1, 2, 3))
  assert framed.shape == (2, 68, 68, 3)
  np.testing.assert_array_equal(framed[:, 2:66, 2:66], np.full((2, 64, 64, 3), 7))
  for rows, columns in (
    (slice(2), slice(68)),
    (slice(66, 68), slice(68)),
    (slice(68), slice(2)),
    (slice(68), [66, 67]),
  ):
    assert (framed[0, rows, columns] == images.GENERATED_COLOUR).all()
    assert (framed[1, rows, columns] == (1, 2, 3)).all()
