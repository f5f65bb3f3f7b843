"""Formats are detected by content; hashes; files that hold no weights."""

import hashlib
import io
import pickle
import subprocess
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.scores.weights.checkpoints import write_checkpoint
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
def test_npz_with_any_name(tmp_path, save):
  path = tmp_path / "weights.pt"
  with path.open("wb") as file:
    save(file, **ARRAYS)
  found = assert_read(path, "chainer npz")
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert found.path == path


def test_safetensors_with_any_name(tmp_path):
  path = tmp_path / "weights"
  path.write_bytes(safetensors.numpy.save(ARRAYS, metadata={"from": "elsewhere"}))
  assert_read(path, "safetensors")
  half = {"a": np.array([1.5, 2], jnp.bfloat16), "b": np.array([True, False])}
  path.write_bytes(safetensors.numpy.save(half))
  found = read_arrays(path).arrays
  assert {name: array.dtype.name for name, array in found.items()} == {"a": "bfloat16", "b": "bool"}
  np.testing.assert_array_equal(found["a"].astype(np.float32), [1.5, 2])


def test_torch_with_any_name(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch writes the file")
  state = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
  for is_zip in (True, False):
    torch.save(state, tmp_path / "x.npz", _use_new_zipfile_serialization=is_zip)
    assert_read(tmp_path / "x.npz", "pytorch")


def test_checkpoint_by_any_of_its_names(tmp_path):
  write_checkpoint(tmp_path / "m", ARRAYS)
  index, data = (tmp_path / "m.index").read_bytes(), (tmp_path / "m.data-00000-of-00001").read_bytes()
  for name in ("m", "m.index", "m.data-00000-of-00001", "."):
    found = assert_read(tmp_path / name, "tf checkpoint")
    assert found.sha256 == hashlib.sha256(index + data).hexdigest()
    assert found.path == tmp_path / "m.index"


def test_blob_hash_is_gits_hash(tmp_path):
  write_checkpoint(tmp_path / "m", ARRAYS)
  data = tmp_path / "m.data-00000-of-00001"
  found = read_arrays(tmp_path / "m").git_blob_sha1
  try:
    expected = subprocess.run(["git", "hash-object", "--no-filters", data], check=True, capture_output=True, text=True)
  except FileNotFoundError:
    pytest.skip("git is not installed")
  assert found == expected.stdout.strip()
  write_checkpoint(tmp_path / "n", ARRAYS, num_shards=2)
  assert read_arrays(tmp_path / "n").git_blob_sha1 == ""


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "has an unknown format; give a TensorFlow checkpoint"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "has an unknown format; give"),
    (pickle.dumps(ARRAYS), "a plain pickle is not read because it could run code; give"),
    (b"PK\x03\x04" + bytes(60), "cannot be read"),
    (safetensors.numpy.save(ARRAYS)[:-1], "is not a readable safetensors file"),
  ],
)
def test_other_files_are_refused(tmp_path, data, reason):
  (tmp_path / "x").write_bytes(data)
  with pytest.raises(UserError, match=reason) as error:
    read_arrays(tmp_path / "x")
  assert str(tmp_path / "x") in str(error.value)
  assert "\n" not in str(error.value)


def test_missing_files_and_empty_folders(tmp_path):
  with pytest.raises(UserError, match="missing does not exist; give a TensorFlow checkpoint"):
    read_arrays(tmp_path / "missing")
  with pytest.raises(UserError, match="is a folder without a checkpoint"):
    read_arrays(tmp_path)


def npy(header, data=b""):
  """A .npy file with this header."""
  text = (header + "\n").encode()
  return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
  ("entry", "reason"),
  [
    (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(7)), "expected 8 bytes got 7"),
    (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(1)), "Object arrays cannot be loaded"),
    (npy("{'descr': '<f4'}"), "cannot be read"),
    (b"\x93NUMPY\x09\x00", "version"),
  ],
)
def test_bad_members_of_npz(tmp_path, entry, reason):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("a.npy", entry)
  (tmp_path / "x.npz").write_bytes(file.getvalue())
  with pytest.raises(UserError, match=reason):
    read_arrays(tmp_path / "x.npz")
