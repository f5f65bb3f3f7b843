"""The records of a split, read at random: of a clip only the frames that are asked for are taken out of its record."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vidgen_jax.data.records import Clip
from vidgen_jax.formats.tfrecord import BytesFeature, find_features, parse_feature

_FEATURES = {field.name for field in dataclasses.fields(Clip)}

_LARGE_BLOCK = 24 << 20
"""Bytes."""


class StoredClips(Sequence[Mapping[str, Any]]):
  """The clips of one split of a built data set.

  An element is a dict of what `records.Clip` names. 'frames' is a sequence that copies a frame when it is indexed.

  Args:
    builder: of the data set.
    split: one of its splits.
  """

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    self._records = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return parse_clip(self.read(index))

  def read(self, index: int) -> bytes:
    """The record as it is stored: a `tf.train.Example`."""
    _keep_freed_memory()
    return self._records[index]


@functools.cache
def _keep_freed_memory() -> None:
  """Makes glibc reuse the memory of records, which are of megabytes, instead of asking the kernel for it each time.

  Its limit for that is what the largest freed block was, up to 32 MiB; a record of 1.3 MB was read in 0.3 ms, not 2.
  """
  np.empty(_LARGE_BLOCK, np.uint8)  # Freed at once, and never touched.


def parse_clip(record: bytes) -> dict[str, Any]:
  """Takes a record apart.

  Args:
    record: as `StoredClips.read` gives it.

  Returns:
    'frames', a `BytesFeature` of JPEG or PNG bytes; 'label', 'height' and 'width' as int, 'fps' as float, 'source' as
    bytes.

  Raises:
    ValueError: if it is no record of a clip.
  """
  features = find_features(memoryview(record))
  if missing := _FEATURES - set(features):
    raise ValueError(f"a record has no {', '.join(sorted(missing))}")
  clip: dict[str, Any] = {"frames": BytesFeature(features.pop("frames"))}
  for name, message in features.items():
    (value,) = parse_feature(message)
    clip[name] = value if isinstance(value, bytes) else value.item()
  return clip
