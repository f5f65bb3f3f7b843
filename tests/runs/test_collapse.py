"""The collapse detector on windows of ten steps; medians, limits and decisions are derived in the comments."""

import json
import math

import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.runs.collapse import CollapseDetector, HealthConfig

GRAD, SIGMA = "gen/grad_norm", "generator/sigma_max"


def _check(windows, **config):
  """The result of every window."""
  detector = CollapseDetector(HealthConfig(**{"history": 3, "patience": 2} | config))
  return [detector.check(10 * number, window) for number, window in enumerate(windows, start=1)]


def _gradients(*norms: float):
  return [{GRAD: norm} for norm in norms]


def test_consecutive_bad_windows_are_a_collapse_and_stay_out_of_the_history():
  # The median of 1, 2, 9 is 2, the limit 20. 21 and 30 are bad; had 21 entered the history (2, 9, 21), 30 would be
  # good, below 90. The collapse lasts until a good window.
  *before, first, second, after = _check(_gradients(1, 2, 9, 21, 30, 30, 20))
  assert before == [None] * 4
  assert (first.step, first.metric, first.value, first.limit) == (50, GRAD, 30, 20)
  assert (first.bad_windows, first.good_step) == (2, 30)
  assert (second.step, second.bad_windows, second.good_step) == (60, 3, 30)
  assert after is None
  assert str(first) == "gen/grad_norm is 30 at step 50, above its limit of 20; the last good window ended at step 30"


def test_single_spikes_are_ignored():
  assert _check(_gradients(1, 1, 1, 99, 1, 99, 1, 99)) == [None] * 8


def test_the_history_holds_the_last_windows_only():
  # Each window is 9 times the median of the three before: 1, 1, 1 -> 9; 1, 1, 9 -> 9; 1, 9, 9 -> 81; 9, 9, 81 -> 81.
  assert _check(_gradients(1, 1, 1, 9, 9, 81, 81), patience=1) == [None] * 7
  # 9, 81, 81: the limit is 810.
  assert _check(_gradients(1, 1, 1, 9, 9, 81, 81, 811), patience=1)[-1].limit == 810


def test_metrics_without_a_full_history_are_not_checked():
  assert _check(_gradients(1, 1, 1e9, 1), patience=1) == [None] * 4
  # A metric of a later phase starts its own history.
  windows = [*_gradients(1, 1, 1), {"clip_gen/grad_norm": 500.0}, {"clip_gen/grad_norm": 9e9}]
  assert _check(windows, patience=1) == [None] * 5


def test_the_worst_metric_is_reported():
  # Sigma is 3 / 2 = 1.5 times its limit, the gradient 12 / 10 = 1.2 times.
  windows = [{GRAD: 1.0, SIGMA: 1.0}] * 3 + [{GRAD: 12.0, SIGMA: 3.0}]
  assert _check(windows, patience=1, sigma_factor=2.0)[-1].metric == SIGMA
  assert _check(windows, patience=1, sigma_factor=0.0)[-1].metric == GRAD
  assert _check(windows, patience=1, sigma_factor=0.0, grad_norm_factor=0.0)[-1] is None


def test_other_metrics_have_no_limit():
  windows = [{"gen/loss": 1.0, "generator/param_norm": 1.0, "generator/sigma_mean": 1.0}] * 3
  windows += [{"gen/loss": 1e9, "generator/param_norm": 1e9, "generator/sigma_mean": 1e9}]
  assert _check(windows, patience=1) == [None] * 4


@pytest.mark.parametrize(
  ("means", "metric"),
  [
    ({"disc/frame_disc/real": 60.0, "disc/frame_disc/fake": -41.0}, "disc/frame_disc/real - fake"),
    ({"disc/frame_disc/real": -60.0, "disc/frame_disc/fake": 41.0}, "disc/frame_disc/real - fake"),
    ({"image_disc/real": 0.0, "image_disc/decoded": 1.0, "image_disc/drawn": 101.0}, "image_disc/real - drawn"),
    ({"image_disc/real": 0.0, "image_disc/decoded": -101.0, "image_disc/drawn": 1.0}, "image_disc/real - decoded"),
    # A distance of 99; and outputs of different discriminators.
    ({"disc/frame_disc/real": 60.0, "disc/frame_disc/fake": -39.0}, None),
    ({"disc/a/real": 200.0, "disc/b/fake": -200.0}, None),
  ],
)
def test_distant_discriminator_outputs(means, metric):
  (collapse,) = _check([means], patience=1)
  assert (collapse and collapse.metric) == metric
  if collapse:
    assert (collapse.value, collapse.limit, collapse.good_step) == (101.0, 100.0, 0)
    assert _check([means], patience=1, margin_limit=0.0) == [None]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_restored_detector_gives_the_results_of_an_uninterrupted_one(cut):
  windows = _gradients(1, 2, 9, 21, 30, 5, 51, 52)
  config = HealthConfig(history=3, patience=2)
  uninterrupted = CollapseDetector(config)
  expected = [uninterrupted.check(10 * n, window) for n, window in enumerate(windows, start=1)]
  assert [n for n, found in enumerate(expected) if found] == [4, 7]  # 5 above 20; 51 and 52 above the 50 of 2, 9, 5
  first = CollapseDetector(config)
  found = [first.check(10 * n, window) for n, window in enumerate(windows[:cut], start=1)]
  second = CollapseDetector(config, first_step=99, saved=json.loads(json.dumps(first.get_state())))
  found += [second.check(10 * n, window) for n, window in enumerate(windows[cut:], start=cut + 1)]
  assert found == expected
  assert second.get_state() == uninterrupted.get_state()


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("patience", 0, "patience=0 must be at least 1"),
    ("history", 0, "history=0 must be at least 1"),
    ("grad_norm_factor", 1.0, "grad_norm_factor=1.0 must be above 1, or 0 for none"),
    ("sigma_factor", math.nan, "sigma_factor=nan must be above 1, or 0 for none"),
    ("margin_limit", -1.0, "margin_limit=-1.0 must not be negative; 0 for none"),
  ],
)
def test_values_out_of_range_are_named(name, value, message):
  with pytest.raises(UserError) as error:
    HealthConfig(**{name: value})
  assert str(error.value) == f"config.health.{message}"
