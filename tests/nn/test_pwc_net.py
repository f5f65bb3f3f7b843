"""PWC-Net: its size, its cost volume by hand, rejected inputs, the self-test of its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.pwc_net import PWCNet, cost_volume
from vidgen_jax.scores.networks import FLOW_NETWORKS
from vidgen_jax.scores.weights import selftest as known_answers
from vidgen_jax.scores.weights.importing import abstract_variables
from vidgen_jax.scores.weights.selftest import flow_selftest
from vidgen_jax.scores.weights.weight_file import WeightFile


def test_the_number_of_parameters_is_the_published_one():
  shapes = abstract_variables("pwc_net", {})
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 9_374_274  # "9.37 M" in comparisons of flow networks


def test_cost_volume_by_hand():
  random = np.random.default_rng(0)
  first, second = random.normal(size=(2, 1, 3, 4, 5))
  found = np.asarray(cost_volume(jnp.asarray(first), jnp.asarray(second), search_range=2))
  assert found.shape == (1, 3, 4, 25)
  # Channel 7 is one row up, channel 13 one column to the right.
  np.testing.assert_allclose(found[0, 1:, :, 7], (first[0, 1:] * second[0, :-1]).mean(-1), rtol=1e-5)
  np.testing.assert_allclose(found[0, :, :-1, 13], (first[0, :, :-1] * second[0, :, 1:]).mean(-1), rtol=1e-5)
  np.testing.assert_array_equal(found[0, 0, :, 7], 0.0)
  np.testing.assert_array_equal(found[0, :, -1, 13], 0.0)


def test_images_must_be_rgb_and_of_one_shape():
  network = PWCNet(width=0.125)
  for second in ((1, 64, 64, 1), (1, 64, 32, 3)):
    with pytest.raises(ValueError, match="two images"):
      network.init(jax.random.key(0), jnp.zeros((1, 64, 64, second[-1])), jnp.zeros(second))


class _Shifted:
  """A fake network whose motion of the self-test's texture is wrong by `off` pixels."""

  def __init__(self, *, off):
    self._flow = jnp.array(known_answers._SHIFT) + off

  def apply(self, variables, first, second):
    # second(p + flow) = first(p).
    moved = jnp.roll(second, (2, -3), axis=(1, 2))
    np.testing.assert_allclose(moved[:, 8:-8, 8:-8], first[:, 8:-8, 8:-8], atol=1e-5)
    return jnp.broadcast_to(self._flow, (*first.shape[:3], 2))


@pytest.mark.parametrize(("off", "passed"), [(0.2, True), (1.0, False)])
def test_the_selftest_detects_wrong_motion(off, passed, monkeypatch):
  monkeypatch.setattr(known_answers, "FLOW_NETWORKS", {"pwc_net": lambda: _Shifted(off=off)})
  monkeypatch.setattr(known_answers.jax, "jit", lambda f: f)
  weights = WeightFile(network="pwc_net", settings={}, variables={}, preprocessing={}, source="", source_hash="")
  found, report = flow_selftest(weights)
  assert found is passed
  assert report.startswith("ok    texture: " if passed else "WRONG texture: ")


def test_it_is_registered():
  assert FLOW_NETWORKS["pwc_net"] is PWCNet
