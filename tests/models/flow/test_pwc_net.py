"""PWC-Net: its size, its cost volume by hand, and its flows against PyTorch's through both forms of its weights."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.commands import import_weights
from vidgen_jax.models.flow import FLOW_NETWORKS, PWCNet
from vidgen_jax.models.flow.pwc_net import cost_volume
from vidgen_jax.pretrained.weight_file import WeightFile, read_weight_file

WIDTH = 0.125

torch = pytest.importorskip("torch", reason="PyTorch is what is compared with")
torch_networks = pytest.importorskip("tests.parity.torch_networks", reason="PyTorch is what is compared with")


def test_the_number_of_parameters_is_the_published_one():
  shapes = import_weights.abstract_variables("pwc_net", {})
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 9_374_274  # "9.37 M" in comparisons of flow networks


def test_cost_volume_by_hand():
  random = np.random.default_rng(0)
  first, second = random.normal(size=(2, 1, 3, 4, 5))
  found = np.asarray(cost_volume(jnp.asarray(first), jnp.asarray(second), search_range=2))
  assert found.shape == (1, 3, 4, 25)
  # Channel 7 is one row up and no column aside, channel 13 in the same row and one to the right.
  np.testing.assert_allclose(found[0, 1:, :, 7], (first[0, 1:] * second[0, :-1]).mean(-1), rtol=1e-5)
  np.testing.assert_allclose(found[0, :, :-1, 13], (first[0, :, :-1] * second[0, :, 1:]).mean(-1), rtol=1e-5)
  np.testing.assert_array_equal(found[0, 0, :, 7], 0.0)
  np.testing.assert_array_equal(found[0, :, -1, 13], 0.0)


@functools.cache
def torch_pwc_net():
  network = torch_networks.build(torch_networks.PwcNet(width=WIDTH), seed=0)
  with torch.no_grad():
    for name, value in network.named_parameters():
      # Motions of some pixels, so that warping stays inside of the picture in part.
      if name.startswith(("predict_flow", "dc_conv7")):
        value.mul_(0.3)
  return network


def release():
  """The state dict under the names of the release; `module.` is left behind by training on several GPUs."""
  return {f"module.{name}": value for name, value in torch_pwc_net().state_dict().items()}


def port():
  """The same under the names of the common port, which are listed in the order in which it declares its layers."""
  numbers = ["One", "Two", "Thr", "Fou", "Fiv", "Six"]
  renamed = {}
  for level, number in enumerate(numbers, 1):
    for i, part in enumerate(("aa", "a", "b") if level == 6 else ("a", "aa", "b")):
      renamed[f"conv{level}{part}.0"] = f"moduleExtractor.module{number}.{2 * i}"
  for level in range(2, 7):
    decoder = f"module{numbers[level - 1]}"
    if level < 6:
      renamed[f"deconv{level + 1}"] = f"{decoder}.moduleUpflow"
      renamed[f"upfeat{level + 1}"] = f"{decoder}.moduleUpfeat"
    for i in range(5):
      renamed[f"conv{level}_{i}.0"] = f"{decoder}.module{numbers[i]}.0"
    renamed[f"predict_flow{level}"] = f"{decoder}.moduleSix.0"
  renamed |= {f"dc_conv{i}{'.0' if i < 7 else ''}": f"moduleRefiner.moduleMain.{2 * (i - 1)}" for i in range(1, 8)}
  state = torch_pwc_net().state_dict()
  return {f"{ours}.{leaf}": state[f"{name}.{leaf}"] for name, ours in renamed.items() for leaf in ("weight", "bias")}


@pytest.fixture
def narrow(monkeypatch):
  """The importer at a width at which PyTorch is quick."""
  made = {"pwc_net": functools.partial(PWCNet, width=WIDTH)}
  monkeypatch.setattr(import_weights, "FLOW_NETWORKS", made)


def imported(state, folder: Path) -> WeightFile:
  torch.save(state, folder / "flow.pth.tar")
  out = folder / "flow.safetensors"
  assert (
    cli.dispatch(["weights", "import", "--network=pwc_net", f"--from={folder / 'flow.pth.tar'}", f"--out={out}"]) == 0
  )
  return read_weight_file(out)


def test_flows_agree_with_pytorch_whatever_the_names(narrow, tmp_path):
  weights = imported(release(), tmp_path)
  (tmp_path / "port").mkdir()
  assert imported(port(), tmp_path / "port").hash == weights.hash
  assert weights.settings == {}

  random = np.random.default_rng(1)
  first, second = random.uniform(-1, 1, (2, 2, 40, 100, 3)).astype(np.float32)
  found = jax.jit(PWCNet(width=WIDTH).apply)(weights.variables, first, second)

  def tensor(picture):
    bgr = torch.from_numpy((picture[..., ::-1] + 1) / 2).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(bgr, (64, 128), mode="bilinear", align_corners=False)

  with torch.no_grad():
    quarter = torch_pwc_net()(tensor(first), tensor(second))
    flow = 20 * torch.nn.functional.interpolate(quarter, (40, 100), mode="bilinear", align_corners=False)
  expected = flow.permute(0, 2, 3, 1).numpy() * np.array([100 / 128, 40 / 64])
  assert found.shape == (2, 40, 100, 2)
  assert 1.0 < np.abs(expected).max() < 100.0
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_with_a_layer_too_many_is_refused(narrow, tmp_path, capfd):
  torch.save(release() | {"conv7a.0.weight": torch.zeros(3)}, tmp_path / "flow.pth")
  words = [
    "weights",
    "import",
    "--network=pwc_net",
    f"--from={tmp_path / 'flow.pth'}",
    f"--out={tmp_path / 'f.safetensors'}",
  ]
  assert cli.dispatch(words) == 2
  assert "not used: conv7a.0.weight (1)" in capfd.readouterr().err


def test_pictures_must_be_rgb_and_of_one_shape():
  network = PWCNet(width=WIDTH)
  for second in ((1, 64, 64, 1), (1, 64, 32, 3)):
    with pytest.raises(ValueError, match="two pictures"):
      network.init(jax.random.key(0), jnp.zeros((1, 64, 64, second[-1])), jnp.zeros(second))


class _Shifted:
  """Stands in for a network that knows the motion of the self-test's texture, but for `off` pixels."""

  def __init__(self, *, off):
    self._flow = jnp.array(import_weights._SHIFT) + off

  def apply(self, variables, first, second):
    # What the second picture shows at p + flow is what the first shows at p.
    moved = jnp.roll(second, (2, -3), axis=(1, 2))
    np.testing.assert_allclose(moved[:, 8:-8, 8:-8], first[:, 8:-8, 8:-8], atol=1e-5)
    return jnp.broadcast_to(self._flow, (*first.shape[:3], 2))


@pytest.mark.parametrize(("off", "passed"), [(0.2, True), (1.0, False)])
def test_selftest_tells_right_motion_from_wrong(off, passed, monkeypatch):
  monkeypatch.setattr(import_weights, "FLOW_NETWORKS", {"pwc_net": lambda: _Shifted(off=off)})
  monkeypatch.setattr(import_weights.jax, "jit", lambda f: f)
  weights = WeightFile(network="pwc_net", settings={}, variables={}, preprocessing={}, source="", source_hash="")
  found, report = import_weights.flow_selftest(weights)
  assert found is passed
  assert report.startswith("ok    texture: " if passed else "WRONG texture: ")


def test_its_name_is_known():
  assert FLOW_NETWORKS["pwc_net"] is PWCNet
