"""Published weights on our networks: through each file format, against an independent mapping, and misfits."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tests.scores.weights.checkpoints import write_checkpoint
from vidgen_jax.errors import UserError
from vidgen_jax.scores.networks.c3d import C3D
from vidgen_jax.scores.networks.i3d import I3D
from vidgen_jax.scores.networks.resnet3d import ResNet3D
from vidgen_jax.scores.networks.tsn import TSN
from vidgen_jax.scores.weights import layouts
from vidgen_jax.scores.weights.arrays import SourceArrays, read_arrays
from vidgen_jax.scores.weights.naming import NAMINGS

torch = pytest.importorskip("torch", reason="PyTorch writes the files")
torch_networks = pytest.importorskip("tests.parity.torch_networks", reason="PyTorch writes the files")
mapping = pytest.importorskip("tests.parity.mapping", reason="PyTorch writes the files")

# Our networks at small sizes, with shapes of clips.
I3D_WIDTH, C3D_WIDTH, RESNET_WIDTH = 1 / 32, 1 / 64, 4
NETWORKS = {
  "i3d": (functools.partial(I3D, width=I3D_WIDTH, pool_window=(2, 1, 1)), (1, 9, 32, 32, 3)),
  "c3d": (functools.partial(C3D, width=C3D_WIDTH), (1, 16, 32, 32, 3)),
  "r3d18": (functools.partial(ResNet3D, width=RESNET_WIDTH), (1, 8, 16, 16, 3)),
  "tsn": (functools.partial(TSN, width=RESNET_WIDTH), (1, 3, 32, 32, 3)),
}
FULL = {
  "i3d": (I3D, (1, 9, 224, 224, 3)),
  "c3d": (C3D, (1, 16, 112, 112, 3)),
  "r3d18": (ResNet3D, (1, 8, 112, 112, 3)),
  "tsn": (TSN, (1, 3, 224, 224, 3)),
}


@functools.cache
def shapes_of(network, settings, *, full=False):
  build, shape = (FULL if full else NETWORKS)[network]
  video = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(lambda x: build(**dict(settings)).init(jax.random.key(0), x), video)


def expected_of(network):
  return lambda settings: shapes_of(network, tuple(sorted(settings.items())))


def source_of(arrays, *, kind="pytorch", path="weights.pt", blob=""):
  arrays = {name: np.asarray(array) for name, array in arrays.items()}
  return SourceArrays(arrays=arrays, format=kind, path=Path(path), sha256="0" * 64, git_blob_sha1=blob)


def assert_same_tree(found, expected):
  found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(expected)
  assert set(found) == set(expected)
  for path, array in expected.items():
    assert found[path].dtype == np.float32
    np.testing.assert_array_equal(found[path], array, err_msg="/".join(path))


@functools.cache
def torch_i3d(*, unit_gain=True):
  network = torch_networks.I3D(7, width=I3D_WIDTH, pool=(2, 1, 1))
  return torch_networks.build(network, seed=0, unit_gain=unit_gain)


@functools.cache
def i3d_variables():
  """Our variables of `torch_i3d` by the independent mapping."""
  gain = re.compile(r"\.bn\.weight$").search
  expected = shapes_of("i3d", (("num_classes", 7),))
  return mapping.to_flax(torch_i3d().state_dict(), expected, mapping.i3d_name, unused=gain)


def tensorflow_names(variables):
  """Arrays under the names of the TensorFlow release, copied from its listing; its moments are [1, 1, 1, 1, C]."""
  branches = {"b0": "Branch_0/Conv3d_0a_1x1", "b1a": "Branch_1/Conv3d_0a_1x1", "b1b": "Branch_1/Conv3d_0b_3x3"}
  branches |= {"b2a": "Branch_2/Conv3d_0a_1x1", "b2b": "Branch_2/Conv3d_0b_3x3", "b3b": "Branch_3/Conv3d_0b_1x1"}
  leaves = {"kernel": "conv_3d/w", "bias": "batch_norm/beta", "mean": "batch_norm/moving_mean"}
  leaves |= {"var": "batch_norm/moving_variance"}
  arrays = {}
  for (_, *unit, _, leaf), array in traverse_util.flatten_dict(variables).items():
    name = "/".join(branches.get(part, part) for part in unit).replace("logits", "Logits/Conv3d_0c_1x1")
    name = name.replace("Mixed_5b/Branch_2/Conv3d_0b_3x3", "Mixed_5b/Branch_2/Conv3d_0a_3x3")
    if leaf != "kernel" and unit != ["logits"]:
      array = array.reshape(1, 1, 1, 1, -1)
    is_logits_bias = unit == ["logits"] and leaf == "bias"
    arrays[f"RGB/inception_i3d/{name}/{'conv_3d/b' if is_logits_bias else leaves[leaf]}"] = array
  return arrays


def test_i3d_from_tensorflow(tmp_path):
  arrays = tensorflow_names(i3d_variables())
  assert "RGB/inception_i3d/Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w" in arrays
  assert "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b" in arrays
  extra = {"RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w/Momentum": np.ones(2, np.float32)}
  extra |= {"global_step": np.array(7, np.int64), "Flow/inception_i3d/x": np.ones(2, np.float32)}
  write_checkpoint(tmp_path / "model.ckpt", arrays | extra)
  found = layouts.convert("i3d", read_arrays(tmp_path / "model.ckpt"), expected_of("i3d"))
  assert_same_tree(found.variables, i3d_variables())
  assert (found.settings, found.warning) == ({"num_classes": 7}, "")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "npz"])
def test_i3d_of_the_pytorch_port(tmp_path, form):
  state = torch_i3d().state_dict()
  path = tmp_path / "x"
  if form == "safetensors":
    safetensors_torch = pytest.importorskip("safetensors.torch")
    safetensors_torch.save_file(state, path)
  elif form == "npz":
    with path.open("wb") as file:
      np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})
  else:
    torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
  found = layouts.convert("i3d", read_arrays(path), expected_of("i3d"))
  assert_same_tree(found.variables, i3d_variables())
  assert found.settings == {"num_classes": 7}


def test_gains_are_folded_into_kernel_and_mean():
  state = torch_i3d(unit_gain=False).state_dict()
  found = layouts.convert("i3d", source_of(state), expected_of("i3d")).variables
  # y = gamma (Wx - mean) / sqrt(var + eps) + beta for one unit and one voxel, x a random input.
  unit = {name: state[f"Mixed_4b.b2b.{name}"].numpy().astype(np.float64) for name in UNIT}
  x = np.random.default_rng(0).normal(size=unit["conv3d.weight"].shape[1:])
  conv = np.einsum("oithw,ithw->o", unit["conv3d.weight"], x)
  std = np.sqrt(unit["bn.running_var"] + 1e-3)
  y = unit["bn.weight"] * (conv - unit["bn.running_mean"]) / std + unit["bn.bias"]
  params, stats = found["params"]["Mixed_4b"]["b2b"], found["batch_stats"]["Mixed_4b"]["b2b"]["norm"]
  ours = np.einsum("thwio,ithw->o", params["conv"]["kernel"], x)
  ours = (ours - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) + params["norm"]["bias"]
  assert not np.allclose(unit["bn.weight"], 1)
  np.testing.assert_allclose(ours, y, rtol=1e-5)
  np.testing.assert_array_equal(stats["var"], state["Mixed_4b.b2b.bn.running_var"])


UNIT = ("conv3d.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def torch_c3d():
  # With 16 frames of 32x32 one voxel reaches fc6; ask for 1 * 1 * 1 and for more below.
  return torch_networks.build(torch_networks.C3D(5, C3D_WIDTH, flat=8), seed=0)


def test_c3d_from_chainer(tmp_path):
  network = torch_c3d()
  np.savez_compressed(tmp_path / "x.npz", **torch_networks.chainer_arrays(network))
  found = layouts.convert("c3d", read_arrays(tmp_path / "x.npz"), expected_of("c3d"))
  expected = mapping.to_flax(
    network.state_dict(), shapes_of("c3d", (("num_classes", 5),)), mapping.c3d_name, flattened=("fc6", (8, 1, 1, 1))
  )
  assert_same_tree(found.variables, expected)
  assert found.settings == {"num_classes": 5}


def test_fc6_sees_the_same_values_in_our_order():
  # Two channels of a 2x3x2 grid: Chainer flattens them C, T, H, W and Flax T, H, W, C.
  generator = np.random.default_rng(0)
  arrays = {"conv1a/W": np.ones((2, 3, 3, 3, 3)), "conv5b/W": np.ones((2, 2, 3, 3, 3)), "conv5b/b": np.ones(2)}
  arrays |= {"fc6/W": generator.normal(size=(4, 24)), "fc8/W": np.ones((5, 4))}
  shapes = {"fc6": {"kernel": (24, 4)}, "fc8": {"kernel": (4, 5)}, "conv1a": {"kernel": (3, 3, 3, 3, 2)}}
  shapes |= {"conv5b": {"kernel": (3, 3, 3, 2, 2), "bias": (2,)}}
  structs = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes, is_leaf=lambda s: type(s) is tuple)
  found = layouts.convert("c3d", source_of(arrays), lambda settings: {"params": structs}).variables["params"]
  x = generator.normal(size=(2, 2, 3, 2))
  theirs = arrays["fc6/W"] @ x.reshape(-1)
  np.testing.assert_allclose(x.transpose(1, 2, 3, 0).reshape(-1) @ found["fc6"]["kernel"], theirs, rtol=1e-5)


@pytest.mark.parametrize(
  ("stem", "name_of"), [("hara", mapping.resnet_name), ("torchvision", mapping.torchvision_video_name)]
)
def test_r3d18(tmp_path, stem, name_of):
  network = torch_networks.build(torch_networks.ResNet3D(6, stem, RESNET_WIDTH), seed=0)
  state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
  torch.save({"epoch": 10, "arch": "resnet-18", "state_dict": state}, tmp_path / "x.pth")
  found = layouts.convert("r3d18", read_arrays(tmp_path / "x.pth"), expected_of("r3d18"))
  assert found.settings == {"stem": stem, "num_classes": 6}
  expected = shapes_of("r3d18", (("num_classes", 6), ("stem", stem)))
  assert_same_tree(found.variables, mapping.to_flax(network.state_dict(), expected, name_of))


@pytest.mark.parametrize("release", [False, True], ids=["torchvision", "tsn"])
def test_tsn(release):
  state = torch_networks.build(torch_networks.TSN(6, width=RESNET_WIDTH), seed=0).state_dict()
  source = source_of(torch_networks.tsn_release(state) if release else state)
  found = layouts.convert("tsn", source, expected_of("tsn"))
  expected = mapping.to_flax(state, shapes_of("tsn", (("num_classes", 6),)), mapping.resnet_name)
  assert_same_tree(found.variables, expected)
  assert found.settings == {"num_classes": 6}


@pytest.mark.parametrize("naming", [n for n in NAMINGS if n.network in FULL], ids=lambda naming: naming.origin)
def test_namings_cover_the_published_networks(naming):
  settings = tuple(sorted({"num_classes": 400, **naming.settings}.items()))
  flat = traverse_util.flatten_dict(shapes_of(naming.network, settings, full=True))
  names = {naming.foreign(path): path for path in flat}
  assert None not in names and len(names) == len(flat)
  assert naming.head in names
  assert set(naming.marks) <= set(names)
  # 12,704,544 for I3D as published; torchvision documents 33,371,472 parameters of r3d_18, to which come the moments
  # of its 4,800 normalised channels.
  sizes = {"the TensorFlow release of Kinetics I3D": 12_704_544, "torchvision's r3d_18": 33_371_472 + 2 * 4_800}
  if naming.origin in sizes:
    assert sum(np.prod(struct.shape, dtype=int) for struct in flat.values()) == sizes[naming.origin]


def test_all_misfits_are_listed_in_one_line():
  state = {name: tensor.numpy() for name, tensor in torch_i3d().state_dict().items()}
  for name in [name for name in state if name.startswith("Mixed_4e.b") and name.endswith("conv3d.weight")]:
    del state[name]
  for i in range(9):
    state[f"extra.{i}"] = np.ones(1)
  state["Conv3d_2b_1x1.bn.bias"] = np.ones(5)
  state["Conv3d_2b_1x1.bn.weight"] = np.ones(3)
  with pytest.raises(UserError) as error:
    layouts.convert("i3d", source_of(state, path="w.pt"), expected_of("i3d"))
  message = str(error.value)
  assert message.startswith("w.pt does not fit network i3d: not used: extra.0, extra.1, ")
  assert "extra.7, ... (9); missing: params/Mixed_4e/b0/conv/kernel, " in message
  assert "(6); wrong shape: Conv3d_2b_1x1.bn.bias is 5 and not 2, Conv3d_2b_1x1.bn.weight is 3 and not 2 (2)" in message
  assert "\n" not in message


def test_unused_variables_of_the_tensorflow_scope_are_listed():
  arrays = tensorflow_names(i3d_variables()) | {"RGB/inception_i3d/Mixed_6a/w": np.ones(2), "other/w": np.ones(2)}
  with pytest.raises(UserError, match=r"not used: RGB/inception_i3d/Mixed_6a/w \(1\); give"):
    layouts.convert("i3d", source_of(arrays, kind="tf checkpoint"), expected_of("i3d"))


def test_a_missing_head_is_listed():
  state = {name: tensor for name, tensor in torch_i3d().state_dict().items() if not name.startswith("logits")}
  with pytest.raises(UserError, match=r"missing: params/logits/conv/\w+, params/logits/conv/\w+ \(2\); give"):
    layouts.convert("i3d", source_of(state), expected_of("i3d"))


def hara_state():
  return torch_networks.ResNet3D(6, "hara", RESNET_WIDTH).state_dict()


@pytest.mark.parametrize(
  ("network", "make", "other"),
  [
    ("i3d", hara_state, "r3d18 (the 3D ResNets of Hara et al.)"),
    ("tsn", hara_state, "r3d18 (the 3D ResNets of Hara et al.)"),
    ("r3d18", lambda: torch_networks.TSN(6, width=RESNET_WIDTH).state_dict(), "tsn (a 2D ResNet-50 of torch"),
    ("r3d18", lambda: torch_networks.chainer_arrays(torch_c3d()), "c3d (Chainer's C3D)"),
    ("c3d", lambda: torch_i3d().state_dict(), "i3d (the common PyTorch port of I3D)"),
  ],
)
def test_weights_of_another_network_are_recognised(network, make, other):
  with pytest.raises(UserError, match=re.escape(f"these are not weights of {network} but of {other}")):
    layouts.convert(network, source_of(make()), expected_of(network))


def test_unknown_weights():
  arrays = {f"a\nb{i}": np.ones(1) for i in range(10)}
  with pytest.raises(
    UserError, match=r"not weights of i3d; the file holds a b0, .*a b7, \.\.\. \(10\); give a file of one of"
  ) as error:
    layouts.convert("i3d", source_of(arrays), expected_of("i3d"))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("path", "blob", "warning"),
  [
    ("imagenet/model.ckpt.index", "fa7df95674dbf3579e7fccd954e51e706b4734c1", r"^$"),
    ("rgb/model.ckpt.index", "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18", r"^this is rgb_imagenet; .* 219 against 131"),
    ("rgb/model.ckpt.index", "6392a74c3180e706cabada39d8f40a50a48642e5", "^these are the 600 classes"),
    ("rgb_imagenet/model.ckpt.index", "", "^by its name this is rgb_imagenet"),
    ("x/RGB_ImageNet.index", "", "^by its name this is rgb_imagenet"),
    ("rgb/model.ckpt.index", "", r"^$"),
  ],
)
def test_releases_of_i3d_are_distinguished(path, blob, warning):
  source = source_of(tensorflow_names(i3d_variables()), kind="tf checkpoint", path=path, blob=blob)
  assert re.search(warning, layouts.convert("i3d", source, expected_of("i3d")).warning)


def test_the_checkpoint_of_kinetics_600_has_no_scope():
  arrays = {name.removeprefix("RGB/inception_i3d/"): array for name, array in tensorflow_names(i3d_variables()).items()}
  momentum = {f"{name}/Momentum": array for name, array in arrays.items() if "moving" not in name}
  found = layouts.convert("i3d", source_of(arrays | momentum, kind="tf checkpoint"), expected_of("i3d"))
  assert_same_tree(found.variables, i3d_variables())


HASSON = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1", "b2a": "branch_2.0", "b2b": "branch_2.1"}
HASSON |= {"b3b": "branch_3.1", "bn": "batch3d", "logits": "conv3d_0c_1x1"}


def hasson_names(state):
  """A state dict of the common port under the names of Hasson's port, which StyleGAN-V's archive has."""
  names = {name: ".".join(HASSON.get(part, part) for part in name.split(".")) for name in state}
  return {name.replace("Conv3d", "conv3d").replace("Mixed", "mixed"): state[old] for old, name in names.items()}


def test_i3d_of_hassons_port():
  arrays = hasson_names(torch_i3d().state_dict())
  assert {"conv3d_1a_7x7.batch3d.running_mean", "mixed_5c.branch_3.1.conv3d.weight", "conv3d_0c_1x1.conv3d.bias"} <= {
    *arrays
  }
  found = layouts.convert("i3d", source_of(arrays, kind="torchscript"), expected_of("i3d"))
  assert_same_tree(found.variables, i3d_variables())
  assert (found.settings, found.mapping) == ({"num_classes": 7}, "")


def unknown_names(state):
  """The state dict with modules called by numbers, as a program of unknown origin might."""
  modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
  return {f"net.m{modules.index(name.rpartition('.')[0])}.{name.rpartition('.')[2]}": state[name] for name in state}


def test_i3d_of_unknown_names_is_assigned_by_order_and_shapes():
  state = unknown_names(torch_i3d().state_dict())
  found = layouts.convert("i3d", source_of(state), expected_of("i3d"))
  assert_same_tree(found.variables, i3d_variables())
  assert found.mapping.startswith("its 58 layers have unknown names and were assigned by their order and shapes; `vid")
  # One layer too few, and the order of two kernels of other outputs, and of other inputs.
  wrong = [{name: state[name] for name in list(state)[6:]}]
  known = torch_i3d().state_dict()
  for first, second in (("Mixed_3b.b0", "Mixed_3b.b1a"), ("Mixed_3b.b2b", "Mixed_3b.b3b")):
    names = [f"{name}.conv3d.weight" for name in (first, second)]
    wrong.append(unknown_names(known | dict(zip(names, (known[name] for name in reversed(names)), strict=True))))
  for arrays in wrong:
    with pytest.raises(UserError, match="these are not weights of i3d"):
      layouts.convert("i3d", source_of(arrays), expected_of("i3d"))


# Wide enough that no bias looks like a mean by channel.
WIDE_C3D = functools.partial(C3D, width=1 / 16)


@pytest.mark.parametrize("known", [True, False])
def test_c3d_of_pytorch_with_its_preprocessing(known):
  network = torch_networks.build(torch_networks.C3D(5, 1 / 16, flat=32), seed=0)
  state = network.state_dict()
  extra = {"mean": np.ones((3, 16, 112, 112), np.float32), "pre.weight": np.ones((3, 3, 1, 1, 1), np.float32)}
  arrays = extra | (state if known else unknown_names(state))
  clip = jax.ShapeDtypeStruct((1, 16, 32, 32, 3), jnp.float32)
  shapes = lambda settings: jax.eval_shape(lambda x: WIDE_C3D(**settings).init(jax.random.key(0), x), clip)
  found = layouts.convert("c3d", source_of(arrays, kind="torchscript"), shapes)
  expected = mapping.to_flax(state, shapes({"num_classes": 5}), mapping.c3d_name, flattened=("fc6", (32, 1, 1, 1)))
  assert_same_tree(found.variables, expected)
  assert "left out tensors that prepare the input: mean, pre.weight (2)" in found.mapping
  assert ("unknown names" in found.mapping) == (not known)
