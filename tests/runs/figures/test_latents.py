"""Latent blocks, and walks through latents and classes on an untrained MVT-GAN."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import mvt_weizmann, trivd_shape_motion
from tests.sheet_cells import read_cells
from vidgen_jax.data.config import DataConfig
from vidgen_jax.gans import DecodesBlocks
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import workdir
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.figures import latents
from vidgen_jax.runs.figures.inputs import FigureInputs
from vidgen_jax.runs.figures.latents import REDRAWN, STEPS, WALKS, LatentWalks, draw_latent_blocks, draw_walks
from vidgen_jax.runs.sampling.clips import Clips, empty_clips
from vidgen_jax.runs.sampling.samplers import RunSampler

pytest_plugins = ("tests.trained_runs",)


def _sampler(experiment, nets) -> RunSampler:
  return RunSampler(
    draw=lambda clips, key: None,
    batch_size=8,
    conditioning_indices=(),
    num_frames=4,
    class_names=("bend", "jack", "run", "walk"),
    data=experiment.config.data,
    experiment=experiment,
    options=experiment.options(num_frames=4),
    nets=lambda: nets,
  )


def _inputs(folder, sampler) -> FigureInputs:
  none = empty_clips(sampler.data, num_clips=0)
  return FigureInputs(folder=folder, sampler=sampler, trained=None, shown=none, measured=none, samples=1, seed=0)


@pytest.fixture(scope="module")
def made():
  """(experiment, nets, sampler)."""
  config = mvt_weizmann.get_config("mvt_var_smoke")
  config.algorithm.num_classes = 4
  experiment = build_experiment(configs.from_config_dict(config))
  nets = experiment.init_state().nets
  return experiment, nets, _sampler(experiment, nets)


@pytest.fixture(scope="module")
def predict(made):
  """(latents, labels) -> clips of the algorithm itself."""
  experiment, nets, _ = made

  @jax.jit
  def run(latent, label):
    batch = {"conditioning": np.zeros((len(label), 0, 16, 16, 3), np.uint8), "label": label}
    return to_uint8(experiment.algorithm.predict(nets, batch, latent, num_frames=4))

  return lambda latent, label: np.asarray(run(latent, np.asarray(label, np.int32)))


@pytest.fixture(scope="module")
def walks(made):
  return LatentWalks(made[2], seed=3)


def _close(found, expected):
  np.testing.assert_allclose(found.astype(int), expected, atol=1)


def test_a_walk_between_latents_keeps_the_class(walks, predict):
  clips = walks.between_latents(2)
  assert (clips.shape, clips.dtype) == ((STEPS, 4, 16, 16, 3), np.uint8)
  first, last = walks._latents(2, stream=2)
  line = np.stack([first + (last - first) * i / (STEPS - 1) for i in range(STEPS)])
  _close(clips, predict(line, [2] * STEPS))
  assert np.abs(clips[0].astype(int) - clips[-1]).max() > 8


def test_a_walk_between_classes_keeps_the_latent(walks, predict):
  clips = walks.between_classes(1, 3)
  latent = walks._latents(1, stream=1)
  _close(clips[[0, -1]], predict(np.repeat(latent, 2, axis=0), [1, 3]))
  assert np.abs(clips[0].astype(int) - clips[-1]).max() > 8
  assert np.abs(clips[STEPS // 2].astype(int) - clips[0]).max() > 0


def test_one_part_of_the_latent_is_redrawn(made, walks, monkeypatch):
  seen = []
  generate = LatentWalks._generate
  monkeypatch.setattr(LatentWalks, "_generate", lambda self, *inputs: seen.append(inputs) or generate(self, *inputs))
  clips = walks.redrawn_parts(0)
  assert {name: len(part) for name, part in clips.items()} == {"first": 1, "z_A": 3, "z_B": 3, "z_C": 3}
  ((drawn, _),) = seen
  changed = drawn != drawn[:1]
  for row, (start, stop) in enumerate([(0, 2)] * REDRAWN + [(2, 4)] * REDRAWN + [(4, 8)] * REDRAWN, 1):
    expected = np.zeros(8, bool)
    expected[start:stop] = True
    np.testing.assert_array_equal(changed[row], expected)
  assert len(np.unique(drawn, axis=0)) == 1 + 3 * REDRAWN
  assert made[0].algorithm.latent_parts() == {"z_A": (0, 2), "z_B": (2, 4), "z_C": (4, 8)}


def test_the_images_have_a_block_for_each_class(made, tmp_path, monkeypatch):
  sheets = {}
  monkeypatch.setattr(latents, "save_png", lambda path, sheet: sheets.update({path.name: sheet}))
  labels = {}

  def contact_sheet(videos, *, column_labels, row_labels):
    labels[len(labels)] = (list(row_labels), list(column_labels))
    assert videos.shape[:2] == (len(row_labels), len(column_labels))
    return videos

  monkeypatch.setattr(latents, "contact_sheet", contact_sheet)
  draw_walks(_inputs(tmp_path, made[2]), WALKS, num_classes=2)
  assert list(sheets) == ["latent_walk.png", "class_walk.png", "redrawn_parts.png"]
  assert labels[0][0] == [f"{name} t={t}" for name in ("bend", "jack") for t in range(4)]
  assert labels[0][1] == ["0.00", "0.17", "0.33", "0.50", "0.67", "0.83", "1.00"]
  assert labels[1][0][::4] == ["bend - jack t=0", "jack - run t=0"]
  assert labels[2][0][:5] == ["bend first", "bend z_A", "bend z_A", "bend z_A", "bend z_B"]
  assert len(labels[2][0]) == 2 * 10


def test_models_with_conditioning_frames_have_no_walks(tmp_path):
  experiment = build_experiment(configs.from_config_dict(trivd_shape_motion.get_config("smoke")))
  draw_walks(_inputs(tmp_path, _sampler(experiment, {})), WALKS, num_classes=2)
  assert list(tmp_path.iterdir()) == []


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

  monkeypatch.setattr(latents, "decode_blocks", decode)
  data = DataConfig(name="none", num_frames=4, resolution=64)
  experiment = SimpleNamespace(algorithm=FakeGan())
  sampler = SimpleNamespace(experiment=experiment, conditioning_indices=(0, 3), num_frames=4, data=data)
  conditioning = np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
  clips = Clips(conditioning=conditioning, truth=None, label=np.array([5, 6], np.int32))
  inputs = dataclasses.replace(_inputs(tmp_path, sampler), shown=clips)
  draw_latent_blocks(inputs)
  np.testing.assert_array_equal(seen[0], conditioning[:1])
  shown, _ = read_cells(tmp_path / "latent_blocks.png", 3, 2)
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
