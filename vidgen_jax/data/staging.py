"""Decodes the videos of a source with several processes into a cache on disk, so that interrupted builds can resume.

Damaged videos may crash the decoding process, so each process decodes one video at a time.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import queue
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from vidgen_jax.data import decode
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import MISSING, Source, SourceFile


class StagingCache:
  """Folder of decoded videos, one file each, that several processes may use at the same time; created.

  Files appear by an atomic rename; a damaged file counts as absent.
  """

  def __init__(self, directory: Path):
    self._directory = directory
    directory.mkdir(parents=True, exist_ok=True)

  def path(self, *facts: object) -> Path:
    """Path of the video that these JSON-compatible facts identify."""
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return self._directory / digest[:2] / f"{digest}.npz"

  def write(self, path: Path, video: DecodedVideo) -> None:
    """Stores a decoded video; raises OSError if the disk is full or read-only."""
    facts = dataclasses.asdict(video)
    frames = facts.pop("frames")
    arrays: dict[str, Any] = {
      "facts": np.array(json.dumps(facts)),
      "ends": np.cumsum([len(frame) for frame in frames]),
      "data": np.frombuffer(b"".join(frames), np.uint8),
    }
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    try:
      with unfinished.open("wb") as file:
        np.savez(file, **arrays)
      unfinished.rename(path)
    finally:
      unfinished.unlink(missing_ok=True)

  def read(self, path: Path) -> DecodedVideo | None:
    """Loads a stored video; None if it is absent."""
    if (stored := _load(path, "facts", "ends", "data")) is None:
      return None
    facts, ends, data = _facts(stored["facts"]), stored["ends"].tolist(), stored["data"].tobytes()
    return DecodedVideo(frames=tuple(data[start:end] for start, end in itertools.pairwise([0, *ends])), **facts)

  def facts(self, path: Path) -> dict[str, Any] | None:
    """Fields of a stored `DecodedVideo`, with the number of frames as 'frames'; None if it is absent."""
    stored = _load(path, "facts", "ends")
    return None if stored is None else {"frames": len(stored["ends"]), **_facts(stored["facts"])}


def _load(path: Path, *names: str) -> dict[str, np.ndarray] | None:
  """Some arrays of an npz file; None if it is absent or damaged."""
  try:
    with path.open("rb") as file, np.load(file) as stored:
      return {name: stored[name] for name in names}
  except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
    return None


def _facts(stored: np.ndarray) -> dict[str, Any]:
  facts = json.loads(str(stored))
  return facts | {"cuts": tuple(facts["cuts"])}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
  """Result of decoding one video.

  Attributes:
    file: the video.
    cached: path of its decoded frames in the cache; None if it was skipped.
    reason: reason why it was skipped.
    facts: facts about its frames, see `StagingCache.facts`; empty if it was skipped.
  """

  file: SourceFile
  cached: Path | None = None
  reason: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Decodes videos of a source into a cache; can be sent to another process."""

  source: Source
  cache: StagingCache
  options: DecodeOptions

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video unless the cache contains it; raises OSError if the cache cannot be written."""
    if file.class_name is None:
      return Staged(file=file, reason="is not in a class folder, so its class is unknown")
    if file.stamp == MISSING:
      return Staged(file=file, reason="is missing")
    # The number of decoding threads does not change the frames.
    options = dataclasses.asdict(dataclasses.replace(self.options, threads="AUTO"))
    path = self.cache.path(file.identity, file.stamp, options)
    facts = self.cache.facts(path)
    if facts is None:
      try:
        video = read_video(self.source, file, self.options)
      except UnreadableVideoError as error:
        return Staged(file=file, reason=str(error))
      except OSError as error:
        return Staged(file=file, reason=f"cannot be read: {error.strerror or error}")
      self.cache.write(path, video)
      facts = dataclasses.asdict(video) | {"frames": len(video.frames)}
    return Staged(file=file, cached=path, facts=facts)


def read_video(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """Reads a video of a source with the reader of its file format.

  Raises UnreadableVideoError if it is damaged or not of the expected form, and OSError if the file cannot be read.
  """
  if file.reader is not None:
    return file.reader(source, file, options)
  if file.images:
    return decode.encode_clips([_images(source, file)], options)
  with source.open(file.path) as opened:
    return decode.decode_video(opened, options)


def _images(source: Source, file: SourceFile) -> Iterator[Image.Image]:
  for path in file.images:
    with source.open(path) as opened:
      try:
        image = Image.open(opened, formats=decode.IMAGE_FORMATS)
      except (UnidentifiedImageError, *decode.DAMAGED_IMAGE_ERRORS) as error:
        raise UnreadableVideoError(f"{path} is no image") from error
      try:
        yield decode.to_rgb(image)
      except UnreadableVideoError as error:
        raise UnreadableVideoError(f"{path}: {error}") from error


def stage_all(decoder: Decoder, files: Sequence[SourceFile], *, num_workers: int = 0) -> list[Staged]:
  """Decodes all videos that the cache lacks, with `num_workers` processes (0: one per core).

  Returns results in the order of `files`; raises OSError if the cache cannot be written.
  """
  workers = min(num_workers or os.cpu_count() or 1, max(len(files), 1))
  threads = "NONE" if len(files) >= workers > 1 else "AUTO"
  decoder = dataclasses.replace(decoder, options=dataclasses.replace(decoder.options, threads=threads))
  idle: queue.SimpleQueue[IsolatedDecoder] = queue.SimpleQueue()

  def stage(file: SourceFile) -> Staged:
    isolated = idle.get()
    try:
      return isolated.stage(file)
    finally:
      idle.put(isolated)

  with contextlib.ExitStack() as stack:
    for _ in range(workers):
      idle.put(stack.enter_context(IsolatedDecoder(decoder)))
    executor = concurrent.futures.ThreadPoolExecutor(workers)
    # After an error or an interrupt, pending videos are not decoded.
    stack.callback(executor.shutdown, cancel_futures=True)
    return list(tqdm(executor.map(stage, files), total=len(files), desc="decoding", unit="video"))


class IsolatedDecoder:
  """Decodes one video at a time in a separate process, which may crash."""

  def __init__(self, decoder: Decoder):
    self._decoder = decoder
    self._executor = _executor(decoder)

  def __enter__(self) -> "IsolatedDecoder":
    return self

  def __exit__(self, *exc_info) -> None:
    self._executor.shutdown()

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video; one that crashes two processes is skipped."""
    for _ in range(2):
      try:
        return self._executor.submit(_stage, file).result()
      except BrokenProcessPool:
        self._executor.shutdown()
        self._executor = _executor(self._decoder)
    return Staged(file=file, reason="makes the decoder crash")


def _executor(decoder: Decoder) -> concurrent.futures.ProcessPoolExecutor:
  # A fork of a server process that has no threads and has this module loaded: safe, and fast to start.
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload([__name__])
  return concurrent.futures.ProcessPoolExecutor(
    1, mp_context=context, initializer=_initialize_worker, initargs=(decoder,)
  )


_decoder: Decoder | None = None


def _initialize_worker(decoder: Decoder) -> None:
  global _decoder
  _decoder = decoder
  # A worker whose parent was killed would wait for work for ever.
  if (parent := multiprocessing.parent_process()) is not None:
    threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()


def _stage(file: SourceFile) -> Staged:
  if _decoder is None:
    raise RuntimeError("the worker process is not initialised")
  return _decoder.stage(file)
