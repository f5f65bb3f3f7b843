"""Confidence intervals by hand, against brute force, and their coverage and width in simulations."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.classifier_scores import inception_interval, inception_score
from vidgen_jax.scores.metrics.intervals import jackknife_variance, mean_interval
from vidgen_jax.scores.metrics.set_distance import (
  frechet_distance,
  frechet_interval,
  jedi_distance,
  jedi_interval,
  kernel_distance,
  kernel_interval,
)


def test_mean_interval_by_hand():
  # Student's t with 2 degrees of freedom: 4.30265; mean 2, standard error 1 / sqrt(3).
  assert mean_interval(np.array([1.0, 2.0, np.nan, 3.0])) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
  assert mean_interval(np.array([1.0, np.nan])) is None
  assert mean_interval(np.array([3.0, 3.0])) == (3.0, 3.0)


def test_variance_from_pairs_is_subtracted():
  # Variances 1 and 4 of 2 clips each: jackknife 0.5 + 2.
  influences = [np.array([0.0, np.sqrt(2)]), np.array([0.0, np.sqrt(8)])]
  assert jackknife_variance(influences, 0.3) == pytest.approx(2.2)
  # Of one distribution: 7/8 of 1.25 and 1/8 of 2.
  assert jackknife_variance(influences, 2.0) == pytest.approx(1.34375)


def sets(generator, *, shift, count=60, size=12):
  a, b = generator.normal(size=(2, count, size)) * np.arange(1, size + 1.0) ** -0.5
  return a, b * (1.0 + shift) + shift


DISTANCES = [(frechet_distance, frechet_interval), (kernel_distance, kernel_interval), (jedi_distance, jedi_interval)]


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize(("statistic", "interval"), DISTANCES)
def test_intervals_of_distances_have_their_coverage_and_width(statistic, interval, shift):
  generator = np.random.default_rng(3)
  pairs = [sets(generator, shift=shift) for _ in range(120)]
  values = np.array([statistic(*pair) for pair in pairs])
  low, high = np.array([interval(value, *pair) for value, pair in zip(values, pairs, strict=True)]).T
  assert ((low <= values) & (values <= high)).all()
  # The fourth powers of JEDi have heavy tails.
  least = 0.82 if statistic is jedi_distance else 0.9
  assert least <= np.mean((low <= values.mean()) & (values.mean() <= high)) <= 0.99
  assert 0.75 <= np.mean(high - low) / (2 * 1.96 * values.std()) <= 1.3


def exact_jackknife(statistic, pair):
  """The jackknife's variance from distances without one clip."""
  total = 0.0
  for which, vectors in enumerate(pair):
    count = len(vectors)
    without = [
      statistic(*(np.delete(x, i, axis=0) if index == which else x for index, x in enumerate(pair)))
      for i in range(count)
    ]
    total += (count - 1) * np.var(without)
  return total


@pytest.mark.parametrize(("statistic", "interval"), DISTANCES)
def test_influences_equal_the_effect_of_leaving_one_clip_out(statistic, interval, monkeypatch):
  scale, found = (100.0**2 if statistic is jedi_distance else 1.0), []
  monkeypatch.setattr(
    "vidgen_jax.scores.metrics.set_distance.jackknife_variance",
    lambda influences, pairs: found.append(jackknife_variance(influences, 0.0)) or 0.0,
  )
  pair = sets(np.random.default_rng(5), shift=0.7, count=100, size=5)
  interval(statistic(*pair), *pair)
  assert scale * found[0] == pytest.approx(exact_jackknife(statistic, pair), rel=0.1)


def test_intervals_of_special_sets():
  same = np.random.default_rng(6).normal(size=(8, 3))
  assert frechet_interval(0.0, same, same) == (0.0, 0.0)
  # Constant sets have no variance; squared distance of the means: 3 * 2^2.
  low, high = frechet_interval(12.0, np.ones((6, 3)), np.full((5, 3), 3.0))
  assert (low, high) == pytest.approx((12.0, 12.0))
  # More features than clips.
  a, b = np.random.default_rng(7).normal(size=(2, 6, 30))
  low, high = frechet_interval(frechet_distance(a, b), a, b + 1.0)
  assert 0.0 <= low < frechet_distance(a, b) < high < np.inf
  low, high = kernel_interval(kernel_distance(a[:2], b[:2]), a[:2], b[:2])
  assert low < high < np.inf


@pytest.mark.parametrize(("statistic", "interval"), DISTANCES)
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
def test_intervals_of_almost_equal_sets_are_no_wider_than_those_of_other_draws(statistic, interval, noise):
  a, b = sets(np.random.default_rng(9), shift=0.0)
  _, usual = interval(value := statistic(a, b), a, b)
  for near in (a, a[::-1]):
    near = near + noise * b
    low, high = interval(value := statistic(a, near), a, near)
    assert low <= value <= high < 4 * usual


@pytest.mark.parametrize(("statistic", "interval"), DISTANCES)
@pytest.mark.parametrize("colour", [0.0, 0.3])
def test_intervals_of_constant_sets_are_finite(statistic, interval, colour):
  a, b = np.full((20, 7), colour, np.float32), np.full((9, 7), colour, np.float32)
  low, high = interval(value := statistic(a, b), a, b)
  assert low <= value <= high < 1e-4


def test_kernel_distance_to_the_same_array():
  a = np.random.default_rng(10).normal(size=(6, 4))
  assert kernel_distance(a, a) == kernel_distance(a, a.copy()) < 0
  assert kernel_interval(0.0, a, a) == kernel_interval(0.0, a, a.copy())


def test_inception_interval():
  generator = np.random.default_rng(8)
  draws = [2.0 * generator.normal(size=(100, 6)) for _ in range(200)]
  values = np.array([inception_score(logits) for logits in draws])
  low, high = np.array([inception_interval(value, logits) for value, logits in zip(values, draws, strict=True)]).T
  assert 0.91 <= np.mean((low <= values.mean()) & (values.mean() <= high)) <= 0.98
  # Classes that never occur, and clips that all look the same.
  assert inception_interval(1.0, np.tile([1000.0, 0.0, 0.0], (4, 1))) == (1.0, 1.0)
