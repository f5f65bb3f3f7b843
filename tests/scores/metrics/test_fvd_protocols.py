"""FVD by each protocol equals that of independent NumPy, SciPy and PyTorch code."""

import pytest

from vidgen_jax.scores.metrics.preprocessing import FVD_PROTOCOLS

pytest.importorskip("torch", reason="parity with PyTorch needs the extra 'parity'")

from tests.parity import fvd_protocols


@pytest.fixture(scope="module")
def network():
  return fvd_protocols.network()


@pytest.mark.parametrize("name", FVD_PROTOCOLS)
def test_the_distance_of_random_features(name, network):
  expected, ours = fvd_protocols.on_features(name, network[1])
  assert ours == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", FVD_PROTOCOLS)
def test_the_distance_of_clips_by_a_network_with_random_weights(name, network):
  expected, ours = fvd_protocols.on_network(name, *network, count=4)
  assert ours == pytest.approx(expected, rel=1e-5)
