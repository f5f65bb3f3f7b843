"""Kernel distance, inception score, diversity, content distance and intervals: cases worked out by hand."""

import numpy as np
import pytest

from vidgen_jax.scores.metrics.bootstrap import mean_interval, statistic_interval
from vidgen_jax.scores.metrics.content_distance import average_content_distance, mean_colour
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.inception_score import inception_score
from vidgen_jax.scores.metrics.kernel_distance import kernel_distance


def test_kernel_distance_by_hand():
  # One feature: k(x, y) = (x y + 1)^3. a = {0, 1}: k(0, 1) = 1. b = {1, 2}: k(1, 2) = 27.
  # Across: k(0,1) = k(0,2) = 1, k(1,1) = 8, k(1,2) = 27, mean 37/4. 1 + 27 - 2 * 37/4 = 9.5.
  a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
  assert kernel_distance(a, b) == pytest.approx(9.5, rel=1e-12)


def test_kernel_distance_equals_a_double_loop_and_does_not_depend_on_its_blocks(monkeypatch):
  generator = np.random.default_rng(0)
  a, b = generator.normal(size=(13, 5)), generator.normal(0.5, 1, size=(11, 5))

  def k(x, y):
    return (x @ y / 5 + 1) ** 3

  expected = (
    np.mean([k(a[i], a[j]) for i in range(13) for j in range(13) if i != j])
    + np.mean([k(b[i], b[j]) for i in range(11) for j in range(11) if i != j])
    - 2 * np.mean([k(x, y) for x in a for y in b])
  )
  assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)
  monkeypatch.setattr("vidgen_jax.scores.metrics.kernel_distance._ROWS", 4)
  assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_has_no_bias():
  generator = np.random.default_rng(1)
  values = [kernel_distance(*generator.normal(size=(2, 10, 3))) for _ in range(400)]
  assert abs(np.mean(values)) < 4 * np.std(values) / 20
  assert min(values) < 0


def test_inception_score_by_hand():
  # Sure of a class each, evenly over four classes: KL = log 4, score 4. Always the same class: 1. Never sure: 1.
  sure = 1000.0 * np.eye(4)
  assert inception_score(sure) == pytest.approx(4.0)
  assert inception_score(np.repeat(sure[:1], 6, axis=0)) == pytest.approx(1.0)
  assert inception_score(np.zeros((6, 4))) == pytest.approx(1.0)
  # p = (3/4, 1/4) and (1/4, 3/4), marginal (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2).
  logits = np.log([[3.0, 1.0], [1.0, 3.0]])
  assert inception_score(logits) == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-12)
  assert inception_score(logits + 500.0) == pytest.approx(1.5**0.75 * 0.5**0.25, rel=1e-12)


def test_splits_are_scored_by_themselves():
  sure = 1000.0 * np.eye(4)
  assert inception_score(sure, num_splits=2) == pytest.approx(2.0)  # two classes in each half
  assert inception_score(sure, num_splits=4) == pytest.approx(1.0)
  with pytest.raises(ValueError, match="num_splits=5"):
    inception_score(sure, num_splits=5)
  with pytest.raises(ValueError, match="finite logits"):
    inception_score(np.full((3, 2), np.nan))


def test_diversity_by_hand():
  # Cosines of (1,0), (0,1), (-1,0): 0, -1, 0: mean distance 1 + 1/3. Lengths do not count. Equal samples: 0.
  features = np.array([[[1.0, 0], [0, 5], [-2, 0]], [[1, 1], [2, 2], [3, 3]]])
  np.testing.assert_allclose(pairwise_cosine_distance(features), [4 / 3, 0], atol=1e-12)
  with pytest.raises(ValueError, match="at least two samples"):
    pairwise_cosine_distance(features[:, :1])
  with pytest.raises(ValueError, match="not zero"):
    pairwise_cosine_distance(np.zeros((1, 2, 3)))


def test_content_distance_by_hand():
  # Mean colours: frame 0 black, frame 1 (6, 8, 0) all_processes, frame 2 half of the pixels (12, 16, 0): (6, 8, 0).
  # Distances 10, 10, 0: mean 20/3. The other clip never changes.
  video = np.zeros((2, 3, 2, 2, 3), np.uint8)
  video[0, 1] = (6, 8, 0)
  video[0, 2, 0] = (12, 16, 0)
  video[1] = 200
  np.testing.assert_allclose(average_content_distance(video), [20 / 3, 0])
  np.testing.assert_allclose(mean_colour(video)[0, 2], [6, 8, 0])


def test_content_distance_takes_any_embedding():
  video = np.zeros((1, 3, 2, 2, 3), np.uint8)
  distance = average_content_distance(video, embed=lambda v: np.array([[[0.0], [1.0], [3.0]]]))
  np.testing.assert_allclose(distance, [2.0])  # 1, 3, 2
  with pytest.raises(ValueError, match="embeddings must be"):
    average_content_distance(video, embed=lambda v: np.zeros((1, 2, 4)))
  with pytest.raises(TypeError, match="0, 255"):
    average_content_distance(video.astype(np.float32))
  with pytest.raises(ValueError, match="two frames"):
    average_content_distance(video[:, :1])


def test_mean_interval_is_near_the_normal_one():
  values = np.random.default_rng(2).normal(3.0, 2.0, 400)
  low, high = mean_interval(np.append(values, np.nan), num_resamples=4000)
  assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.03)
  assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)
  assert mean_interval(np.array([1.0, np.nan])) is None
  assert mean_interval(np.array([3.0, 3.0])) == (3.0, 3.0)


def test_statistic_interval_covers_its_value_although_draws_are_biased():
  # Of a mean it is that mean's interval. A count of repeats rises in every draw.
  generator = np.random.default_rng(3)
  sets = list(generator.normal(size=(2, 200, 1)))
  low, high = statistic_interval(lambda a: float(a.mean()), float(sets[0].mean()), sets[:1], num_resamples=2000)
  assert (high - low) / 2 == pytest.approx(1.96 * sets[0].std() / np.sqrt(200), rel=0.08)

  def spread(a, b):
    return float(len(a) - len(np.unique(np.concatenate([a, b]))))

  value = spread(*sets)
  low, high = statistic_interval(spread, value, sets, num_resamples=100)
  assert low < value < high
  assert statistic_interval(spread, value, sets, num_resamples=0) is None
  assert statistic_interval(spread, value, sets, at_least=value, num_resamples=100) == (value, high)


def test_statistic_interval_covers_at_its_rate():
  # 120 experiments: the distance of two means, true value 1; the interval around each estimate covers it about 95 times
  # in a hundred.
  generator = np.random.default_rng(4)
  covered = 0
  for _ in range(120):
    a, b = generator.normal(0, 1, (40, 1)), generator.normal(1, 1, (40, 1))
    value = float(b.mean() - a.mean())
    low, high = statistic_interval(lambda a, b: float(b.mean() - a.mean()), value, [a, b], num_resamples=200)
    covered += low <= 1.0 <= high
  assert 0.88 <= covered / 120 <= 0.99
