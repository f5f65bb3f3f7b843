"""Motion fields of a run with a warping unit, their files, and models without motion."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import inbetween_shape_motion
from tests.untrained_runs import save_untrained
from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.gans.trivd.motion import combine_flows, expected_flow
from vidgen_jax.media.flow_colors import flow_colors, wheel_image
from vidgen_jax.nn.recurrent import MOTION
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.motion import MovingSamples, check_levels, write_agreement, write_motion
from vidgen_jax.runs.workdir import Trained
from vidgen_jax.scores.metrics.motion_agreement import compare_motion

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture(scope="module")
def moving_folder(run_config, tmp_path_factory):
  """An untrained run of two stages whose units warp."""
  algorithm = dataclasses.replace(run_config.algorithm, recurrent_unit="tsru_p")
  folder = tmp_path_factory.mktemp("moving")
  save_untrained(folder, dataclasses.replace(run_config, algorithm=algorithm))
  return folder


def read(path):
  with np.load(path) as stored:
    return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def sampled(moving_folder, tmp_path_factory):
  """The same clips without and with their motion."""
  out = tmp_path_factory.mktemp("out")
  options = (f"--workdir={moving_folder}", "--num_clips=3", "--samples=2", "--seed=5", "--truncation=0.8")
  assert cli.dispatch(["sample", *options, f"--out={out / 'plain'}"]) == 0
  assert cli.dispatch(["sample", *options, f"--out={out / 'moving'}", "--motion"]) == 0
  return out


def test_motion_does_not_change_the_clips(sampled):
  plain, moving = (read(sampled / name / "samples.npz") for name in ("plain", "moving"))
  assert plain.keys() == moving.keys()
  np.testing.assert_allclose(moving["samples"].astype(int), plain["samples"], atol=1)
  assert np.mean(moving["samples"] != plain["samples"]) < 1e-3
  names = {path.name for path in (sampled / "moving").iterdir()} - {path.name for path in (sampled / "plain").iterdir()}
  assert names == {"motion.npz", "motion.png", "motion.json", "motion_000.gif", "motion_001.gif", "motion_002.gif"}


def test_the_fields_are_the_expected_flow_of_the_kernels(moving_folder, sampled):
  """Compares with the generator itself, applied to the second sample of all clips."""
  stored, clips = read(sampled / "moving" / "motion.npz"), read(sampled / "moving" / "samples.npz")
  assert (stored["flow"].shape, stored["flow"].dtype) == ((3, 2, 3, 16, 16, 2), np.float32)
  assert (stored["frames"].tolist(), stored["levels"].tolist()) == ([2, 3, 4], [0, 1])
  trained = samplers.load_run(str(moving_folder), num_clips=3)
  experiment, conditioning = trained.experiment, clips["conditioning"]
  options = experiment.options(num_frames=5, truncation=0.8)
  nets = samplers.generation.prepare_nets(experiment, trained.nets, options=options)
  size = experiment.config.evaluation.batch_size
  latent = experiment.algorithm.latent(samplers.latent_key(5, batch=0, sample=1), size, truncation=0.8)[:3]
  generator = experiment.algorithm.generator()

  @jax.jit
  def kernels(collections):
    label = clips["label"]
    _, left = generator.apply(
      collections, to_model_range(conditioning), latent, label, num_frames=3, train=False, mutable=[MOTION]
    )
    return left[MOTION]

  left = kernels(nets["generator"].collections)
  coarse, fine = (expected_flow(left[f"stage_{stage}_unit"]["kernels"]) for stage in range(2))
  assert (coarse.shape, fine.shape) == ((3, 3, 4, 4, 2), (3, 3, 8, 8, 2))
  expected = combine_flows([coarse, fine], size=(16, 16))
  assert np.abs(expected).max() > 0.01
  np.testing.assert_allclose(stored["flow"][:, 1], expected, atol=1e-4)


def test_agreement_is_written_with_its_baselines(sampled):
  written = json.loads((sampled / "moving" / "motion.json").read_text())
  found = written.pop("agreement")
  assert written == {"num_clips": 3, "samples": 2, "levels": [0, 1], "least_motion": 0.5}
  assert set(found) == {
    *("model", "model_own", "model_without_drift", "model_own_without_drift"),
    *("zero", "random", "constant", "truth"),
  }
  assert found["truth"]["angle"] == pytest.approx(0, abs=0.1)
  assert (found["zero"]["angle"], found["zero"]["cosine"]) == (90.0, 0.0)
  clips, flow = read(sampled / "moving" / "samples.npz"), read(sampled / "moving" / "motion.npz")["flow"]
  # Of the three generated frames of three clips with two samples each.
  for name in ("model", "model_own", "model_without_drift", "model_own_without_drift"):
    assert sum(found[name][key] for key in ("frames", "still", "absent")) == 18
  assert sum(found["zero"][key] for key in ("frames", "still", "absent")) == 9
  parts = [compare_motion(flow[:, j], clips["samples"][:, j], clips["truth"], (2, 3, 4)) for j in range(2)]
  assert sum(part.frames for part in parts) == found["model"]["frames"]
  if found["model"]["frames"]:
    mean = sum(part.frames * part.angle for part in parts if part.frames) / found["model"]["frames"]
    assert found["model"]["angle"] == pytest.approx(mean, abs=1e-3)


def test_one_level_with_images_of_the_user_and_longer_clips(moving_folder, tmp_path, vidgen):
  video = np.random.default_rng(0).integers(256, size=(12, 16, 16, 3), dtype=np.uint8)
  Image.fromarray(np.concatenate(list(video[:2]), axis=1)).save(tmp_path / "short.png")
  names = [tmp_path / f"{index}.png" for index in range(2)]
  for name, frame in zip(names, video, strict=False):
    Image.fromarray(frame).save(name)
  out = tmp_path / "out"
  words = (
    f"--workdir={moving_folder}",
    f"--conditioning_images={names[0]},{names[1]}",
    "--classes=up",
    "--num_frames=7",
  )
  assert cli.dispatch(["sample", *words, "--motion", "--motion_levels=1", f"--out={out}"]) == 0
  stored = read(out / "motion.npz")
  assert (stored["flow"].shape, stored["levels"].tolist()) == ((1, 1, 5, 16, 16, 2), [1])
  # At half the resolution no motion is longer than one pixel.
  assert 0 < np.abs(stored["flow"]).max() <= 2.0
  # Every cell of that level is a square of 2 x 2 pixels.
  np.testing.assert_array_equal(stored["flow"][:, :, :, ::2, ::2], stored["flow"][:, :, :, 1::2, 1::2])
  assert not (out / "motion.json").exists()  # the true motion is unknown
  assert "'x' is not an integer" in vidgen(
    "sample", *words, "--motion", "--motion_levels=0,x", f"--out={tmp_path / 'no'}"
  )


def _untrained(config) -> Trained:
  """A run without weights, for questions about its model."""
  return Trained(experiment=build_experiment(config), nets={}, step=0, weights="ema", class_names=())


def test_models_without_motion_name_those_with_motion(run_config, vidgen, tmp_path):
  still = _untrained(run_config)
  with pytest.raises(UserError, match=r"algorithm\.recurrent_unit='conv_gru' moves no content") as error:
    check_levels(samplers.workdir_sampler(still), None)
  assert "units that do: " in str(error.value)
  between = _untrained(configs.from_config_dict(inbetween_shape_motion.get_config("smoke")))
  with pytest.raises(UserError, match=r"models of inbetween predict no motion; use a model of trivd$"):
    check_levels(samplers.workdir_sampler(between), None)
  out = f"--out={tmp_path / 'out'}"
  assert "--motion needs --workdir" in vidgen("sample", "--export=anywhere", "--motion", out)
  assert "--motion_levels needs --motion" in vidgen("sample", "--workdir=anywhere", "--motion_levels=0", out)
  assert list(tmp_path.iterdir()) == []


def test_the_finest_levels_are_combined_by_default(run_config):
  """The paper's model has levels 0 (8x8), 1 (16x16) and 2 (32x32)."""
  for stages, expected in {(1,): (0,), (2, 1): (0, 1), (4, 2, 1): (1, 2)}.items():
    changes = dict.fromkeys(("generator_multipliers", "upsampled_multipliers"), stages)
    algorithm = dataclasses.replace(
      run_config.algorithm, recurrent_unit="tsru_p", discriminator_multipliers=(1, 2, 2), **changes
    )
    config = dataclasses.replace(run_config, algorithm=algorithm)
    assert check_levels(samplers.workdir_sampler(_untrained(config)), None) == expected
  for levels in ([3], [1, 0], [0, 0], [0, 3]):
    message = f"--motion_levels={','.join(map(str, levels))} must be some of 0,1,2, in this order"
    with pytest.raises(UserError, match=message):
      check_levels(samplers.workdir_sampler(_untrained(config)), levels)


def _moving(samples: int = 2) -> MovingSamples:
  """A clip of three frames, conditioned on the first; motion by 1 pixel to the right, then by 3 upwards."""
  video = np.arange(3 * samples, dtype=np.uint8).reshape(1, samples, 3, 1, 1, 1) * 20
  flow = np.zeros((1, samples, 2, 64, 64, 2), np.float32)
  flow[:, :, 0], flow[:, :, 1] = (1.0, 0.0), (0.0, -3.0)
  return MovingSamples(
    samples=np.broadcast_to(video, (1, samples, 3, 64, 64, 3)).copy(), flow=flow, conditioning_indices=(0,)
  )


def test_the_sheet_has_motion_below_the_frames_and_the_wheel_at_the_right(tmp_path):
  moving = _moving()
  write_motion(tmp_path, moving, levels=(0, 1))
  sheet = np.asarray(Image.open(tmp_path / "motion.png"))
  # Frames of 64 with a border of 2 and gaps of 2; a label strip of 14; the wheel of 64 with gaps of 2 at the right.
  left = sheet.shape[1] - (2 + 3 * 70) - (2 + 64 + 2)
  assert 30 < left < 60  # the row labels
  assert sheet.shape[0] == 14 + 2 + 6 * 70
  centres = sheet[14 + 2 + 34 :: 70, left + 2 + 34 : left + 2 + 210 : 70]
  white, right, up = [255, 255, 255], flow_colors(np.array([1 / 3, 0.0]), radius=1.0), (88, 0, 255)
  motion = [white, list(right), list(up)]
  # A motion common to all clips is drift.
  below = [motion, [white] * 3]
  expected = [[[20 * t] * 3 for t in (0, 1, 2)], *below, [[20 * t] * 3 for t in (3, 4, 5)], *below]
  np.testing.assert_array_equal(centres, expected)
  np.testing.assert_array_equal(sheet[14 + 2 : 14 + 2 + 64, -66:-2], wheel_image(64))
  with Image.open(tmp_path / "motion_000.gif") as gif:
    # Two samples in one row, above their motion.
    assert (gif.n_frames, gif.size) == (3, (2 + 2 * 70, 2 + 3 * 70))
    gif.seek(2)
    first = np.asarray(gif.convert("RGB"))[2 + 34 :: 70, 2 + 34 :: 70]
  np.testing.assert_array_equal(first, [[[40] * 3, [100] * 3], [list(up)] * 2, [white] * 2])


def test_a_field_without_motion_is_white(tmp_path):
  moving = _moving(samples=1)._replace(flow=np.zeros((1, 1, 2, 64, 64, 2), np.float32))
  write_motion(tmp_path, moving, levels=(0,))
  sheet = np.asarray(Image.open(tmp_path / "motion.png"))
  assert (sheet[14 + 2 + 70 + 2 : 14 + 2 + 70 + 66, -68 - 68 : -68 - 4] == 255).all()


def test_scores_without_an_object_are_null(tmp_path):
  moving = _moving(samples=1)
  write_agreement(tmp_path, moving, np.zeros((1, 3, 64, 64, 3), np.uint8), levels=(0,), seed=0)
  written = json.loads((tmp_path / "motion.json").read_text())["agreement"]
  assert written["model"] == {
    **dict.fromkeys(("cosine", "angle", "length_ratio", "correlation")),
    "frames": 0,
    "still": 0,
    "absent": 2,
  }
