"""PyTorch files written by PyTorch, by hand, by an attacker, and damaged."""

import collections
import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.torch_file import is_torch_file, read_torch_file

torch = pytest.importorskip("torch", reason="PyTorch writes the files")

FORMS = {
  "zip": {},
  "zip, protocol 4": {"pickle_protocol": 4},
  "legacy": {"_use_new_zipfile_serialization": False},
  "legacy, protocol 5": {"_use_new_zipfile_serialization": False, "pickle_protocol": 5},
}


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def save(request, tmp_path):
  """Writes an object and gives the path."""

  def write(obj):
    torch.save(obj, tmp_path / "x.pt", **request.param)
    return tmp_path / "x.pt"

  return write


def small_network():
  with torch.random.fork_rng():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(2, 3, 2), torch.nn.BatchNorm3d(3), torch.nn.Linear(4, 2))


def assert_equals_state(found, state):
  assert list(found) == list(state)
  for name, tensor in state.items():
    np.testing.assert_array_equal(found[name], tensor.numpy())
    assert found[name].dtype == tensor.numpy().dtype


def test_state_dict(save):
  network = small_network()
  assert_equals_state(read_torch_file(save(network.state_dict())), network.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_state_dict_among_other_things_and_of_data_parallel(save, key):
  network = small_network()
  optimizer = torch.optim.Adam(network.parameters())
  network(torch.ones(1, 2, 2, 5, 5)).sum().backward()
  optimizer.step()
  state = torch.nn.DataParallel(network).state_dict()
  assert all(name.startswith("module.") for name in state)
  path = save({"epoch": 3, "best": 0.25, "arch": "x", key: state, "optimizer": optimizer.state_dict()})
  assert_equals_state(read_torch_file(path), network.state_dict())


def test_only_a_common_prefix_is_dropped(save):
  state = {"module.a": torch.ones(1), "b": torch.ones(2)}
  assert set(read_torch_file(save(state))) == {"module.a", "b"}


def test_dtypes(save):
  names = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
  state = {name: torch.tensor([0, 1, 3, 5]).to(getattr(torch, name)) for name in names}
  found = read_torch_file(save(state | {"bfloat16": torch.tensor([1.5, -2, 3e38], dtype=torch.bfloat16)}))
  brain = found.pop("bfloat16")
  assert brain.dtype.name == "bfloat16"
  # 3e38 is rounded to eight bits: 3e38 = 1.763 * 2^127, and 1.763 * 128 = 225.7 becomes 226: 226 / 128 * 2^127.
  np.testing.assert_array_equal(brain.astype(np.float32), np.float32([1.5, -2, 226 / 128 * 2.0**127]))
  assert_equals_state(found, state)


def test_views_share_one_storage(save):
  base = torch.arange(24.0).reshape(2, 3, 4)
  state = {"base": base, "t": base.permute(2, 0, 1), "part": base[1, 1:, ::2], "row": base[1, 2], "one": base[1, 2, 3]}
  found = read_torch_file(save(state))
  assert_equals_state(found, state)
  assert not found["t"].flags.c_contiguous
  assert all(np.shares_memory(found["base"], found[name]) for name in found)
  assert not found["base"].flags.writeable


def test_parameters_empty_tensors_and_other_values(save):
  state = {"p": torch.nn.Parameter(torch.ones(2, 3)), "none": torch.zeros(0, 3), "n": 3, "s": "text", "l": [1, 2.5]}
  found = read_torch_file(save(state))
  assert {name: array.shape for name, array in found.items()} == {"p": (2, 3), "none": (0, 3)}


def test_storages_without_a_type(save):
  storage = torch.arange(6, dtype=torch.uint8).untyped_storage()
  assert set(read_torch_file(save({"a": torch.ones(2), "raw": storage}))) == {"a"}


class Inner(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.conv3d = torch.nn.Conv3d(1, 2, 1)
    self.bn = torch.nn.BatchNorm3d(2)
    self.sizes = [1, 2]
    self.ratios = (0.5, 1)

  def forward(self, x):
    return self.bn(self.conv3d(x)) * self.sizes[0]


class Outer(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.units = torch.nn.ModuleList([Inner(), Inner()])
    self.constants = [torch.ones(2)]
    self.limits = {"a": 1, "b": 2}
    self.device = torch.device("cpu")

  def forward(self, x):
    for unit in self.units:
      x = unit(x[:, :1]) + self.constants[0].sum() + self.limits["a"]
    return x


def test_torchscript(tmp_path):
  network = Outer()
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.jit.script(network).save(str(tmp_path / "x.pt"))
  found = read_torch_file(tmp_path / "x.pt")
  state = network.state_dict()
  assert set(found) == set(state)
  assert "units.1.bn.running_var" in found
  for name, tensor in state.items():
    np.testing.assert_array_equal(found[name], tensor.numpy())


def test_big_endian_values(tmp_path):
  state = {"a": torch.tensor([1.5, 2]), "c": torch.tensor([1 + 2j])}
  torch.save(state, tmp_path / "x.pt")
  with zipfile.ZipFile(tmp_path / "x.pt") as archive:
    entries = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
    for name, data in entries.items():
      data = {"byteorder": b"big", "0": np.float32([1.5, 2]).astype(">f4").tobytes()}.get(name.split("/")[-1], data)
      archive.writestr(name, np.array([1 + 2j], ">c8").tobytes() if name.endswith("data/1") else data)
  found = read_torch_file(tmp_path / "y.pt")
  np.testing.assert_array_equal(found["a"], [1.5, 2])
  np.testing.assert_array_equal(found["c"], [1 + 2j])


# What torch 0.3 under Python 2 wrote, opcode by opcode: short byte strings (U), an OrderedDict that is called with a
# list of lists, a storage with a view, `_rebuild_tensor` of four arguments.
def python_2_file():
  def string(text):
    return b"U" + bytes([len(text)]) + text.encode()

  def tensor(offset, view):
    identity = b"(" + string("storage") + b"ctorch\nFloatStorage\n" + string("77") + string("cpu") + b"K\x06" + view
    return b"ctorch._utils\n_rebuild_tensor\n(" + identity + b"tQK" + bytes([offset]) + b"K\x02\x85K\x01\x85tR"

  items = b"](](" + string("a") + tensor(1, b"N") + b"e](" + string("b")
  items += tensor(1, b"(" + string("78") + b"K\x02K\x03t") + b"ee"
  header = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
  header += pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
  tree = b"\x80\x02ccollections\nOrderedDict\n" + items + b"\x85R."
  keys = b"\x80\x02](" + string("77") + b"e."
  return header + tree + keys + struct.pack("<q6f", 6, *range(6))


def test_files_of_python_2(tmp_path):
  (tmp_path / "x.pt").write_bytes(python_2_file())
  found = read_torch_file(tmp_path / "x.pt")
  # `a` starts at value 1 of the storage 0..5; `b` at value 1 of the view that starts at 2.
  np.testing.assert_array_equal(found["a"], [1, 2])
  np.testing.assert_array_equal(found["b"], [3, 4])


class Attack:
  def __init__(self, function, *arguments):
    self.reduced = (function, arguments)

  def __reduce__(self):
    return self.reduced


def archive_of(data, path):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", data)
    archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
  return path


@pytest.mark.parametrize(
  ("obj", "name"),
  [
    (Attack(os.system, "touch hacked"), "posix.system"),
    (Attack(eval, "1"), r"(builtins|__builtin__)\.eval"),
    (Attack(getattr, {}, "x"), r"(builtins|__builtin__)\.getattr"),
    ({"a": np.ones(2)}, "numpy"),
    (collections.Counter("ab"), "collections.Counter"),
    ({1, 2}, r"EMPTY_SET|__builtin__\.set"),
  ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_is_no_tensor_is_named_and_not_called(tmp_path, monkeypatch, obj, name, protocol):
  monkeypatch.chdir(tmp_path)
  data = pickle.dumps({"state_dict": obj}, protocol)
  with pytest.raises(UserError, match=name) as error:
    read_torch_file(archive_of(data, tmp_path / "x.pt"))
  assert "save model.state_dict()" in str(error.value)
  assert not (tmp_path / "hacked").exists()


def test_a_whole_module_is_named(save):
  with pytest.raises(
    UserError, match=r"it names `torch\.nn\.modules\.container\.Sequential`\); save model\.state_dict"
  ):
    read_torch_file(save(small_network()))
  with pytest.raises(UserError, match="_rebuild_sparse_tensor"):
    read_torch_file(save({"a": torch.ones(2).to_sparse()}))


@pytest.mark.parametrize("obj", [[torch.ones(2)], {}, {"epoch": 3}, 3])
def test_without_named_tensors(save, obj):
  with pytest.raises(UserError, match="holds no named tensors"):
    read_torch_file(save(obj))


STORAGE = b"((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
NESTED = b"\x80\x02" + b")" + b"2\x86" * 60  # a pair of a pair of ...: as a tree it has 2^60 leaves


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE + b"K\x03K\x02\x85K\x01\x85tRs.", "reaches past its storage"),
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE + b"K\x00K\x05\x85K\x00\x85tRs.", "reaches past its storage"),
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE + b"K\x00J\xff\xff\xff\xff\x85K\x01\x85tRs.", "a size is none"),
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE + b"K\x00K\x02\x85)tRs.", "no possible shape"),
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE.replace(b"K\x04", b"K\x05") + b"K\x00K\x02\x85K\x01\x85tRs.", "the size"),
    (b"\x80\x02}U\x01a" + REBUILD + STORAGE.replace(b"U\x010", b"U\x011") + b"K\x00K\x02\x85K\x01\x85tRs.", "missing"),
    # A dictionary within itself; the same dictionary twice in each of many; a key whose hash takes 2^60 steps.
    (b"\x80\x02}q\x00U\x01ah\x00s.", "nested without end"),
    (b"\x80\x02}q\x000" + b"}(U\x01ah\x00U\x01bh\x00uq\x000" * 30 + b"h\x00.", "nested without end"),
    (b"\x80\x02" + b"}U\x01a" * 40 + b"}" + b"s" * 40 + b".", "nested without end"),
    (b"\x80\x02}" + NESTED[2:] + b"K\x01s.", "neither a string nor a number"),
    (b"\x80\x02c__torch__.A\nB\n]" + NESTED[2:] + b"K\x01\x86a\x85R.", "it is damaged"),
    (b"\x80\x02ccollections\nOrderedDict\n]" + NESTED[2:] + b"K\x01\x86a\x85R.", "a key is no string"),
    (b"\x80\x02U\x01aQ.", "a storage is none"),
    (b"\x80\x02K\x01K\x02\x81.", "it is damaged"),
    (b"\x80\x02t.", "it is damaged"),
    (b"\x80\x02cposix\n\\system\n.", "it is damaged"),
    (b"\x80\x02\x8b\xff\xff\xff\x7f.", "it is damaged"),
    (b"\x80\x02.", "it is damaged"),
    (b"", "it is damaged"),
  ],
)
def test_hostile_pickles_end_in_one_line(tmp_path, data, reason):
  with pytest.raises(UserError, match=reason) as error:
    read_torch_file(archive_of(data, tmp_path / "x.pt"))
  assert len(str(error.value)) < 300 + len(str(tmp_path))
  assert "\n" not in str(error.value)


def test_a_changed_value_in_an_archive_is_noticed(tmp_path):
  path = tmp_path / "x.pt"
  torch.save({"a": torch.tensor([1.5, 2.5])}, path)
  values = np.float32([1.5, 2.5]).tobytes()
  assert path.read_bytes().count(values) == 1
  path.write_bytes(path.read_bytes().replace(values, np.float32([1.5, 2.25]).tobytes()))
  with pytest.raises(UserError, match="wrong checksum"):
    read_torch_file(path)


def test_compressed_archives_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02}.")
  with pytest.raises(UserError, match="are compressed"):
    read_torch_file(tmp_path / "x.pt")


@pytest.mark.parametrize("form", ["zip", "legacy", "python 2"])
def test_damaged_files_end_in_one_line(tmp_path, form):
  path = tmp_path / "x.pt"
  if form == "python 2":
    path.write_bytes(python_2_file())
  else:
    torch.save({"state_dict": {"a": torch.ones(3, 4), "b": torch.ones(2).bool()}, "epoch": 3}, path, **FORMS[form])
  whole = path.read_bytes()
  generator = np.random.default_rng(0)
  variants = [whole[:size] for size in range(0, len(whole), 1 + len(whole) // 100)]
  for position in range(0, len(whole), 1 + len(whole) // 400):
    damaged = bytearray(whole)
    damaged[position] ^= 1 << generator.integers(8)
    variants.append(bytes(damaged))
  errors = 0
  tracemalloc.start()
  for variant in variants:
    path.write_bytes(variant)
    try:
      read_torch_file(path)
    except UserError as error:
      errors += 1
      assert "\n" not in str(error)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert errors > len(variants) // 3
  assert peak < 20e6


def test_what_is_no_torch_file(tmp_path):
  for data in (b"", b"text", pickle.dumps({"a": 1}), b"PK\x03\x04"):
    (tmp_path / "x").write_bytes(data)
    assert not is_torch_file(data)
    with pytest.raises(UserError, match="is no PyTorch file"):
      read_torch_file(tmp_path / "x")
  with pytest.raises(UserError, match="cannot be read: No such file"):
    read_torch_file(tmp_path / "missing")
  file = io.BytesIO()
  np.savez(file, a=np.ones(2))
  assert not is_torch_file(file.getvalue())
