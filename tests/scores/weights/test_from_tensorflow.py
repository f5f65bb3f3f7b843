"""TensorFlow checkpoints: their tensors, their files, and damage."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tests.scores.weights.checkpoints import write_checkpoint
from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import read_arrays

ARRAYS = {
  "net/weights": np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32),
  "net/double": np.arange(5.0),
  "net/half": np.float16([0.5, 2]),
  "net/brain": np.array([1.5, -2, 0.1], jnp.bfloat16),
  "net/mask": np.array([True, False]),
  "global_step": np.array(1234, np.int64),
}


@pytest.mark.parametrize("num_shards", [1, 2])
def test_all_numeric_tensors_are_read(tmp_path, num_shards):
  strings = {"_CHECKPOINTABLE_OBJECT_GRAPH": np.array("graph")}
  write_checkpoint(tmp_path / "model.ckpt", ARRAYS | strings, num_shards=num_shards)
  (tmp_path / "checkpoint").write_text("a list of checkpoints")
  (tmp_path / "model.ckpt.meta").write_bytes(b"a graph")
  found = read_arrays(tmp_path).arrays
  assert set(found) == set(ARRAYS)
  for name, array in ARRAYS.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found[name], array)


def test_the_variables_of_a_saved_model(tmp_path):
  (tmp_path / "saved_model.pb").write_bytes(b"a graph")
  write_checkpoint(tmp_path / "variables" / "variables", ARRAYS)
  for path in (tmp_path, tmp_path / "variables"):
    assert set(read_arrays(path).arrays) == set(ARRAYS)


def test_missing_and_ambiguous_files_are_named(tmp_path):
  for name in ("a.index", "b.index", "c.data-00000-of-00001"):
    (tmp_path / name).write_bytes(b"")
  with pytest.raises(UserError, match=r"holds several checkpoints \(a.index, b.index\); name one of them"):
    read_arrays(tmp_path)
  with pytest.raises(UserError, match=r"a needs a.index and a.data-00000-of-00001 in one folder"):
    read_arrays(tmp_path / "a")
  with pytest.raises(UserError, match=r"c needs c.index and c.data-00000-of-00001 in one folder"):
    read_arrays(tmp_path / "c")


@pytest.mark.parametrize("name", ["m.index", "m.data-00000-of-00001"])
def test_damage_is_one_line(tmp_path, name):
  write_checkpoint(tmp_path / "m", ARRAYS)
  whole = (tmp_path / name).read_bytes()
  damaged = bytearray(whole)
  damaged[7] ^= 1
  for data in (bytes(damaged), whole[:-1], whole[: len(whole) // 2], b""):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=r"m cannot be read \(.*\); check the path, or download or save it") as error:
      read_arrays(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_the_extra_is_named_where_tensorflow_is_missing(tmp_path, monkeypatch):
  for name in ("m.index", "m.data-00000-of-00001"):
    (tmp_path / name).write_bytes(b"")
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(UserError, match=r"m needs tensorflow: pip install 'vidgen-jax\[convert\]'$"):
    read_arrays(tmp_path / "m")
