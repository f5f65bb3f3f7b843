"""The network of LPIPS in scores: by hand with a network of one weight, in both commands, and misfits."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.lpips_files import replace_lpips
from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.runs import scoring
from vidgen_jax.scores import perceptual
from vidgen_jax.scores.metrics.best_of import BestOf
from vidgen_jax.scores.metrics.lpips import frame_lpips
from vidgen_jax.scores.networks import LPIPS

pytest_plugins = ("tests.classifier_files",)


@pytest.fixture
def weights(monkeypatch, tmp_path):
  return replace_lpips(monkeypatch, tmp_path)


def _clips(count=2, frames=3, *, channels=3):
  return np.random.default_rng(0).integers(100, 156, size=(count, frames, 16, 16, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_by_hand(weights, channels):
  truth = _clips(channels=channels)
  prediction = truth.copy()
  prediction[1, 2] += 51  # 51 / 255 of [0, 1] are 0.4 of [-1, 1].
  found = frame_lpips(prediction, truth, perceptual.load_perceptual_distance(weights))
  np.testing.assert_allclose(found, [[0, 0, 0], [0, 0, 0.8]], rtol=1e-5)
  with pytest.raises(TypeError, match="uint8"):
    frame_lpips(truth / 255, truth, perceptual.load_perceptual_distance(weights))


def test_generated_frames_of_runs(weights):
  lpips = perceptual.load_perceptual_distance(weights)
  truth = _clips()
  prediction = truth.copy()
  prediction[:, 0] += 51  # A conditioning frame, which does not count.
  prediction[:, 2] += 51
  assert "lpips" in scoring.metric_names((0,), tracking=False, lpips=lpips)
  values = scoring.score(prediction, truth, (0,), tracking=False, lpips=lpips)
  np.testing.assert_allclose(values["lpips"], [[0, 0.8]] * 2, rtol=1e-5)
  best = BestOf(best=values, mean=values, num_samples=5)
  evaluation = scoring.Evaluation(model=best, baselines={}, frames=(1, 2), lpips=lpips)
  scores = {
    (score.metric, score.protocol): score for score in scoring.clip_scores(evaluation, {"split": "x", "num_clips": 2})
  }
  score = scores["lpips", "frame_mean, best of 5 samples"]
  assert (score.value, score.extractor, score.extractor_hash) == (
    pytest.approx(0.4, rel=1e-5),
    "lpips, alexnet",
    lpips.hash,
  )
  assert scores["ssim", "frame_mean, best of 5 samples"].extractor is None
  curve = {score.metric: score for score in scoring.frame_scores(evaluation, {"split": "x", "num_clips": 2})}
  assert (curve["lpips_frame_2"].value, curve["lpips_frame_2"].extractor_hash) == (
    pytest.approx(0.8, rel=1e-5),
    lpips.hash,
  )


def test_paired_clips(weights, tmp_path):
  np.save(tmp_path / "real.npy", _clips())
  np.save(tmp_path / "fake.npy", _clips() + 51)
  words = [f"--{name}={tmp_path / name}.npy" for name in ("real", "fake")]
  assert cli.dispatch(["compare", *words, "--paired", f"--lpips={weights}", f"--out={tmp_path / 'out.jsonl'}"]) == 0
  rows = {row["metric"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
  assert rows["lpips"]["value"] == pytest.approx(0.8, rel=1e-5)
  assert rows["lpips"]["extractor"] == "lpips, alexnet"
  assert rows["psnr"]["extractor"] is None


def test_misfits_are_user_errors(weights, monkeypatch, classifier_file):
  with pytest.raises(UserError, match="--lpips: images are too small"):
    perceptual.load_perceptual_distance(weights).check((4, 4))
  with pytest.raises(UserError, match="holds r3d18; give weights of lpips"):
    perceptual.load_perceptual_distance(str(classifier_file))
  with pytest.raises(ValueError, match=r"alexnet needs .* at least 31x31 pixels, got \(1, 30, 40, 3\)"):
    LPIPS().apply({}, *[jnp.zeros((1, 30, 40, 3))] * 2)
