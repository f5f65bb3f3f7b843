"""PyTorch files: state dicts in every form, TorchScript, hostile and damaged files."""

import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import read_arrays

torch = pytest.importorskip("torch", reason="PyTorch writes the files")


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
  """Writes an object and returns the path."""

  def write(obj):
    torch.save(obj, tmp_path / "x.pt", _use_new_zipfile_serialization=request.param)
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


@pytest.mark.parametrize("key", ["", "state_dict", "model_state_dict", "model"])
def test_state_dict_with_optimizer_state_and_data_parallel(save, key):
  network = small_network()
  state = torch.nn.DataParallel(network).state_dict() if key else network.state_dict()
  optimizer = torch.optim.Adam(network.parameters())
  network(torch.ones(1, 2, 2, 5, 5)).sum().backward()
  optimizer.step()
  path = save(
    {"epoch": 3, "best": 0.25, "arch": "x", key: state, "optimizer": optimizer.state_dict()} if key else state
  )
  assert_equals_state(read_arrays(path).arrays, network.state_dict())


def test_only_a_common_prefix_is_dropped(save):
  state = {"module.a": torch.ones(1), "b": torch.ones(2)}
  assert set(read_arrays(save(state)).arrays) == {"module.a", "b"}


def test_dtypes_views_parameters_and_other_values(save):
  names = ["float64", "float32", "float16", "int64", "uint8", "bool"]
  state = {name: torch.tensor([0, 1, 3, 5]).to(getattr(torch, name)) for name in names}
  base = torch.arange(24.0).reshape(2, 3, 4)
  state |= {"base": base, "transposed": base.permute(2, 0, 1), "scalar": base[1, 2, 3], "none": torch.zeros(0, 3)}
  others = {"parameter": torch.nn.Parameter(torch.ones(2)), "bfloat16": torch.tensor([1.5, -2], dtype=torch.bfloat16)}
  found = read_arrays(save(state | others | {"n": 3, "s": "text", "nested": {"a": torch.ones(1)}})).arrays
  np.testing.assert_array_equal(found.pop("bfloat16"), np.float32([1.5, -2]))
  np.testing.assert_array_equal(found.pop("parameter"), [1, 1])
  np.testing.assert_array_equal(found.pop("nested.a"), [1])
  assert_equals_state(found, state)


class Scripted(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.units = torch.nn.ModuleList([small_network(), small_network()])
    self.sizes = [1, 2]

  def forward(self, x):
    for unit in self.units:
      x = unit(x) + self.sizes[0]
    return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_read_without_pytorch(tmp_path, monkeypatch):
  network = Scripted().eval()
  network.register_buffer("float16s", torch.arange(24.0).half().reshape(2, 3, 4).permute(2, 0, 1))
  network.register_buffer("bfloat16s", torch.tensor([1.5, -2], dtype=torch.bfloat16))
  torch.jit.script(network).save(str(tmp_path / "x.pt"))
  torch.jit.freeze(torch.jit.script(network)).save(str(tmp_path / "frozen.pt"))
  state = network.state_dict() | {"bfloat16s": network.bfloat16s.float()}
  with monkeypatch.context() as patch:
    patch.setitem(sys.modules, "torch", None)
    found = read_arrays(tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"frozen\.pt: the tensors of this TorchScript archive have no names"):
      read_arrays(tmp_path / "frozen.pt")
  assert found.format == "torchscript"
  assert_equals_state(found.arrays, state)


@pytest.mark.parametrize(
  ("tensor", "reason"),
  [
    (lambda rebuild, storage: rebuild(storage, 1, (4,), (1,)), "larger than its values"),
    (lambda rebuild, storage: rebuild(storage, 0, (2, 2), (1, 3)), "larger than its values"),
    (lambda rebuild, storage: rebuild(storage, -1, (1,), (1,)), "larger than its values"),
    (lambda rebuild, storage: rebuild(storage, 0, (1 << 40,), (0,)), "larger than its values"),
    (lambda rebuild, storage: Attack(os.mkdir, "hacked"), "posix.mkdir"),
  ],
)
def test_hostile_torchscript_is_refused(tmp_path, monkeypatch, tensor, reason):
  monkeypatch.chdir(tmp_path)
  rebuild = lambda *arguments: Attack(torch._utils._rebuild_tensor_v2, *arguments, False, {})

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      return ("storage", torch.FloatStorage, "0", "cpu", 4) if obj == "values" else None

  with zipfile.ZipFile("x.pt", "w") as archive, archive.open("x/data.pkl", "w") as file:
    Pickler(file, 2).dump({"weight": tensor(rebuild, "values")})
  with zipfile.ZipFile("x.pt", "a") as archive:
    archive.writestr("x/data/0", np.ones(4, np.float32).tobytes())
    archive.writestr("x/constants.pkl", pickle.dumps((), 2))
  with pytest.raises(UserError, match=reason):
    read_arrays("x.pt")
  assert not (tmp_path / "hacked").exists()


def chain(count):
  """A pickle of modules, each of which has the next one twice: 2^count paths."""
  module = b"c__torch__\nM\n)\x81"
  parts = [module, b"}bq\0"]
  for index in range(1, count):
    child = b"h" + bytes([index - 1])
    parts += [module, b"}X\x01\0\0\0a", child, b"sX\x01\0\0\0b", child, b"sbq" + bytes([index])]
  return b"\x80\x02" + b"".join(parts) + b"."


@pytest.mark.parametrize(
  ("pickled", "data", "reason"),
  [
    (chain(40), b"", "more than 100000 modules"),
    (b"\x80\x02Nr\xff\xff\xff\x7f.", b"", "object number 2147483647 in 9 bytes"),
    (b"\x80\x02N.", bytes(1 << 20), r"bytes that unpack to 1,048,\d+ are no weights"),
  ],
)
def test_small_archives_that_would_need_much_time_or_memory_are_refused(tmp_path, monkeypatch, pickled, data, reason):
  monkeypatch.setattr("vidgen_jax.scores.weights.arrays._ALWAYS_READ", 1 << 19)
  with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in {"constants.pkl": pickle.dumps((), 2), "data.pkl": pickled, "data/0": data}.items():
      archive.writestr(f"x/{name}", content)
  with pytest.raises(UserError, match=reason):
    read_arrays(tmp_path / "x.pt")


class Attack:
  def __init__(self, function, *arguments):
    self.reduced = (function, arguments)

  def __reduce__(self):
    return self.reduced


@pytest.mark.parametrize(
  ("obj", "name"),
  [(Attack(os.mkdir, "hacked"), "posix.mkdir"), (Attack(eval, "1"), "eval"), ({"a": np.ones(2)}, "numpy")],
)
def test_python_objects_are_named_and_not_loaded(tmp_path, monkeypatch, obj, name):
  monkeypatch.chdir(tmp_path)
  with zipfile.ZipFile("x.pt", "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": obj}, 2))
    archive.writestr("archive/version", "3\n")
  with pytest.raises(UserError, match=rf"{name}.* could run code; .* save model.state_dict\(\) instead$") as error:
    read_arrays("x.pt")
  assert "\n" not in str(error.value)
  assert not (tmp_path / "hacked").exists()


def test_a_whole_module_is_named(save):
  with pytest.raises(UserError, match=r"more than tensors \(torch\.nn\.modules\.container\.Sequential\)"):
    read_arrays(save(small_network()))


def test_sparse_tensors_are_refused(save):
  with pytest.raises(UserError, match=r"cannot be read \(.*[Ss]parse.*\)"):
    read_arrays(save({"a": torch.ones(2).to_sparse()}))


@pytest.mark.parametrize("obj", [[torch.ones(2)], {}, {"epoch": 3}, 3])
def test_without_named_tensors(save, obj):
  with pytest.raises(UserError, match="holds no named tensors"):
    read_arrays(save(obj))


def test_a_dictionary_that_contains_itself_is_refused(save):
  tree = {"a": torch.ones(1)}
  tree["self"] = tree
  with pytest.raises(UserError, match=r"x\.pt cannot be read \(maximum recursion depth exceeded"):
    read_arrays(save(tree))


def test_a_changed_value_in_an_archive_is_detected(tmp_path):
  path = tmp_path / "x.pt"
  torch.save({"a": torch.tensor([1.5, 2.5])}, path)
  values = np.float32([1.5, 2.5]).tobytes()
  assert path.read_bytes().count(values) == 1
  path.write_bytes(path.read_bytes().replace(values, np.float32([1.5, 2.25]).tobytes()))
  with pytest.raises(UserError, match="wrong checksum"):
    read_arrays(path)


def test_damaged_files_end_in_one_line(save):
  path = save({"state_dict": {"a": torch.ones(3, 4), "b": torch.ones(2).bool()}, "epoch": 3})
  whole = path.read_bytes()
  variants = [whole[:size] for size in range(0, len(whole), 1 + len(whole) // 30)]
  for position in range(0, len(whole), 1 + len(whole) // 60):
    damaged = bytearray(whole)
    damaged[position] ^= 4
    variants.append(bytes(damaged))
  errors = 0
  for variant in variants:
    path.write_bytes(variant)
    try:
      read_arrays(path)
    except UserError as error:
      errors += 1
      assert "\n" not in str(error)
  assert errors > len(variants) // 3


def test_the_extra_is_named_where_pytorch_is_missing(save, monkeypatch):
  path = save({"a": torch.ones(2)})
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(UserError, match=r"x.pt needs torch: pip install 'vidgen-jax\[convert\]'$"):
    read_arrays(path)
