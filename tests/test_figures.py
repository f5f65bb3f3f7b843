"""Figures: their pixels are those of `vidgen sample`'s clips, of their mean and of their spread."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from vidgen_jax import cli, figures, samplers, workdir
from vidgen_jax import experiment as experiments
from vidgen_jax.clips import Clips
from vidgen_jax.data.config import DataConfig
from vidgen_jax.observe import pictures
from vidgen_jax.samplers import BlockDecoder, Sampler

pytest_plugins = ("tests.runs",)

DATA = DataConfig(name="none", num_frames=4, resolution=64)
ZOOM = 4
"""Frames of 16 pixels are shown with 64."""


def read_cells(path, rows, columns, zoom=1):
  """Frames [rows, columns, h, w, 3] on a sheet of 64-pixel cells, and the colours of their borders."""
  sheet = np.asarray(Image.open(path))
  below, right = sheet.shape[0] - rows * 70, sheet.shape[1] - columns * 70
  cells = sheet[below:, right:].reshape(rows, 70, columns, 70, 3).swapaxes(1, 2)
  return cells[:, :, 2:66:zoom, 2:66:zoom], cells[:, :, 0, 0]


def stored_samples(folder):
  with np.load(folder / "samples.npz") as stored:
    return {name: stored[name] for name in stored.files}


def check_samples(out, samples, truth, given):
  """The two pictures that every model has, against the clips of `vidgen sample`, [N, l, T, H, W, C]."""
  count, _, num_frames = samples.shape[:3]
  shown, borders = read_cells(out / figures.GENERATED_FILE, 2 * count, num_frames, ZOOM)
  np.testing.assert_array_equal(shown[0::2], samples[:, 0])
  np.testing.assert_array_equal(shown[1::2], truth)
  expected = [pictures.GIVEN_COLOUR if t in given else pictures.GENERATED_COLOUR for t in range(num_frames)]
  np.testing.assert_array_equal(borders, np.broadcast_to(expected, borders.shape))
  shown, _ = read_cells(out / figures.MEAN_FILE, 3 * count, num_frames, ZOOM)
  np.testing.assert_array_equal(shown[0::3], samples[:, 0])
  np.testing.assert_array_equal(shown[1::3], np.rint(samples.mean(axis=1)))
  deviation = samples.astype(float).std(axis=1)
  assert deviation.max() > 0
  np.testing.assert_allclose(shown[2::3], deviation * 255 / deviation.max(), atol=0.51)
  assert shown[2::3].max() == 255


def test_figures_of_inbetweening_show_the_clips_of_sample(inbetween_folder, tmp_path, capfd):
  options = (f"--workdir={inbetween_folder}", "--num_clips=2", "--samples=3", "--seed=4")
  assert cli.dispatch(["sample", f"--out={tmp_path / 'samples'}", *options]) == 0
  capfd.readouterr()
  out = tmp_path / "figures"
  assert cli.dispatch(["figures", f"--out={out}", *options]) == 0
  assert "drawing 3 samples of each of 2 clips" in capfd.readouterr().err
  assert sorted(path.name for path in out.iterdir()) == [
    "generated_over_original.png",
    "latent_blocks.png",
    "mean_of_samples.png",
  ]
  made = stored_samples(tmp_path / "samples")
  check_samples(out, made["samples"], made["truth"], given=(0, 7))
  # Two blocks in the last level: what is made of the second is the normal sample, without the given frames.
  blocks, borders = read_cells(out / figures.BLOCKS_FILE, 2, 6, ZOOM)
  np.testing.assert_allclose(blocks[-1].astype(int), made["samples"][0, 0, 1:-1], atol=1)
  assert np.mean(blocks[-1] != made["samples"][0, 0, 1:-1]) < 0.01
  assert np.mean(blocks[0] != blocks[1]) > 0.1
  np.testing.assert_array_equal(borders, np.broadcast_to(pictures.GENERATED_COLOUR, (2, 6, 3)))


def test_figures_of_prediction_leave_the_latent_blocks_out(run_folder, tmp_path, capfd):
  options = (f"--workdir={run_folder}", "--num_clips=2", "--samples=2")
  assert cli.dispatch(["sample", f"--out={tmp_path / 'samples'}", *options]) == 0
  capfd.readouterr()
  out = tmp_path / "figures"
  assert cli.dispatch(["figures", f"--out={out}", *options]) == 0
  assert capfd.readouterr().err.count("latent_blocks.png is left out: the model has no latent blocks") == 1
  assert sorted(path.name for path in out.iterdir()) == ["generated_over_original.png", "mean_of_samples.png"]
  made = stored_samples(tmp_path / "samples")
  check_samples(out, made["samples"], made["truth"], given=(0, 1))


def test_spread_is_numpys():
  videos = np.random.default_rng(0).integers(256, size=(7, 2, 3, 4), dtype=np.uint8)
  spread = figures.measure_spread(iter(videos))
  np.testing.assert_allclose(spread.mean, videos.mean(axis=0), rtol=1e-12)
  np.testing.assert_allclose(spread.deviation, videos.std(axis=0), rtol=1e-12)
  single = figures.measure_spread(videos[:1])
  np.testing.assert_array_equal(single.mean, videos[0])
  assert not single.deviation.any()


def test_what_does_not_vary_has_a_black_deviation(tmp_path):
  video = np.full((1, 4, 64, 64, 1), 9, np.uint8)
  model = {"given_frames": (), "num_frames": 4, "class_names": (), "data": DATA}
  sampler = Sampler(draw=lambda clips, key: video, batch_size=1, **model)
  clips = Clips(given=video[:, :0], truth=video + 1, label=np.zeros(1, np.int32))
  figures.draw_samples(tmp_path, sampler, clips, samples=3, seed=0)
  shown, _ = read_cells(tmp_path / figures.MEAN_FILE, 3, 4)
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
    given_frames=(0, 3),
    num_frames=4,
    class_names=(),
    data=DATA,
    blocks=BlockDecoder(numbers=(6, 7, 8), decode=decode),
  )
  given = np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
  clips = Clips(given=given, truth=None, label=np.array([5, 6], np.int32))
  figures.draw_latent_blocks(tmp_path, sampler, clips, seed=0)
  np.testing.assert_array_equal(seen[0].given, given[:1])
  assert seen[0].label.tolist() == [5]
  shown, _ = read_cells(tmp_path / figures.BLOCKS_FILE, 3, 2)
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


def test_mistakes_are_one_line_and_leave_nothing(inbetween_folder, vidgen, tmp_path):
  words = ("figures", f"--out={tmp_path / 'out'}")
  assert "holds no config.json" in vidgen(*words, f"--workdir={tmp_path}")
  assert "is not in " in vidgen(*words, f"--workdir={inbetween_folder}", f"--data_dir={tmp_path}")
  assert list(tmp_path.iterdir()) == []
