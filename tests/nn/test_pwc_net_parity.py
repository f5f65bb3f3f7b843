"""PWC-Net against PyTorch, with both formats of its weights."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.nn.pwc_net import PWCNet
from vidgen_jax.scores.weights import importing
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file

WIDTH = 0.125

torch = pytest.importorskip("torch", reason="needs PyTorch")
torch_networks = pytest.importorskip("tests.parity.torch_networks", reason="needs PyTorch")


@functools.cache
def torch_pwc_net():
  network = torch_networks.build(torch_networks.PwcNet(width=WIDTH), seed=0)
  with torch.no_grad():
    for name, value in network.named_parameters():
      # Motions of some pixels, so that warping stays partly inside of the image.
      if name.startswith(("predict_flow", "dc_conv7")):
        value.mul_(0.3)
  return network


def release():
  """The state dict with the names of the release; training on several GPUs adds `module.`."""
  return {f"module.{name}": value for name, value in torch_pwc_net().state_dict().items()}


def port():
  """The state dict with the names of the common port, in its order of layers."""
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
  """The importer with a narrow network, which is fast in PyTorch."""
  made = {"pwc_net": functools.partial(PWCNet, width=WIDTH)}
  monkeypatch.setattr(importing, "FLOW_NETWORKS", made)


def imported(state, folder: Path) -> WeightFile:
  torch.save(state, folder / "flow.pth.tar")
  out = folder / "flow.safetensors"
  assert (
    cli.dispatch(["weights", "import", "--network=pwc_net", f"--from={folder / 'flow.pth.tar'}", f"--out={out}"]) == 0
  )
  return read_weight_file(out)


def test_flows_agree_with_pytorch_for_both_formats(narrow, tmp_path):
  weights = imported(release(), tmp_path)
  (tmp_path / "port").mkdir()
  assert imported(port(), tmp_path / "port").hash == weights.hash
  assert weights.settings == {}

  random = np.random.default_rng(1)
  first, second = random.uniform(-1, 1, (2, 2, 40, 100, 3)).astype(np.float32)
  found = jax.jit(PWCNet(width=WIDTH).apply)(weights.variables, first, second)

  def tensor(image):
    bgr = torch.from_numpy((image[..., ::-1] + 1) / 2).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(bgr, (64, 128), mode="bilinear", align_corners=False)

  with torch.no_grad():
    quarter = torch_pwc_net()(tensor(first), tensor(second))
    flow = 20 * torch.nn.functional.interpolate(quarter, (40, 100), mode="bilinear", align_corners=False)
  expected = flow.permute(0, 2, 3, 1).numpy() * np.array([100 / 128, 40 / 64])
  assert found.shape == (2, 40, 100, 2)
  assert 1.0 < np.abs(expected).max() < 100.0
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_with_an_additional_layer_is_rejected(narrow, tmp_path, capfd):
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
