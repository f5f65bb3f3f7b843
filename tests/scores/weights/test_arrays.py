"""Formats are told by content; hashes; what is no weights."""

import hashlib
import io
import pickle
import subprocess
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.scores.weights import bundles
from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import read_arrays

ARRAYS = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.array(3.5)}


def assert_read(path, kind):
  found = read_arrays(path)
  assert found.format == kind
  assert set(found.arrays) == set(ARRAYS)
  for name, array in ARRAYS.items():
    assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found.arrays[name], array)
  return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_under_any_name(tmp_path, save):
  path = tmp_path / "weights.pt"
  with path.open("wb") as file:
    save(file, **ARRAYS)
  found = assert_read(path, "chainer npz")
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert (found.path, found.git_blob_sha1) == (path, "")


def test_fortran_order(tmp_path):
  array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
  np.savez(tmp_path / "x.npz", a=array)
  np.testing.assert_array_equal(read_arrays(tmp_path / "x.npz").arrays["a"], array)


def test_safetensors_under_any_name(tmp_path):
  path = tmp_path / "weights"
  path.write_bytes(safetensors.numpy.save(ARRAYS, metadata={"from": "elsewhere"}))
  assert_read(path, "safetensors")
  half = {"a": np.array([1.5, 2], jnp.bfloat16), "b": np.array([True, False])}
  path.write_bytes(safetensors.numpy.save(half))
  found = read_arrays(path).arrays
  assert {name: array.dtype.name for name, array in found.items()} == {"a": "bfloat16", "b": "bool"}
  np.testing.assert_array_equal(found["a"].astype(np.float32), [1.5, 2])


def test_torch_under_any_name(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch writes the file")
  state = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
  for is_zip in (True, False):
    torch.save(state, tmp_path / "x.npz", _use_new_zipfile_serialization=is_zip)
    assert_read(tmp_path / "x.npz", "pytorch")


@pytest.mark.parametrize("name", ["m", "m.index", "m.data-00000-of-00001", "."])
def test_checkpoint_by_any_of_its_names(tmp_path, name):
  bundles.write(tmp_path / "m", ARRAYS)
  found = assert_read(tmp_path / name, "tf checkpoint")
  index, data = (tmp_path / "m.index").read_bytes(), (tmp_path / "m.data-00000-of-00001").read_bytes()
  assert found.sha256 == hashlib.sha256(index + data).hexdigest()
  assert found.path == tmp_path / "m.index"


def test_blob_hash_is_that_of_git(tmp_path):
  bundles.write(tmp_path / "m", ARRAYS)
  data = tmp_path / "m.data-00000-of-00001"
  found = read_arrays(tmp_path / "m").git_blob_sha1
  try:
    expected = subprocess.run(["git", "hash-object", "--no-filters", data], check=True, capture_output=True, text=True)
  except FileNotFoundError:
    pytest.skip("git is not installed")
  assert found == expected.stdout.strip()
  bundles.write(tmp_path / "n", ARRAYS, shards=2)
  assert read_arrays(tmp_path / "n").git_blob_sha1 == ""


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "is of no known kind; give a TensorFlow checkpoint"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "is of no known kind; give"),
    (pickle.dumps(ARRAYS), "a pickle of arrays is not read because it could run code; give"),
    (b"PK\x03\x04" + bytes(60), "is of no known kind"),
    (safetensors.numpy.save(ARRAYS)[:-1], "no readable safetensors file"),
  ],
)
def test_other_files_are_refused(tmp_path, data, reason):
  (tmp_path / "x").write_bytes(data)
  with pytest.raises(UserError, match=reason) as error:
    read_arrays(tmp_path / "x")
  assert str(tmp_path / "x") in str(error.value)
  assert "\n" not in str(error.value)


def test_missing_files_and_empty_folders(tmp_path):
  with pytest.raises(UserError, match="missing is not there; give a TensorFlow checkpoint"):
    read_arrays(tmp_path / "missing")
  with pytest.raises(UserError, match="holds no checkpoint"):
    read_arrays(tmp_path)


def test_a_lone_index_under_another_name(tmp_path):
  bundles.write(tmp_path / "m", ARRAYS)
  (tmp_path / "m.index").rename(tmp_path / "x")
  with pytest.raises(UserError, match="x is a lone index"):
    read_arrays(tmp_path / "x")


def npy(header, data=b""):
  """An entry with this header."""
  text = (header + "\n").encode()
  return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
  ("entry", "reason"),
  [
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"), "size that its shape needs"),
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(7)), "size that its shape needs"),
    (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(1)), "holds Python objects"),
    (npy("{'descr': '<f4'}"), "cannot be read"),
    (b"\x93NUMPY\x09\x00", "version"),
    (b"x", "cannot be read"),
  ],
)
def test_bad_entries_of_npz(tmp_path, entry, reason):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("a.npy", entry)
  (tmp_path / "x.npz").write_bytes(file.getvalue())
  with pytest.raises(UserError, match=reason):
    read_arrays(tmp_path / "x.npz")
