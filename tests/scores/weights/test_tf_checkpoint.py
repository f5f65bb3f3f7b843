"""TensorFlow's checkpoints: written by hand, damaged in every way, and written by TensorFlow itself."""

import importlib.util
import os
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from tests.scores.weights import bundles
from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.leveldb_table import read_table
from vidgen_jax.scores.weights.tf_checkpoint import read_tf_checkpoint

GENERATOR = np.random.default_rng(0)
ARRAYS = {
  **{f"net/layer_{i}/weights": GENERATOR.normal(size=(3, i, 2)).astype(np.float32) for i in range(7)},
  "net/double": GENERATOR.normal(size=5),
  "net/half": GENERATOR.normal(size=4).astype(np.float16),
  "net/brain": np.array([1.5, -2, 0.1], dtype=jnp.bfloat16),
  "net/mask": np.array([True, False, True]),
  "net/octets": np.arange(300, dtype=np.uint8),
  "global_step": np.array(1234, dtype=np.int64),
  "large": GENERATOR.normal(size=(40, 40)).astype(np.float32),
}


def assert_same(found, expected):
  assert set(found) == set(expected)
  for name, array in expected.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found[name], array)


def test_a_table_of_many_blocks():
  entries = [(f"key{i:03d}".encode(), bytes([i]) * i) for i in range(100)]
  assert list(read_table(bundles.table(entries, per_block=7))) == entries
  assert list(read_table(bundles.table([]))) == []


def test_a_table_of_one_entry_by_hand():
  # Entry: 0 shared, 1 own, 1 value, "k", "v". Restarts: [0], number 1.
  contents = b"\x00\x01\x01kv" + b"\0\0\0\0" + b"\1\0\0\0"
  assert bundles.block([(b"k", b"v")]) == contents
  table = bundles.table([(b"k", b"v")])
  assert table[:13] == contents
  assert list(read_table(table)) == [(b"k", b"v")]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-{:05d}", "."])
def test_reads_what_was_written(tmp_path, shards, name):
  bundles.write(tmp_path / "model.ckpt", ARRAYS, shards=shards)
  (tmp_path / "checkpoint").write_text("a list of checkpoints")
  (tmp_path / "model.ckpt.meta").write_bytes(b"a graph")
  assert_same(read_tf_checkpoint(tmp_path / name.format(shards)), ARRAYS)


def test_string_tensors_are_skipped(tmp_path):
  graph = bundles.message((1, 0, 7), (2, 2, b""), (5, 0, 0), (6, 5, 0))
  bundles.write(tmp_path / "ckpt-1", {"a": np.ones(3, np.float32)}, extra={"_CHECKPOINTABLE_OBJECT_GRAPH": graph})
  assert set(read_tf_checkpoint(tmp_path / "ckpt-1")) == {"a"}


def entry_with(**changes):
  """An entry of [1, 2] in float32 with some fields changed."""
  data = np.array([1, 2], np.float32).tobytes()
  fields = {"dtype": 1, "size": 2, "shard": 0, "offset": 0, "length": 8, "crc": bundles.crc32c(data)} | changes
  shape = bundles.message((2, 2, bundles.message((1, 0, fields["size"]))))
  return bundles.message((1, 0, fields["dtype"]), (2, 2, shape), (3, 0, fields["shard"])) + bundles.message(
    (4, 0, fields["offset"]), (5, 0, fields["length"]), (6, 5, fields["crc"])
  )


@pytest.mark.parametrize(
  ("entry", "reason"),
  [
    (entry_with(dtype=20), "of type 20"),
    (entry_with(size=3), r"8 bytes, which do not fit the shape \[3\] of float32"),
    (entry_with(size=2**64 - 1), "unknown shape"),
    (entry_with(size=2**62), "do not fit the shape"),
    (entry_with(shard=1), "reaches past"),
    (entry_with(offset=1), "reaches past"),
    (entry_with(offset=2**63), "reaches past"),
    (entry_with(crc=7), "x has a wrong checksum"),
    (entry_with() + bundles.message((7, 2, b"")), "split into slices"),
    (entry_with()[:-2], "too short"),
    (b"\xff" * 20, "does not end"),
    (b"\x0b", "no message"),
  ],
)
def test_bad_entries_are_named(tmp_path, entry, reason):
  bundles.write(tmp_path / "m", {"x": np.array([1, 2], np.float32)}, extra={"x": entry})
  with pytest.raises(UserError, match=reason) as error:
    read_tf_checkpoint(tmp_path / "m")
  assert "m.index cannot be read" in str(error.value)


@pytest.mark.parametrize(
  ("header", "reason"),
  [
    (bundles.message((1, 0, 2)), "it has 2 data files, of which 1 are here"),
    (bundles.message((1, 0, 1), (2, 0, 1)), "big-endian"),
  ],
)
def test_bad_headers_are_named(tmp_path, header, reason):
  bundles.write(tmp_path / "m", {"x": np.ones(2, np.float32)}, extra={"": header})
  with pytest.raises(UserError, match=reason):
    read_tf_checkpoint(tmp_path / "m")


def test_compressed_blocks_are_named(tmp_path):
  bundles.write(tmp_path / "m", {"x": np.ones(2, np.float32)})
  (tmp_path / "m.index").write_bytes(bundles.table([(b"", b"")], compression=1))
  with pytest.raises(UserError, match="compressed \\(snappy\\)"):
    read_tf_checkpoint(tmp_path / "m.index")


def test_every_flipped_bit_is_an_error_or_harmless(tmp_path):
  bundles.write(tmp_path / "m", ARRAYS, shards=2)
  unharmed = 0
  for file in sorted(tmp_path.iterdir()):
    whole = file.read_bytes()
    for position in range(0, len(whole), 1 if file.suffix == ".index" else 97):
      damaged = bytearray(whole)
      damaged[position] ^= 1 << position % 8
      file.write_bytes(damaged)
      try:
        assert_same(read_tf_checkpoint(tmp_path / "m.index"), ARRAYS)
        unharmed += 1
      except UserError as error:
        assert "\n" not in str(error)
    file.write_bytes(whole)
  # Only the place of the metaindex and the footer's padding may change, and the metaindex block itself.
  assert unharmed < 70


@pytest.mark.parametrize("name", ["m.index", "m.data-00000-of-00001"])
def test_every_cut_is_an_error(tmp_path, name):
  bundles.write(tmp_path / "m", {"a": np.ones((3, 4), np.float32), "b": np.ones(2, np.float32)})
  whole = (tmp_path / name).read_bytes()
  for size in range(len(whole)):
    (tmp_path / name).write_bytes(whole[:size])
    with pytest.raises(UserError):
      read_tf_checkpoint(tmp_path / "m.index")


def test_missing_files_are_named(tmp_path):
  bundles.write(tmp_path / "m", {"a": np.ones(2, np.float32)})
  with pytest.raises(UserError, match="is no TensorFlow checkpoint"):
    read_tf_checkpoint(tmp_path / "other")
  (tmp_path / "n.index").write_bytes(b"")
  with pytest.raises(UserError, match=re.escape("holds several checkpoints (m.index, n.index)")):
    read_tf_checkpoint(tmp_path)
  with pytest.raises(UserError, match=r"n\.index needs n\.data-00000-of-00001 beside it"):
    read_tf_checkpoint(tmp_path / "n")
  (tmp_path / "m.index").unlink()
  with pytest.raises(UserError, match=r"needs m\.index beside it"):
    read_tf_checkpoint(tmp_path / "m.data-00000-of-00001")


# In a process of its own: libraries behave differently where TensorFlow has been loaded.
WRITE_WITH_TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf
arrays = dict(np.load(sys.argv[1]))
tensors = [*map(tf.constant, arrays.values()), tf.constant([1.5, -2], tf.bfloat16), tf.constant(["text", "more"])]
names = [*arrays, "brain", "words"]
tf.raw_ops.SaveV2(prefix=sys.argv[2], tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
"""


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow writes the checkpoint")
def test_reads_what_tensorflow_writes(tmp_path):
  arrays = {f"RGB/unit_{i:03d}/conv_3d/w": GENERATOR.normal(size=(3, i % 5, 2)).astype(np.float32) for i in range(200)}
  arrays |= {name: ARRAYS[name] for name in ("net/half", "net/mask", "large", "global_step")}
  np.savez(tmp_path / "arrays.npz", **arrays)
  command = [sys.executable, "-c", WRITE_WITH_TENSORFLOW, tmp_path / "arrays.npz", tmp_path / "x"]
  subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
  found = read_tf_checkpoint(tmp_path / "x")
  assert_same(found, arrays | {"brain": np.array([1.5, -2], jnp.bfloat16)})
