"""The interpolation along optical flow with imported weights: its name, grey clips, wrong files."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.scores import flow_baseline
from vidgen_jax.scores.flow_baseline import load_flow_baseline
from vidgen_jax.scores.weights.weight_file import WeightFile, write_weight_file


class _Shift(nn.Module):
  """The horizontal distance between the brightest pixels of two RGB images, everywhere."""

  sign: float = 1.0

  @nn.compact
  def __call__(self, first, second):
    assert first.shape[-1] == second.shape[-1] == 3
    scale = self.sign * self.param("scale", nn.initializers.zeros, ())
    start, end = (jnp.argmax(image[0, 0, :, 0]) for image in (first, second))
    return jnp.broadcast_to(jnp.array([scale * (end - start), 0.0]), (*first.shape[:3], 2))


@pytest.fixture
def weights(tmp_path, monkeypatch):
  monkeypatch.setattr(flow_baseline, "FLOW_NETWORKS", {"pwc_net": _Shift})

  def write(network):
    variables = {"params": {"scale": np.array(2.0, np.float32)}}
    file = WeightFile(
      network=network,
      settings={"sign": 0.5},
      variables=variables,
      preprocessing={},
      source="test",
      source_hash="0" * 64,
    )
    write_weight_file(tmp_path / f"{network}.safetensors", file)
    return str(tmp_path / f"{network}.safetensors"), file.short_hash

  return write


def test_grey_clips_are_interpolated_by_a_network_of_rgb(weights):
  path, short_hash = weights("pwc_net")
  baseline = load_flow_baseline(weights=path)
  assert baseline.name == f"flow_pwc_net_{short_hash}"
  video = np.zeros((1, 3, 1, 8, 1), np.uint8)
  video[0, 0, 0, 2] = video[0, 2, 0, 4] = 200
  found = baseline(video, (0, 2))
  assert found[0, 1, 0, :, 0].tolist() == [0, 0, 0, 200, 0, 0, 0, 0]


def test_weights_of_another_network(weights):
  path, _ = weights("r3d18")
  with pytest.raises(UserError, match="has weights of r3d18; choose a file of pwc_net"):
    load_flow_baseline(weights=path)


def test_without_weights_it_is_lucas_kanade():
  assert load_flow_baseline().name == "flow_lucas_kanade"
