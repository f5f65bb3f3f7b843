"""Decoded videos on disk, one file each, so that an interrupted build continues where it was."""

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidgen_jax.data.decode import DecodedVideo


class StagingCache:
  """A folder of decoded videos.

  A file is put there by a rename, so that it is whole or absent; one that is damaged all the same counts as absent.
  Several processes may use it at a time.

  Args:
    directory: the folder; created.
  """

  def __init__(self, directory: Path):
    self._directory = directory
    directory.mkdir(parents=True, exist_ok=True)

  def path(self, *facts: object) -> Path:
    """The place of a video that depends on these facts only: its path, its stamp, and the options of decoding."""
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return self._directory / digest[:2] / f"{digest}.npz"

  def write(self, path: Path, video: DecodedVideo) -> None:
    """Stores a decoded video.

    Raises:
      OSError: if the disk is full or cannot be written.
    """
    facts = dataclasses.asdict(video)
    frames = facts.pop("frames")
    ends = np.cumsum([len(frame) for frame in frames])
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    try:
      with unfinished.open("wb") as file:
        np.savez(file, data=np.frombuffer(b"".join(frames), np.uint8), ends=ends, **facts)
      unfinished.rename(path)
    finally:
      unfinished.unlink(missing_ok=True)

  def read(self, path: Path) -> DecodedVideo | None:
    """Reads a stored video; None if it is not there."""
    stored = _load(path, *_FACTS, "ends", "data")
    if stored is None:
      return None
    data, ends = stored.pop("data").tobytes(), stored.pop("ends").tolist()
    frames = tuple(data[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return DecodedVideo(frames=frames, **_plain(stored))

  def facts(self, path: Path) -> dict[str, Any] | None:
    """What a stored video is like, without reading its frames: fields of `DecodedVideo`; None if it is not there.

    Returns:
      All fields but 'frames', which is their number.
    """
    stored = _load(path, *_FACTS, "ends")
    return None if stored is None else {"frames": len(stored.pop("ends")), **_plain(stored)}


_FACTS = tuple(field.name for field in dataclasses.fields(DecodedVideo) if field.name != "frames")


def _load(path: Path, *names: str) -> dict[str, np.ndarray] | None:
  """Some arrays of an npz file; None if it is absent or damaged."""
  try:
    with path.open("rb") as file, np.load(file) as stored:
      return {name: stored[name] for name in names}
  except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
    return None


def _plain(facts: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Numbers and tuples instead of arrays."""
  return {name: tuple(value.tolist()) if value.ndim else value.item() for name, value in facts.items()}
