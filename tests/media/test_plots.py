"""Plots: their lines are in the image."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.errors import UserError
from vidgen_jax.media.plots import plot_file, require_matplotlib, shade

needs_matplotlib = pytest.mark.skipif(
  importlib.util.find_spec("matplotlib") is None, reason="the extra [plot] is not installed"
)

DARK, LIGHT = (68, 1, 84), (173, 220, 48)
"""Colours of viridis at 0 and 0.88."""


def has_colour(path, colour):
  with Image.open(path) as image:
    pixels = np.array(image.convert("RGB")).reshape(-1, 3).astype(int)
  return bool((np.abs(pixels - colour).max(axis=1) < 12).any())


@needs_matplotlib
def test_lines_have_the_colours_of_their_shades(tmp_path):
  for name, shades in {"dark": [0.0], "both": [0.0, 1.0]}.items():
    with plot_file(tmp_path / f"{name}.png", panels=len(shades)) as panels:
      for axes, position in zip(panels, shades, strict=True):
        axes.plot([0, 1, 2], [1, 2, 1], color=shade(position), marker="o")
  assert has_colour(tmp_path / "dark.png", DARK)
  assert not has_colour(tmp_path / "dark.png", LIGHT)
  assert has_colour(tmp_path / "both.png", DARK)
  assert has_colour(tmp_path / "both.png", LIGHT)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["both.png", "dark.png"]


@needs_matplotlib
def test_lines_are_black_by_default(tmp_path):
  with plot_file(tmp_path / "a.png", panels=1) as (axes,):
    lines = [axes.plot([0, 1], [1, y])[0] for y in range(2)]
  assert [line.get_color() for line in lines] == ["black"] * 2


@needs_matplotlib
def test_three_panels_per_row_and_a_common_legend_at_the_right(tmp_path):
  sizes = {}
  for name, count, legend in (("one", 1, False), ("four", 4, False), ("legend", 1, True)):
    with plot_file(tmp_path / f"{name}.png", panels=count, common_legend=legend) as panels:
      for axes in panels:
        axes.plot([0, 1], [0, float("nan")], label="line", marker=".")
    assert [axes.get_legend() is not None for axes in panels] == [not legend] * count
    with Image.open(tmp_path / f"{name}.png") as image:
      sizes[name] = image.size
  width, height = sizes["one"]
  assert sizes["four"] == (pytest.approx(3 * width, abs=2), pytest.approx(2 * height, abs=2))
  assert sizes["legend"][0] > width
  assert sizes["legend"][1] == height


def test_matplotlib_is_optional(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"a needs matplotlib: pip install 'vidgen-jax\[plot\]', or leave it out"):
    require_matplotlib("a", remedy="leave it out")
  with (
    pytest.raises(UserError, match=r"a\.png needs matplotlib: pip install 'vidgen-jax\[plot\]'$"),
    plot_file(tmp_path / "a.png", panels=1),
  ):
    pass
