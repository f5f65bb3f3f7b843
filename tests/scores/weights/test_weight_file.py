"""Our weight files: round trip, hash by hand, and refused files."""

import hashlib
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

GENERATOR = np.random.default_rng(0)
VARIABLES = {
  "params": {
    "unit": {"conv": {"kernel": GENERATOR.normal(size=(2, 3, 4)).astype(np.float32)}},
    "fc": {"bias": jnp.arange(4.0), "kernel": np.arange(6.0).reshape(2, 3).T.astype(np.float32)},
  },
  "batch_stats": {"unit": {"norm": {"mean": np.float32([1, 2]), "count": np.array(7, np.int32)}}},
  "constants": {"half": np.array([1.5, -2], jnp.bfloat16)},
}
SETTINGS = {"num_classes": 3, "stem": "hara", "width": 0.5}


def weights(**changes):
  fields = {
    "network": "r3d18",
    "settings": SETTINGS,
    "variables": VARIABLES,
    "preprocessing": {"size": 112, "mean": [0.4, 0.5, 0.6], "crop": None},
    "source": "resnet.pth",
    "source_hash": "ab" * 32,
    "class_names": ("walk", "läuft", "jump"),
    "details": {"accuracy": 0.75},
  }
  return WeightFile(**(fields | changes))


@pytest.fixture
def written(tmp_path):
  write_weight_file(tmp_path / "new" / "r.safetensors", weights())
  return tmp_path / "new" / "r.safetensors"


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(written):
  found = read_weight_file(written)
  for name in ("network", "settings", "preprocessing", "source", "source_hash", "class_names", "details", "hash"):
    assert getattr(found, name) == getattr(weights(), name)
  flat, expected = traverse_util.flatten_dict(found.variables), traverse_util.flatten_dict(VARIABLES)
  assert set(flat) == set(expected)
  for path, array in expected.items():
    assert (flat[path].dtype, flat[path].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(flat[path], array)


def test_files(written):
  assert set(contents(written.parent)) == {"r.json", "r.safetensors"}
  description = json.loads(written.with_suffix(".json").read_text())
  assert description == {
    "format_version": 1,
    "network": "r3d18",
    "settings": SETTINGS,
    "source": "resnet.pth",
    "source_hash": "ab" * 32,
    "preprocessing": {"size": 112, "mean": [0.4, 0.5, 0.6], "crop": None},
    "class_names": ["walk", "läuft", "jump"],
    "details": {"accuracy": 0.75},
    "hash": weights().hash,
    "layers": 6,
    # 24 of the kernel, 4 + 6 of fc, 2 + 1 of the statistics, 2 constants.
    "values": 39,
  }
  names = {f"params/{n}" for n in ("unit/conv/kernel", "fc/bias", "fc/kernel")} | {"constants/half"}
  assert set(weights().tensors) == names | {"batch_stats/unit/norm/mean", "batch_stats/unit/norm/count"}


def test_hash_by_hand():
  small = weights(variables={"params": {"b": np.float32([1, 2]), "a": np.array(7, np.int32)}})
  # In the order of the names; 7 is 07 00 00 00, 1.0 is 00 00 80 3f and 2.0 is 00 00 00 40.
  text = b"params/a int32 []\n\x07\0\0\0" + b"params/b float32 [2]\n\0\0\x80\x3f\0\0\0\x40"
  assert small.hash == hashlib.sha256(text).hexdigest()
  assert small.short_hash == small.hash[:12]
  assert small.num_values == 3


def test_hash_depends_on_name_dtype_shape_and_values():
  base = np.float32([[1, 2], [3, 4]])
  variants = [
    {"params": {"a": base}},
    {"params": {"b": base}},
    {"batch_stats": {"a": base}},
    {"params": {"a": base.T}},
    {"params": {"a": base.reshape(4)}},
    {"params": {"a": base.view(np.int32)}},
    {"params": {"a": base + 1}},
    {"params": {"a": base, "b": base}},
  ]
  assert len({weights(variables=variables).hash for variables in variants}) == len(variants)
  # The memory layout does not matter.
  assert weights(variables={"params": {"a": np.asfortranarray(base)}}).hash == weights(variables=variants[0]).hash


def test_one_changed_bit_is_detected(written):
  data = bytearray(written.read_bytes())
  data[-1] ^= 1
  written.write_bytes(data)
  with pytest.raises(UserError, match=r"r\.json do not belong together, or one is damaged; make them again"):
    read_weight_file(written)


def test_the_description_of_other_weights_is_detected(written):
  other = weights(variables={"params": {"a": np.ones(2, np.float32)}})
  write_weight_file(written.with_name("s.safetensors"), other)
  written.with_name("s.json").replace(written.with_suffix(".json"))
  with pytest.raises(UserError, match="do not belong together"):
    read_weight_file(written)


def test_missing_files(written):
  with pytest.raises(
    UserError, match=r"x\.safetensors does not exist; `vidgen weights list` .*`vidgen classify` trains"
  ):
    read_weight_file(written.with_name("x.safetensors"))
  with pytest.raises(UserError, match=r"x\.pt does not exist; `vidgen weights fetch pwc_net --out=.*x\.safetensors`"):
    read_weight_file(written.with_name("x.pt"), network="pwc_net")
  written.with_suffix(".json").unlink()
  with pytest.raises(UserError, match=r"r\.json does not exist; it describes the weights .*copy it too"):
    read_weight_file(written)


def test_files_of_other_programs(written):
  written.write_bytes(safetensors.numpy.save({"a": np.ones(2)}))
  with pytest.raises(
    UserError, match=r"r\.safetensors was not imported; run `vidgen .* --network=NETWORK .*r_imported\.safetensors`; "
  ):
    read_weight_file(written)
  written.write_bytes(b"text")
  with pytest.raises(UserError, match=r"is not a readable safetensors file .*; download or make it again"):
    read_weight_file(written)
  with pytest.raises(UserError, match=r"must end in \.safetensors"):
    write_weight_file("weights.pt", weights())


def test_published_files_are_recognised(tmp_path):
  arrays = {"conv1a/W": np.ones((1, 3, 3, 3, 3)), "conv5b/W": np.ones((1, 1, 3, 3, 3)), "fc6/W": np.ones((1, 1))}
  np.savez(tmp_path / "c.npz", **arrays)
  (tmp_path / "c.npz").rename(tmp_path / "c.pt")
  command = f"`vidgen weights import --network=c3d --from={tmp_path}/c.pt --out={tmp_path}/c.safetensors`"
  with pytest.raises(UserError, match=rf"c\.pt holds c3d of Chainer's C3D; run {re.escape(command)}$"):
    read_weight_file(tmp_path / "c.pt")
  (tmp_path / "text.pth").write_text("text")
  with pytest.raises(UserError, match=r"text\.pth was not imported; run .* --network=NETWORK .*`vidgen weights list`"):
    read_weight_file(tmp_path / "text.pth")
  # A checkpoint by its prefix.
  for name in ("m.index", "m.data-00000-of-00001"):
    (tmp_path / name).write_bytes(b"damaged")
  with pytest.raises(
    UserError, match=r"/m holds a TensorFlow checkpoint; run .* --network=i3d --from=.*/m --out=m\.safetensors`"
  ):
    read_weight_file(tmp_path / "m")


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({"format_version": 2}, "has format 2, which a later version of this package wrote; update"),
    ({"format_version": "1"}, "is not a description of weights"),
    ({"format_version": None}, "is not a description of weights"),
    ({"hash": None}, "is not a description of weights"),
    ({"settings": []}, "settings is missing or has the wrong type"),
    ({"network": None}, "network is missing or has the wrong type"),
    ({"class_names": [1]}, "class_names must be strings"),
  ],
)
def test_bad_descriptions_are_named(written, changes, reason):
  path = written.with_suffix(".json")
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  with pytest.raises(UserError, match=reason) as error:
    read_weight_file(written)
  assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, b"\xff\xfe"])
def test_damaged_descriptions_are_named(written, text):
  path = written.with_suffix(".json")
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=r"r\.json (cannot be read|is not a description)"):
    read_weight_file(written)


def test_cut_files_are_named(written):
  whole = written.read_bytes()
  for size in range(0, len(whole), 13):
    written.write_bytes(whole[:size])
    with pytest.raises(UserError):
      read_weight_file(written)


def test_nothing_is_left_behind_by_a_failure(written, monkeypatch):
  before = contents(written.parent)
  with pytest.raises(TypeError):
    write_weight_file(written, weights(details={"x": np.ones(2)}))
  with pytest.raises(ValueError, match="JSON compliant"):
    write_weight_file(written, weights(details={"x": float("nan")}))
  with pytest.raises(UserError, match=r"must end in \.safetensors"):
    write_weight_file(written.with_suffix(".pt"), weights())
  with pytest.raises(UserError, match=r"cannot be written: .*; free space or choose another folder"):
    write_weight_file(written / "below" / "a.safetensors", weights())
  path_type = type(written)

  def renamed(path, target):
    raise OSError(30, "Read-only file system")

  with monkeypatch.context() as patch, pytest.raises(UserError, match="Read-only file system"):
    patch.setattr(path_type, "replace", renamed)
    write_weight_file(written, weights(network="tsn"))
  write_bytes = path_type.write_bytes

  def full(path, data):
    write_bytes(path, data[:5])
    if ".json" in path.name:
      raise OSError(28, "No space left on device")

  monkeypatch.setattr(path_type, "write_bytes", full)
  with pytest.raises(UserError, match="No space left on device"):
    write_weight_file(written, weights(network="tsn"))
  assert contents(written.parent) == before


@pytest.mark.parametrize(
  ("variables", "message"),
  [
    ({"params": {"conv": {"kernel": np.array([1.0, np.nan], np.float32)}}}, "params/conv/kernel holds values"),
    ({"batch_stats": {"norm": {"var": np.array([1.0, -0.1], np.float32)}}}, "batch_stats/norm/var is a variance"),
  ],
)
def test_impossible_values_are_neither_written_nor_read(variables, message, tmp_path, monkeypatch):
  path = tmp_path / "w.safetensors"
  with pytest.raises(UserError, match=message):
    write_weight_file(path, weights(variables=variables))
  with monkeypatch.context() as patch:
    patch.setattr("vidgen_jax.scores.weights.weight_file._check_values", lambda path, weights: None)
    write_weight_file(path, weights(variables=variables))
  with pytest.raises(UserError, match=message):
    read_weight_file(path)
