"""Features of real clips on disk, so that scoring several models against one set computes them once.

Entries depend on the decoded clips, the weights, the preprocessing, the device and this package's code, and on nothing
else. The folder may be deleted at any time.
"""

import functools
import hashlib
import json
import os
from pathlib import Path

import jax
import numpy as np
from absl import logging

import vidgen_jax
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write
from vidgen_jax.scores.clip_sets import ClipSet
from vidgen_jax.scores.clip_sets.arrays import DAMAGED_ARRAY_ERRORS
from vidgen_jax.scores.extraction import FeatureExtractor, Features


def cache_folder() -> Path:
  """Folder of the entries: $VIDGEN_CACHE, or ~/.cache/vidgen_jax/features."""
  folder = os.environ.get("VIDGEN_CACHE") or "~/.cache/vidgen_jax/features"
  # `Path.expanduser` raises an error for a user without a home folder.
  return Path(os.path.expanduser(folder))  # noqa: PTH111


def cached_features(extractor: FeatureExtractor, clips: ClipSet, *, folder: Path | None) -> Features:
  """The features of a set, from `folder` if it has them; otherwise they are computed and written there.

  Nothing is read or written without a folder, and in jobs of several processes. An entry that is damaged or cannot be
  written is logged.
  """
  if folder is None or jax.process_count() > 1:
    return extractor.extract_all(clips, description="real")[""]
  path = folder / f"{_key(extractor, clips)}.npz"
  if (found := _read(path, len(clips))) is not None:
    logging.info("real features of %s are read from %s", extractor.label, path)
    return found
  found = extractor.extract_all(clips, description="real")[""]
  checksum = np.array(_checksum(found))
  try:
    with atomic_write(path) as temporary:
      np.savez(temporary, features=found.features, logits=found.logits, checksum=checksum)
  except UserError as error:
    logging.warning("features are not cached: %s", error)
  return found


def _key(extractor: FeatureExtractor, clips: ClipSet) -> str:
  # The hash covers the tensors only, while the description of the weights may be edited.
  weights = [extractor.network, extractor.hash, extractor.weights.settings, extractor.weights.preprocessing]
  protocol = [*weights, extractor.protocol(clips.clip_shape), str(clips.clip_shape)]
  setting = [jax.__version__, jax.devices()[0].device_kind, _code_hash()]
  digest = hashlib.sha256(json.dumps([*protocol, *setting]).encode())
  for clip in clips.digests():
    digest.update(clip)
  return digest.hexdigest()


@functools.cache
def _code_hash() -> str:
  """Hash of the modules that features depend on."""
  package = Path(vidgen_jax.__file__).parent
  files = [file for part in ("scores", "ops", "nn") for file in sorted((package / part).rglob("*.py"))]
  return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _checksum(features: Features) -> str:
  return hashlib.sha256(features.features.tobytes() + features.logits.tobytes()).hexdigest()


def _read(path: Path, count: int) -> Features | None:
  try:
    # np.load leaves a path open if the archive is damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
      found = Features(stored["features"], stored["logits"])
      if (len(found), str(stored["checksum"])) == (count, _checksum(found)):
        return found
    reason = "wrong checksum"
  except FileNotFoundError:
    return None
  except DAMAGED_ARRAY_ERRORS as error:
    reason = str(error)
  logging.warning("%s cannot be used and is ignored: %s", path, reason)
  return None
