"""Writes TensorFlow checkpoints with TensorFlow."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest


def write_checkpoint(prefix: Path, arrays: Mapping[str, np.ndarray], *, num_shards: int = 1) -> None:
  """Writes PREFIX.index and PREFIX.data-...; skips the test where TensorFlow is not installed."""
  tf = pytest.importorskip("tensorflow", reason="TensorFlow writes the checkpoint")
  prefix.parent.mkdir(parents=True, exist_ok=True)
  names = list(arrays)
  parts = [str(prefix) if num_shards == 1 else f"{prefix}_part{i}" for i in range(num_shards)]
  for i, part in enumerate(parts):
    chosen = names[i::num_shards]
    tensors = [tf.constant(arrays[name]) for name in chosen]
    tf.raw_ops.SaveV2(prefix=part, tensor_names=chosen, shape_and_slices=[""] * len(chosen), tensors=tensors)
  if num_shards > 1:
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False)
