"""Decoded videos on disk, one file each, so that an interrupted build continues where it was."""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from vidgen_jax.data.decode import DecodedVideo


class StagingCache:
  """A folder of decoded videos.

  A file is put there by a rename, so that it is whole or absent; one that is damaged all the same counts as absent.

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
    unfinished = path.with_suffix(".unfinished")
    try:
      with unfinished.open("wb") as file:
        np.savez(file, data=np.frombuffer(b"".join(frames), np.uint8), ends=ends, **facts)
      unfinished.rename(path)
    finally:
      unfinished.unlink(missing_ok=True)

  def read(self, path: Path) -> DecodedVideo | None:
    """Reads a stored video; None if it is not there."""
    try:
      with path.open("rb") as file, np.load(file) as stored:
        data, ends = stored["data"].tobytes(), stored["ends"].tolist()
        facts = {name: stored[name].item() for name in stored.files if name not in ("data", "ends")}
    except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
      return None
    frames = tuple(data[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return DecodedVideo(frames=frames, **facts)
