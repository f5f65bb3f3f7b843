"""The degradations that the ranking of distances between sets is measured with."""

import numpy as np
import pytest

from benchmarks import set_distance_ranking as ranking

FRAMES = 8


@pytest.fixture(scope="module")
def windows():
  return np.random.default_rng(0).integers(256, size=(8, 2 * FRAMES - 1, 16, 16, 3), dtype=np.uint8)


def test_degradations_make_different_clips_of_the_same_shape(windows):
  made = [(label, degrade(windows, np.random.default_rng(1))) for label, _, degrade in ranking._degradations(FRAMES, 1)]
  assert all((clips.shape, clips.dtype) == ((8, FRAMES, 16, 16, 3), np.uint8) for _, clips in made)
  real = windows[:, :FRAMES]
  assert not any(np.array_equal(clips, real) for _, clips in made)
  kept = {label: clips for label, clips in made if label in ("(patches permuted)", "shuffled: share of the frames")}
  assert len(kept) == 2
  assert all(np.array_equal(np.sort(clips, axis=None), np.sort(real, axis=None)) for clips in kept.values())


@pytest.mark.parametrize("stride", [1, 2])
def test_speeds_repeat_and_skip_frames(stride):
  times = np.arange(2 * stride * (FRAMES - 1) + 1, dtype=np.uint8)
  windows = np.broadcast_to(times[:, None, None, None], (1, len(times), 16, 16, 3))
  speeds = {
    (label, strength): degrade(windows, np.random.default_rng(1))[0, :, 0, 0, 0].tolist()
    for label, strength, degrade in ranking._degradations(FRAMES, stride)
    if label.startswith(("slow", "fast", "frozen", "(mirrored"))
  }
  assert speeds["slow: speed", 0.5] == ([0, 0, 1, 1, 2, 2, 3, 3] if stride == 1 else list(range(8)))
  assert speeds["fast: speed", 2.0] == [2 * stride * time for time in range(8)]
  assert speeds["frozen: share of the frames", 0.5] == [stride * min(time, 3) for time in range(8)]
  assert speeds["(mirrored)", 0] == [stride * time for time in range(8)]


def test_an_order_is_demanded_from_real_clips_on():
  values = {(ranking._REAL, 0.0): 1.0, ("a", 1.0): 2.0, ("a", 2.0): 3.0, ("b", 1.0): 0.5, ("b", 2.0): 3.0}
  assert ranking._is_ranked(values, "a") and not ranking._is_ranked(values, "b")
  found = {("kernel", *key): value for key, value in values.items()}
  found |= {("Frechet", *key): value for key, value in values.items()}
  assert list(ranking._faults("set", found)) == [
    f"set: b is not ranked by the {kind} distance" for kind in ranking._DISTANCES
  ]
