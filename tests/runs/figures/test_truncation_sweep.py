"""The truncation sweep: its clips are those of a sampler with that truncation; its scores by hand."""

import dataclasses

import numpy as np
import pytest

from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.runs import generation
from vidgen_jax.runs.figures import truncation_sweep
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import Clips, evaluation_clips
from vidgen_jax.runs.sampling.samplers import Sampler

pytest_plugins = ("tests.trained_runs",)


def test_truncations_are_sorted():
  truncations = truncation_sweep.parse_truncations(["none", "1", " 0.25", "0"])
  assert truncations == (0.0, 0.25, 1.0, None)
  assert truncation_sweep.parse_truncations([]) == ()


@pytest.mark.parametrize("word", ["-1", "nan", "inf", "half", ""])
def test_invalid_truncations(word):
  with pytest.raises(UserError, match="must be a number >= 0 or 'none'"):
    truncation_sweep.parse_truncations(["1", word])


def test_a_truncation_cannot_occur_twice():
  with pytest.raises(UserError, match=r"--truncations=0\.5,\.5: a truncation occurs twice"):
    truncation_sweep.parse_truncations(["0.5", ".5"])


def test_all_truncations_share_one_program_and_one_set_of_statistics(run_folder, monkeypatch):
  trained = samplers.load_run(str(run_folder), num_clips=8)
  algorithm = type(trained.experiment.algorithm)
  traced, prepared = [], []
  predict, prepare = algorithm.predict, generation.prepare_nets
  monkeypatch.setattr(algorithm, "predict", lambda self, *a, **k: traced.append(1) or predict(self, *a, **k))
  monkeypatch.setattr(generation, "prepare_nets", lambda *a, **k: prepared.append(1) or prepare(*a, **k))
  sampler = samplers.workdir_sampler(trained, truncation=0.3)
  swept = truncation_sweep.sweep_samplers(sampler, (0.0, 0.5, None))
  assert list(swept) == ["0", "0.5", "none"]
  clips = evaluation_clips(swept["0"], num_clips=3)
  drawn = {label: samplers.draw_sample(sampler, clips, sample=1, seed=2) for label, sampler in swept.items()}
  assert (len(traced), len(prepared)) == (1, 1)
  assert np.mean(drawn["0"] != drawn["none"]) > 0.01
  again = samplers.draw_sample(swept["0"], clips, sample=0, seed=9)
  np.testing.assert_array_equal(drawn["0"], again)
  plain = samplers.workdir_sampler(trained, truncation=0.5)
  expected = samplers.draw_sample(plain, clips, sample=1, seed=2)
  np.testing.assert_allclose(drawn["0.5"].astype(int), expected, atol=1)
  assert np.mean(drawn["0.5"] != expected) < 0.01


def test_scores_and_diversity_by_hand():
  # A white and a black frame follow the first one; the two samples of each clip are exact, or wrong by 51 of 255: the
  # squared error is 0.04, PSNR 13.979 dB.
  truth = np.zeros((2, 3, 16, 16, 1), np.uint8)
  truth[:, 1] = 255
  wrong = truth.copy()
  wrong[:, 1], wrong[:, 2] = 204, 51
  drawn = iter([truth, wrong])
  sampler = Sampler(
    draw=lambda clips, key: next(drawn),
    batch_size=2,
    conditioning_indices=(0,),
    num_frames=3,
    class_names=(),
    data=DataConfig(name="none", num_frames=3, resolution=16),
  )
  clips = Clips(conditioning=truth[:, :1], truth=truth, label=np.zeros(2, np.int32))
  scores = truncation_sweep.measure(sampler, clips, samples=2, seed=0, tracking=False)
  assert set(scores) == {"psnr", "ssim", "psnr_pooled", "diversity"}
  assert scores["ssim"]["best"] == pytest.approx(1, abs=1e-6)
  assert scores["psnr"]["best"] - 2 * (scores["psnr"]["best"] - scores["psnr"]["mean"]) == pytest.approx(
    13.979, abs=1e-3
  )
  # (1, -1) and (0.6, -0.6) have the same direction: a dimmer clip is not a different one.
  assert scores["diversity"] == pytest.approx(0, abs=1e-12)


def test_objects_are_tracked_and_missing_scores_are_none():
  dark = np.zeros((1, 2, 16, 16, 1), np.uint8)
  truth = dark.copy()
  truth[:, :, 4:8, 4:8] = 255
  sampler = Sampler(
    draw=lambda clips, key: dark,
    batch_size=1,
    conditioning_indices=(0,),
    num_frames=2,
    class_names=(),
    data=DataConfig(name="none", num_frames=2, resolution=16),
  )
  clips = Clips(conditioning=truth[:, :1], truth=truth, label=np.zeros(1, np.int32))
  scores = truncation_sweep.measure(sampler, clips, samples=2, seed=0, tracking=True)
  assert scores["presence"] == {"mean": 0.0}
  assert scores["centroid_error"] == {"mean": None, "best": None}
  # Half the diagonal of 16x16.
  assert scores["penalised_centroid_error"]["mean"] == pytest.approx(128**0.5)
  # Clips from noise have no truth: only the presence of an object and their diversity can be measured.
  sampler, clips = (
    dataclasses.replace(sampler, conditioning_indices=()),
    dataclasses.replace(clips, conditioning=truth[:, :0]),
  )
  scores = truncation_sweep.measure(sampler, clips, samples=2, seed=0, tracking=True)
  assert scores.keys() == {"presence", "diversity"}
  assert scores["presence"] == {"mean": 0.0}
  assert truncation_sweep.measure(sampler, clips, samples=2, seed=0, tracking=False).keys() == {"diversity"}
