"""Anchors: drawing, reading and writing frames at their times, interpolation."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.gans.sr_cgan.anchors import draw_anchors, interpolate_times, put_times, take_times


def test_all_counts_and_all_sets_of_a_count_are_equally_likely():
  draw = jax.jit(functools.partial(draw_anchors, batch_size=6000, num_frames=4, counts=(1, 3)))
  times, known = map(np.asarray, draw(jax.random.key(0)))
  assert times.shape == known.shape == (6000, 3)
  found = collections.Counter()
  for row, count in zip(times, known.sum(axis=1), strict=True):
    assert len(set(row)) == 3
    assert list(row[:count]) == sorted(row[:count])
    found[tuple(map(int, row[:count]))] += 1
  assert (known == (np.arange(3) < known.sum(axis=1, keepdims=True))).all()
  sets = {n: list(itertools.combinations(range(4), n)) for n in (1, 2, 3)}
  assert set(found) == {times for several in sets.values() for times in several}
  for several in sets.values():
    assert sum(found[times] for times in several) == pytest.approx(2000, abs=150)
    for times in several:
      assert found[times] == pytest.approx(2000 / len(several), rel=0.2)


def test_a_fixed_count_may_be_all_frames():
  times, known = draw_anchors(jax.random.key(1), 3, num_frames=5, counts=(5, 5))
  np.testing.assert_array_equal(times, np.tile(np.arange(5), (3, 1)))
  assert np.asarray(known).all()


def test_take_and_put_times_against_a_loop():
  random = np.random.default_rng(0)
  video, frames = random.normal(size=(3, 5, 2, 2, 1)), random.normal(size=(3, 2, 2, 2, 1))
  times = np.array([[0, 4], [3, 1], [2, 2]])
  known = np.array([[True, True], [True, False], [False, True]])
  expected = video.copy()
  for b, m in np.ndindex(3, 2):
    np.testing.assert_array_equal(
      np.asarray(take_times(jnp.asarray(video), jnp.asarray(times)))[b, m], np.float32(video[b, times[b, m]])
    )
    if known[b, m]:
      expected[b, times[b, m]] = frames[b, m]
  found = put_times(*map(jnp.asarray, (video, frames, times, known)))
  np.testing.assert_array_equal(found, np.float32(expected))


def test_interpolate_times_against_numpy():
  values = np.random.default_rng(0).normal(size=(3, 3, 2)).astype(np.float32)
  times = np.array([[1, 3, 6], [0, 5, 2], [4, 0, 0]])
  known = np.array([[True, True, True], [True, True, False], [True, False, False]])
  found = jax.jit(functools.partial(interpolate_times, num_frames=8))(values, times, known)
  for clip in range(3):
    points, heights = times[clip][known[clip]], values[clip][known[clip]]
    expected = np.stack([np.interp(np.arange(8), points, heights[:, d]) for d in range(2)], axis=-1)
    np.testing.assert_allclose(found[clip], expected, atol=1e-6)
