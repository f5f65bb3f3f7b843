"""Figures show and measure the clips of `vidgen sample`; the flags select them."""

import importlib.util
import json

import numpy as np
import pytest

from tests.sheet_cells import read_cells
from vidgen_jax import cli
from vidgen_jax.commands.figures import choose_figures
from vidgen_jax.errors import UserError
from vidgen_jax.media import images
from vidgen_jax.runs.figures.draw import FIGURES
from vidgen_jax.scores.metrics.ssim import frame_ssim

pytest_plugins = ("tests.trained_runs",)

ZOOM = 4
"""Frames of 16 pixels are enlarged to 64."""

CHOICE = {"only": [], "curve_clips": 64, "samples": 100, "with_truncations": False}

needs_matplotlib = pytest.mark.skipif(
  importlib.util.find_spec("matplotlib") is None, reason="the extra [plot] is not installed"
)


def stored_samples(folder):
  with np.load(folder / "samples.npz") as stored:
    return {name: stored[name] for name in stored.files}


def check_samples(out, samples, truth, conditioning):
  """Compares the two images that every model has with the clips of `vidgen sample`, [N, l, T, H, W, C]."""
  count, _, num_frames = samples.shape[:3]
  shown, borders = read_cells(out / "generated_over_original.png", 2 * count, num_frames, ZOOM)
  np.testing.assert_array_equal(shown[0::2], samples[:, 0])
  np.testing.assert_array_equal(shown[1::2], truth)
  expected = [images.CONDITIONING_COLOUR if t in conditioning else images.GENERATED_COLOUR for t in range(num_frames)]
  np.testing.assert_array_equal(borders, np.broadcast_to(expected, borders.shape))
  shown, _ = read_cells(out / "mean_of_samples.png", 3 * count, num_frames, ZOOM)
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
  assert cli.dispatch(["figures", f"--out={out}", "--curve_clips=0", *options]) == 0
  assert "generating 3 samples of each of 2 clips" in capfd.readouterr().err
  names = ["generated_over_original.png", "latent_blocks.png", "mean_of_samples.png"]
  assert json.loads((out / "figures.json").read_text())["files"] == names
  assert sorted(path.name for path in out.iterdir()) == sorted([*names, "figures.json"])
  made = stored_samples(tmp_path / "samples")
  check_samples(out, made["samples"], made["truth"], conditioning=(0, 7))
  # The last of the two blocks gives the normal sample; conditioning frames are not shown.
  blocks, borders = read_cells(out / "latent_blocks.png", 2, 6, ZOOM)
  np.testing.assert_allclose(blocks[-1].astype(int), made["samples"][0, 0, 1:-1], atol=1)
  assert np.mean(blocks[-1] != made["samples"][0, 0, 1:-1]) < 0.01
  assert np.mean(blocks[0] != blocks[1]) > 0.1
  np.testing.assert_array_equal(borders, np.broadcast_to(images.GENERATED_COLOUR, (2, 6, 3)))


@needs_matplotlib
def test_figures_of_prediction_measure_the_clips_of_sample(run_folder, tmp_path, capfd):
  options = (f"--workdir={run_folder}", "--samples=2", "--seed=3")
  assert cli.dispatch(["sample", f"--out={tmp_path / 'samples'}", "--num_clips=8", *options]) == 0
  capfd.readouterr()
  out = tmp_path / "figures"
  assert cli.dispatch(["figures", f"--out={out}", "--num_clips=2", "--curve_clips=8", *options]) == 0
  log = capfd.readouterr().err
  assert "generating 2 samples of each of 8 clips" in log
  assert log.count("skipped latent_blocks.png: the model has no latent blocks") == 1
  assert sorted(path.name for path in out.iterdir()) == [
    "best_of_ssim.json",
    "best_of_ssim.png",
    "figures.json",
    "generated_over_original.png",
    "mean_of_samples.png",
  ]
  made = stored_samples(tmp_path / "samples")
  check_samples(out, made["samples"][:2], made["truth"][:2], conditioning=(0, 1))
  report = json.loads((out / "best_of_ssim.json").read_text())
  assert (report["num_clips"], report["samples"], report["seed"], report["step"]) == (8, 2, 3, 4)
  assert report["frames"] == list(range(2, made["truth"].shape[1]))
  ssim = np.stack([np.asarray(frame_ssim(made["samples"][:, j, 2:], made["truth"][:, 2:])) for j in range(2)])
  chosen = ssim.mean(axis=2).argmax(axis=0)
  best = ssim[chosen, np.arange(8)].mean(axis=0)
  np.testing.assert_allclose(report["ssim"]["best_of"]["1"], ssim[0].mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(report["ssim"]["best_of"]["2"], best, rtol=1e-6)
  np.testing.assert_allclose(report["ssim"]["mean_of_samples"], ssim.mean(axis=(0, 1)), rtol=1e-6)


@needs_matplotlib
def test_the_sweep_alone_and_overwriting(run_folder, vidgen, tmp_path):
  out = tmp_path / "figures"
  words = ["figures", f"--workdir={run_folder}", f"--out={out}", "--only=truncation", "--truncations=none,0"]
  words += ["--num_clips=1", "--curve_clips=3", "--samples=2"]
  assert cli.dispatch(words) == 0
  assert sorted(path.name for path in out.iterdir()) == [
    "figures.json",
    "truncation.json",
    "truncation.png",
    "truncation_samples.png",
  ]
  scores = json.loads((out / "truncation.json").read_text())["truncations"]
  assert list(scores) == ["0", "none"]
  assert scores["0"]["diversity"] == 0 < scores["none"]["diversity"]
  assert scores["0"]["ssim"]["mean"] == scores["0"]["ssim"]["best"]
  assert "--overwrite" in vidgen(*words)
  assert cli.dispatch([*words[:3], "--only=generated_over_original", "--num_clips=1", "--overwrite"]) == 0
  assert sorted(path.name for path in out.iterdir()) == ["figures.json", "generated_over_original.png"]


@pytest.mark.parametrize(
  ("changes", "chosen"),
  [
    ({}, FIGURES[:-1]),
    ({"curve_clips": 0}, FIGURES[:-3]),
    ({"with_truncations": True}, FIGURES),
    ({"only": ["latent_blocks", "truncation"], "with_truncations": True}, ("latent_blocks", "truncation")),
    ({"only": ["mean_of_samples"], "curve_clips": 0, "samples": 1}, ("mean_of_samples",)),
  ],
)
def test_which_figures_are_chosen(changes, chosen, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  assert choose_figures(**(CHOICE | changes)) == set(chosen)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"only": ["best_of_sim"]}, "'best_of_sim' must be one of .*; did you mean 'best_of_ssim'"),
    ({"only": ["best_of_ssim"], "curve_clips": 0}, "set --curve_clips above 0"),
    ({"only": ["truncation"]}, "needs truncations to compare, such as --truncations=0"),
    ({"only": ["best_of_ssim"], "with_truncations": True}, "exclude each other"),
    ({"with_truncations": True, "curve_clips": 0}, "--truncations needs --curve_clips above 0"),
    ({"with_truncations": True, "samples": 1}, "--samples=1: --truncations needs at least 2"),
  ],
)
def test_flags_that_contradict_each_other(changes, message):
  with pytest.raises(UserError, match=message):
    choose_figures(**(CHOICE | changes))


def test_missing_matplotlib_is_reported_first(vidgen, monkeypatch, tmp_path):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  # There is no run either.
  error = vidgen("figures", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}")
  assert error == (
    "best_of_ssim and inference_curve needs matplotlib: pip install 'vidgen-jax[plot]', or draw only the others "
    "with --only=generated_over_original,mean_of_samples,latent_blocks,latent_walk,class_walk,redrawn_parts,"
    "inference,naive_interpolation"
  )
  assert "has no config.json" in vidgen(
    "figures", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}", "--only=mean_of_samples"
  )


def test_errors_are_one_line_and_leave_no_files(inbetween_folder, vidgen, tmp_path):
  words = ("figures", f"--out={tmp_path / 'out'}", "--curve_clips=0")
  assert "has no config.json" in vidgen(*words, f"--workdir={tmp_path}")
  assert "is not in " in vidgen(*words, f"--workdir={inbetween_folder}", f"--data_dir={tmp_path}")
  unused = vidgen(*words, f"--workdir={tmp_path}", "--only=latent_walk", "--samples=3")
  assert "--samples has no effect on latent_walk; leave it out" in unused
  assert list(tmp_path.iterdir()) == []
