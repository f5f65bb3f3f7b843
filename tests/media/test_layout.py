"""Clips laid out as images."""

import numpy as np
import pytest

from vidgen_jax.media import layout


def _clips(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_contact_sheet_places_every_frame():
  clips = _clips(2, 3, 4, 5, 3)
  sheet = layout.contact_sheet(clips, gap=1)
  assert sheet.shape == (1 + 2 * 5, 1 + 3 * 6, 3)
  assert sheet.dtype == np.uint8
  seen = np.zeros(sheet.shape[:2], bool)
  for row in range(2):
    for column in range(3):
      cell = (slice(1 + 5 * row, 5 + 5 * row), slice(1 + 6 * column, 6 + 6 * column))
      np.testing.assert_array_equal(sheet[cell], clips[row, column])
      seen[cell] = True
  assert (sheet[~seen] == 255).all()


def test_contact_sheet_enlarges_grey_frames():
  clips = _clips(1, 2, 3, 3, 1)
  sheet = layout.contact_sheet(clips, gap=2, zoom=2)
  assert sheet.shape == (2 + 8, 2 + 2 * 8, 3)
  np.testing.assert_array_equal(sheet[2:8:2, 10:16:2, 0], clips[0, 1, :, :, 0])
  np.testing.assert_array_equal(sheet[3:8:2, 11:16:2, 2], clips[0, 1, :, :, 0])


def test_column_labels_are_above_their_columns():
  clips = np.zeros((1, 3, 32, 32, 3), np.uint8)
  plain = layout.contact_sheet(clips)
  labelled = layout.contact_sheet(clips, column_labels=["1", "", "3"])
  strip = labelled[: len(labelled) - len(plain)]
  np.testing.assert_array_equal(labelled[len(strip) :], plain)
  inked = (strip < 128).any(axis=(0, 2))
  assert inked[2:34].any() and not inked[36:68].any() and inked[70:102].any()


@pytest.mark.parametrize("column_labels", [None, ["a", "b"]])
def test_row_labels_are_left_of_their_rows(column_labels):
  clips = np.zeros((3, 2, 32, 32, 3), np.uint8)
  plain = layout.contact_sheet(clips, column_labels=column_labels)
  labelled = layout.contact_sheet(clips, column_labels=column_labels, row_labels=["1", "", "a long label"])
  width = labelled.shape[1] - plain.shape[1]
  np.testing.assert_array_equal(labelled[:, width:], plain)
  inked = (labelled[:, :width] < 128).any(axis=(1, 2))
  top = len(plain) - 3 * 34
  assert inked[top : top + 32].any() and not inked[top + 32 : top + 68].any() and inked[top + 68 : top + 100].any()
  assert not inked[:top].any() and (labelled[:, : width - 1] < 128).any(axis=(0, 2))[width - 6 :].any()


@pytest.mark.parametrize("bad", [{"gap": -1}, {"zoom": 0}, {"column_labels": ["a"]}, {"row_labels": ["a", "b"]}])
def test_contact_sheet_rejects_invalid_arguments(bad):
  with pytest.raises(ValueError, match="contact_sheet"):
    layout.contact_sheet(np.zeros((1, 2, 4, 4, 3), np.uint8), **bad)


def test_contact_sheet_rejects_other_arrays():
  with pytest.raises(TypeError, match="uint8"):
    layout.contact_sheet(np.zeros((1, 2, 4, 4, 3), np.float32))
  with pytest.raises(ValueError, match="channels"):
    layout.contact_sheet(np.zeros((1, 2, 4, 4, 2), np.uint8))
  with pytest.raises(ValueError, match="N, T, H, W, C"):
    layout.contact_sheet(np.zeros((2, 4, 4, 3), np.uint8))


def test_add_border_by_hand():
  framed = layout.add_border(np.full((1, 1, 2, 1), 7, np.uint8), colour=(1, 2, 3), width=1)
  outside, inside = [1, 2, 3], [7, 7, 7]
  np.testing.assert_array_equal(framed[0], [[outside] * 4, [outside, inside, inside, outside], [outside] * 4])


@pytest.mark.parametrize("channels", [1, 3])
def test_side_by_side_panels(channels):
  clips = _clips(5, 3, 4, channels), _clips(5, 3, 4, channels) // 2, _clips(5, 3, 4, channels) // 3
  shown = layout.side_by_side(*clips, gap=1)
  assert shown.shape == (5, 3, 14, 3)
  panels = shown[:, :, :4], shown[:, :, 5:9], shown[:, :, 10:]
  for panel, clip in zip(panels, clips, strict=True):
    np.testing.assert_array_equal(panel, np.broadcast_to(clip, (5, 3, 4, 3)))
  assert (shown[:, :, [4, 9]] == 255).all()


def test_side_by_side_rejects_unequal_shapes():
  clip = _clips(3, 4, 4, 3)
  for other in (_clips(2, 4, 4, 3), _clips(3, 8, 4, 3), _clips(3, 4, 4, 1)):
    for clips in ((other, clip, clip), (clip, other, clip), (clip, clip, other)):
      with pytest.raises(ValueError, match="side_by_side needs three clips"):
        layout.side_by_side(*clips)
  with pytest.raises(ValueError, match="side_by_side needs three clips"):
    layout.side_by_side(clip[0], clip[0], clip[0])
