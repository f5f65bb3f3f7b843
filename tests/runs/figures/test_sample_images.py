"""Images of samples, with values small enough to see the answer."""

import dataclasses

import numpy as np
import pytest

from tests.sheet_cells import read_cells
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs import workdir
from vidgen_jax.data.config import DataConfig
from vidgen_jax.runs.figures.sample_images import SampleImages, draw_latent_blocks
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import BlockDecoder, Sampler

pytest_plugins = ("tests.trained_runs",)

DATA = DataConfig(name="none", num_frames=4, resolution=64)


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


def test_what_does_not_vary_has_a_black_deviation(tmp_path):
  video = np.full((1, 4, 64, 64, 1), 9, np.uint8)
  images = SampleImages(video + 1, ())
  for _ in range(3):
    images.add(video)
  images.save_spread(tmp_path / "mean.png")
  shown, _ = read_cells(tmp_path / "mean.png", 3, 4)
  assert [np.unique(row).tolist() for row in shown] == [[9], [9], [0]]


def test_a_row_for_each_block_with_its_number(tmp_path):
  seen = []

  def decode(clips, key):
    seen.append(clips)
    values = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 4, 1, 1, 1) * 20
    return np.broadcast_to(values, (3, 1, 4, 64, 64, 1))

  sampler = Sampler(
    draw=decode,
    batch_size=2,
    conditioning_indices=(0, 3),
    num_frames=4,
    class_names=(),
    data=DATA,
    blocks=BlockDecoder(numbers=(6, 7, 8), decode=decode),
  )
  conditioning = np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
  clips = Clips(conditioning=conditioning, truth=None, label=np.array([5, 6], np.int32))
  draw_latent_blocks(tmp_path / "blocks.png", sampler, clips, seed=0)
  np.testing.assert_array_equal(seen[0].conditioning, conditioning[:1])
  assert seen[0].label.tolist() == [5]
  shown, _ = read_cells(tmp_path / "blocks.png", 3, 2)
  assert shown[:, :, 9, 9, 1].tolist() == [[20, 40], [100, 120], [180, 200]]


@pytest.mark.parametrize(
  ("changes", "numbers"),
  [
    ({"latent_blocks": (8, 8, 8)}, tuple(range(17, 25))),
    ({"latent_blocks": (1, 3)}, (2, 3, 4)),
    ({"naive": True}, None),
  ],
)
def test_blocks_are_counted_over_all_levels(changes, numbers, inbetween_folder):
  config = workdir.load_config(str(inbetween_folder))
  config = dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, **changes))
  trained = workdir.Trained(
    experiment=experiments.build(config), nets={}, step=0, weights="ema", class_names=("up", "left")
  )
  blocks = samplers.workdir_sampler(trained).blocks
  assert (None if blocks is None else blocks.numbers) == numbers
