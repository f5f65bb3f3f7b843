"""Images of samples, with values by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tests.sheet_cells import read_cells
from vidgen_jax.gans import DecodesBlocks
from vidgen_jax.runs import workdir
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.figures import sample_images
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.sample_images import SampleImages, draw_latent_blocks
from vidgen_jax.runs.sampling.clips import Clips

pytest_plugins = ("tests.trained_runs",)


def test_first_sample_mean_and_deviation_of_the_first_clips(tmp_path):
  # One clip of two is shown; its pixels are 10 and 30: mean 20, deviation 10, which is scaled up to white.
  images = SampleImages(np.full((1, 2, 64, 64, 1), 7, np.uint8), (0,))
  for value in (10, 30):
    images.add(np.full((2, 2, 64, 64, 1), value, np.uint8))
  images.save_first(tmp_path / "first.png")
  images.save_spread(tmp_path / "mean.png")
  shown, borders = read_cells(tmp_path / "first.png", 2, 2)
  assert [np.unique(row).tolist() for row in shown] == [[10], [7]]
  assert (borders[:, 0] != borders[:, 1]).any()
  shown, _ = read_cells(tmp_path / "mean.png", 3, 2)
  assert [np.unique(row).tolist() for row in shown] == [[10], [20], [255]]


def test_a_deviation_of_zero_is_black(tmp_path):
  video = np.full((1, 4, 64, 64, 1), 9, np.uint8)
  images = SampleImages(video + 1, ())
  for _ in range(3):
    images.add(video)
  images.save_spread(tmp_path / "mean.png")
  shown, _ = read_cells(tmp_path / "mean.png", 3, 4)
  assert [np.unique(row).tolist() for row in shown] == [[9], [9], [0]]


class FakeGan:
  """A model with latent blocks 6, 7 and 8."""

  def last_blocks(self):
    return (6, 7, 8)

  def decode_blocks(self, nets, batch, latent, *, num_frames):
    raise NotImplementedError


def test_a_row_for_each_block_with_its_number(tmp_path, monkeypatch):
  seen = []

  def decode(sampler, conditioning, *, seed):
    seen.append(conditioning)
    return np.broadcast_to(np.arange(3 * 4, dtype=np.uint8).reshape(3, 4, 1, 1, 1) * 20, (3, 4, 64, 64, 1))

  monkeypatch.setattr(sample_images, "decode_blocks", decode)
  sampler = SimpleNamespace(experiment=SimpleNamespace(algorithm=FakeGan()), conditioning_indices=(0, 3), num_frames=4)
  conditioning = np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
  clips = Clips(conditioning=conditioning, truth=None, label=np.array([5, 6], np.int32))
  inputs = FigureInputs(folder=tmp_path, sampler=sampler, shown=clips, measured=clips, samples=1, seed=0, origin={})
  draw_latent_blocks(tmp_path / "blocks.png", inputs)
  np.testing.assert_array_equal(seen[0], conditioning[:1])
  shown, _ = read_cells(tmp_path / "blocks.png", 3, 2)
  assert shown[:, :, 9, 9, 1].tolist() == [[20, 40], [100, 120], [180, 200]]


@pytest.mark.parametrize(
  ("changes", "numbers"),
  [({"latent_blocks": (8, 8, 8)}, tuple(range(17, 25))), ({"latent_blocks": (1, 3)}, (2, 3, 4)), ({"naive": True}, ())],
)
def test_blocks_are_counted_over_all_levels(changes, numbers, inbetween_folder):
  config = workdir.load_config(str(inbetween_folder))
  algorithm = build_experiment(
    dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, **changes))
  ).algorithm
  assert isinstance(algorithm, DecodesBlocks)
  assert algorithm.last_blocks() == numbers
