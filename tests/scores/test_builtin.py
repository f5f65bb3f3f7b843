"""The built-in network: its definition is fixed, its features mean what they say, and it ranks degraded clips."""

import jax
import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.builtin import builtin_weights, load_builtin_extractor
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.registry import network_metrics

SHAPE = (6, 32, 32, 3)
GOLDEN = [0.4303, 2.1975, 0.9332, -0.605, -2.6191, -0.0089, 0.0013]


@pytest.fixture(scope="module")
def extractor():
  return load_builtin_extractor(mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]), batch_size=16)


def waves(count, *, speed=0.5, seed=0, length=6):
  """uint8[N, *SHAPE]: plane waves of random length, colour and contrast that move to the right."""
  generator = np.random.default_rng(seed)
  draw = lambda low, high, channels=1: generator.uniform(low, high, (count, 1, 1, 1, channels))
  time, rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
  distance = columns + draw(-0.3, 0.3)[..., 0] * rows - speed * time
  phase = 2 * np.pi * distance / draw(length, 2 * length)[..., 0] + draw(0, 6)[..., 0]
  video = draw(90, 160, 3) + draw(20, 80) * np.sin(phase)[..., None] * draw(0.5, 1.0, 3)
  return np.rint(video).astype(np.uint8)


def test_the_definition_is_fixed(extractor):
  # A change of constants or code makes earlier scores incomparable: raise "version" in builtin.py, then this hash.
  assert builtin_weights().short_hash == extractor.hash == "fcc9ca5972d8"
  values = np.arange(np.prod(SHAPE), dtype=np.uint64)
  clip = (values * 2654435761 % 2**32 >> 24).astype(np.uint8).reshape(1, *SHAPE)
  features = extractor.extract(clip).features[0]
  assert features.shape == (53,)
  np.testing.assert_allclose(features[::8], GOLDEN, atol=2e-4)


def test_features_do_not_depend_on_the_batch(extractor):
  video = waves(19)
  one = load_builtin_extractor(mesh=make_mesh(MeshConfig(), devices=jax.devices()[:2]), batch_size=2)
  np.testing.assert_allclose(one.extract(video).features, extractor.extract(video).features, atol=1e-4)


def test_features_are_log_energies_and_velocities(extractor):
  video = waves(4, speed=0.5)
  features = extractor.extract(video).features
  luma = (video / 127.5 - 1) @ [0.299, 0.587, 0.114]
  change = np.abs(luma[:, 1:] - luma[:, :-1]).mean((2, 3))
  np.testing.assert_allclose(features[:, 3], np.log(change + 0.002).mean(1) + 3, atol=1e-4)
  # Half of the velocity at a quarter of the resolution; the differences underestimate slopes of short waves.
  for speed in (-0.5, 0.0, 0.5, 1.0):
    found = extractor.extract(waves(4, speed=speed, length=24)).features[:, 42]
    np.testing.assert_allclose(found, 0.5 * speed / 4, rtol=0.2, atol=1e-3)


def _blurred(video, times):
  for _ in range(times):
    video = sum(np.roll(np.roll(video.astype(float), y, 2), x, 3) for y in (0, 1) for x in (0, 1)) / 4
  return np.rint(video).astype(np.uint8)


def test_degradations_are_farther_than_other_real_clips(extractor):
  real, other = waves(32), waves(32, seed=1)
  noise = np.random.default_rng(0).normal(size=other.shape)
  noisy = lambda deviation: np.clip(np.rint(other + deviation * noise), 0, 255).astype(np.uint8)
  families = {
    "blur": [_blurred(other, 1), _blurred(other, 6)],
    "noise": [noisy(4), noisy(16)],
    "frozen": [other[:, [0, 1, 2, 3, 3, 3]], other[:, [0] * 6]],
    "speed": [waves(32, seed=1, speed=0.75), waves(32, seed=1, speed=1.0)],
    "shuffled": [other[:, [0, 2, 1, 3, 4, 5]], other[:, [3, 0, 4, 1, 5, 2]]],
    "mode collapse": [np.repeat(other[::4], 4, axis=0)],
  }
  distance = lambda video: frechet_distance(reals, extractor.extract(video).features)
  reals = extractor.extract(real).features
  for name, videos in families.items():
    values = [distance(video) for video in (other, *videos)]
    assert values == sorted(values) and values[1] > 1.05 * values[0], (name, values)


def test_unsuitable_clips_are_refused(extractor):
  with pytest.raises(UserError, match="at least 3 frames of 8x8"):
    extractor.check((2, 32, 32, 3))
  extractor.check((3, 8, 9, 1))


def test_only_distances_are_computed_under_their_own_name():
  names = [metric.row for metric in network_metrics("video_statistics")]
  assert {"video_statistics_distance", "video_statistics_kernel"} < {*names}
  assert not {"fvd", "fid", "clip_frechet", "clip_kernel", "inception_score", "diversity"} & {*names}
