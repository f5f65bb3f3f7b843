"""Published weights through the command, and the resulting networks against PyTorch's."""

import json
import types
import warnings
from typing import cast

import jax
import numpy as np
import pytest

from tests.scores.weights.checkpoints import write_checkpoint
from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor
from vidgen_jax.scores.weights.importing import abstract_variables, read_mean_volume
from vidgen_jax.scores.weights.selftest import selftest
from vidgen_jax.scores.weights.weight_file import read_weight_file

pytest_plugins = ("tests.classifier_files", "tests.trained_runs")

TF_BRANCHES = {
  "b0": "Branch_0/Conv3d_0a_1x1",
  "b1a": "Branch_1/Conv3d_0a_1x1",
  "b1b": "Branch_1/Conv3d_0b_3x3",
  "b2a": "Branch_2/Conv3d_0a_1x1",
  "b2b": "Branch_2/Conv3d_0b_3x3",
  "b3b": "Branch_3/Conv3d_0b_1x1",
}


def as_tensorflow(state):
  """The state dict of the PyTorch port under the names and layouts of the TensorFlow release."""
  arrays = {"global_step": np.array(3, np.int64)}
  for name, tensor in state.items():
    array, (*unit, layer, leaf) = tensor.numpy(), name.split(".")
    if unit == [] and layer == "conv3d":
      unit = ["logits"]
    scope = [TF_BRANCHES.get(part, part) for part in unit]
    if scope[0] == "Mixed_5b" and unit[-1] == "b2b":
      scope[1] = "Branch_2/Conv3d_0a_3x3"  # as in the release
    if unit == ["logits"]:
      scope = ["Logits/Conv3d_0c_1x1"]
    if layer == "conv3d":
      array = array.transpose(2, 3, 4, 1, 0) if leaf == "weight" else array
      variable = f"conv_3d/{ {'weight': 'w', 'bias': 'b'}[leaf] }"
    elif leaf in ("weight", "num_batches_tracked"):
      continue  # the release has no gains
    else:
      array = array.reshape(1, 1, 1, 1, -1)
      names = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
      variable = f"batch_norm/{names[leaf]}"
    arrays["/".join(["RGB/inception_i3d", *scope, variable])] = np.ascontiguousarray(array)
  return arrays


def as_hasson(reference):
  """The PyTorch port as a module with the names of StyleGAN-V's TorchScript archive."""
  import torch

  branches = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1", "b2a": "branch_2.0", "b2b": "branch_2.1"}
  branches |= {"b3b": "branch_3.1", "bn": "batch3d", "logits": "conv3d_0c_1x1"}
  root = torch.nn.Module()
  for name, layer in reference.named_modules():
    if isinstance(layer, (torch.nn.Conv3d, torch.nn.BatchNorm3d)):
      path = ".".join(branches.get(part, part) for part in name.split("."))
      *parents, leaf = path.replace("Conv3d", "conv3d").replace("Mixed", "mixed").split(".")
      module = root
      for parent in parents:
        if not hasattr(module, parent):
          module.add_module(parent, torch.nn.Module())
        module = module.get_submodule(parent)
      module.add_module(leaf, layer)
  return root


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
  """PyTorch's I3D, our file of its state dict, and our file of the same weights as a TensorFlow checkpoint."""
  torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
  from tests.parity import torch_networks

  folder = tmp_path_factory.mktemp("i3d")
  reference = torch_networks.build(torch_networks.I3D(), seed=0, unit_gain=True)
  torch.save(reference.state_dict(), folder / "i3d.pt")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.jit.script(as_hasson(reference)).save(str(folder / "i3d_torchscript.pt"))
  write_checkpoint(folder / "tf" / "model.ckpt", as_tensorflow(reference.state_dict()), num_shards=2)
  sources = {"i3d.pt": "from_torch", "tf/model.ckpt": "from_tf", "i3d_torchscript.pt": "from_script"}
  for source, name in sources.items():
    words = ["--network=i3d", f"--from={folder / source}", f"--out={folder / name}.safetensors"]
    assert cli.dispatch(["weights", "import", *words]) == 0
  return reference, *(folder / f"{name}.safetensors" for name in sources.values())


def test_i3d_has_its_published_number_of_values():
  variables = abstract_variables("i3d", {"num_classes": 400})
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 12_704_544


def test_all_forms_of_i3d_are_the_same_weights(i3d):
  _, *files = i3d
  described = [json.loads(path.with_suffix(".json").read_text()) for path in files]
  assert len({d["hash"] for d in described}) == 1
  assert len({d["source_hash"] for d in described}) == 3
  assert [d["values"] for d in described] == [12_704_544] * 3
  for part, description in zip(
    ("common PyTorch port", "TensorFlow release", "Hasson, torchscript"), described, strict=True
  ):
    assert part in description["source"]


def test_imported_i3d_agrees_with_pytorch(i3d):
  import torch

  reference, _, path, _ = i3d
  extractor = load_extractor(path, mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]), batch_size=1)
  clip = np.random.default_rng(0).integers(256, size=(1, 9, 224, 224, 3), dtype=np.uint8)
  found = extractor.extract(clip)
  with torch.inference_mode():
    video = torch.from_numpy(clip.astype(np.float32) / 127.5 - 1).permute(0, 4, 1, 2, 3)
    logits, features = (part.numpy() for part in reference(video))
  np.testing.assert_allclose(found.logits, logits, atol=1e-4 * np.std(logits))
  np.testing.assert_allclose(found.features, features, atol=1e-4 * np.std(features))


@pytest.mark.parametrize("stem", ["torchvision", "hara"])
def test_resnets_are_imported_with_their_scaling(stem, tmp_path):
  torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")
  from tests.parity import torch_networks

  reference = torch_networks.build(torch_networks.ResNet3D(5, stem, width=64), seed=1)
  torch.save({"state_dict": reference.state_dict(), "epoch": 3}, tmp_path / "r3d.pth")
  out = tmp_path / "r3d.safetensors"
  assert cli.dispatch(["weights", "import", "--network=r3d18", f"--from={tmp_path / 'r3d.pth'}", f"--out={out}"]) == 0
  weights = read_weight_file(out)
  assert weights.settings == {"num_classes": 5, "stem": stem}
  extractor = load_extractor(out, mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]), batch_size=1)
  clip = np.random.default_rng(0).integers(256, size=(1, 8, 24, 24, 3), dtype=np.uint8)
  mean, std = (np.array(weights.preprocessing[name], np.float32) for name in ("mean", "std"))
  with torch.inference_mode():
    scaled = torch.from_numpy((clip / np.float32(255) - mean) / std).permute(0, 4, 1, 2, 3)
    logits = reference(scaled)[0].numpy()
  np.testing.assert_allclose(extractor.extract(clip).logits, logits, atol=2e-4 * np.abs(logits).max())


def test_the_mean_volume_is_kept_with_c3d(tmp_path):
  volume = np.random.default_rng(0).uniform(80, 120, (1, 3, 16, 128, 171)).astype(np.float32)
  np.savez(tmp_path / "mean2.npz", mean=volume)
  read = read_mean_volume(str(tmp_path / "mean2.npz"))
  assert read.shape == (16, 128, 171, 3)
  assert read[5, 7, 9, 1] == volume[0, 1, 5, 7, 9]
  for name, array, message in (
    ("scaled", volume / 255, r"must contain values on \[0, 255\]"),
    ("flat", volume[0, 0], r"must contain \[3, T, H, W\]"),
  ):
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(UserError, match=message):
      read_mean_volume(str(tmp_path / f"{name}.npy"))
  (tmp_path / "text.npz").write_text("no array")
  with pytest.raises(UserError, match="cannot be read"):
    read_mean_volume(str(tmp_path / "text.npz"))


class Answering:
  """An extractor with known answers."""

  network = "i3d"

  def __init__(self, distance, *, mixes=False, num_classes=400):
    self.weights = types.SimpleNamespace(settings={"num_classes": num_classes})
    self._offset, self._mixes = np.sqrt(distance / 4), mixes

  def extract(self, video):
    level = video.reshape(len(video), -1).mean(axis=1) / 255.0
    if self._mixes:
      level = level + video.mean() / 255.0
    # Four logits move by the same amount: black and white clips have the squared distance 4 offset^2.
    return type("Features", (), {"logits": np.repeat(self._offset * level[:, None], 4, axis=1)})


def answering_selftest(distance, **options):
  return selftest(cast(FeatureExtractor, Answering(distance, **options)))


def test_selftest_rejects_wrong_weights():
  assert answering_selftest(131.2)[0]
  passed, report = answering_selftest(219.0)
  assert not passed
  assert "WRONG FVD, black against white: 219.00" in report
  assert "rgb_imagenet: these are the wrong weights for FVD" in report
  passed, report = answering_selftest(140.0)
  assert not passed
  assert "rgb_imagenet" not in report
  assert "WRONG batches" in answering_selftest(131.0, mixes=True)[1]
  assert answering_selftest(140.0, num_classes=600)[0]  # The answer is known of 400 classes only.


def test_selftest_and_show_as_commands(classifier_file, capsys):
  assert cli.dispatch(["weights", "selftest", f"--weights={classifier_file}"]) == 0
  assert capsys.readouterr().out.startswith("ok    batches: ")
  assert cli.dispatch(["weights", "show", f"--weights={classifier_file}"]) == 0
  shown = capsys.readouterr().out
  assert "r3d18" in shown
  assert "a, b, c" in shown


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("", "usage: vidgen weights list|fetch NAME|import|selftest|show"),
    ("convert", "got convert"),
    ("import --network=i3d --out=f.safetensors", "--from is required"),
    ("import --network=i3d --from=x --out=f.pt", "must end in .safetensors"),
    ("import --network=i3d --from={folder}/nothing --out=f.safetensors", "nothing"),
    ("import --network=i3d --from={folder}/some.npz --out={folder}/f.safetensors", "not weights of i3d"),
    ("import --network=i3d --from={folder}/text --out={folder}/f.safetensors", "text"),
    ("show --weights={folder}/nothing.safetensors", "nothing.safetensors"),
    (
      "import --network=i3d --from=https://x/i.pt --out=f.safetensors",
      "must be a local path; `vidgen weights fetch NAME",
    ),
    ("show --weights=w.safetensors --network=i3d", "--network does not apply to `vidgen weights show`"),
  ],
)
def test_mistakes_are_one_line(words, message, vidgen, tmp_path):
  np.savez(tmp_path / "some.npz", a=np.zeros(3, np.float32))
  (tmp_path / "text").write_text("no weights")
  assert message in vidgen("weights", *words.format(folder=tmp_path).split())
