"""Sheets that compare versions of clips: which row holds what."""

import numpy as np

from tests.sheet_cells import read_cells
from vidgen_jax.media import images
from vidgen_jax.media.sheets import save_comparison


def test_rows_are_versions_of_the_first_clip_then_of_the_second(tmp_path):
  values = np.array([10, 20], np.uint8).reshape(2, 1, 1, 1, 1)
  clips = np.broadcast_to(values, (2, 3, 64, 64, 1))
  save_comparison(tmp_path / "sheet.png", {"a": clips, "b": clips + 5}, (2,))
  shown, borders = read_cells(tmp_path / "sheet.png", 4, 3)
  assert shown[:, 0, 9, 9, 0].tolist() == [10, 15, 20, 25]
  colours = [images.GENERATED_COLOUR] * 2 + [images.GIVEN_COLOUR]
  np.testing.assert_array_equal(borders, np.broadcast_to(colours, (4, 3, 3)))
