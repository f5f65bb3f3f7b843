"""Decodes the videos of a source with several processes into a cache on disk, so that interrupted builds can resume.

Damaged videos may crash the decoding process, so each process decodes one video at a time. The cache is a folder with
an npz file per video, which several processes may use at the same time.
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
from PIL import Image
from tqdm import tqdm

from vidgen_jax.data import decode
from vidgen_jax.data.decode import DecodedVideo, DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import MISSING, Source, SourceFile
from vidgen_jax.data.still_images import to_rgb
from vidgen_jax.files import atomic_write


def save_video(path: Path, video: DecodedVideo) -> dict[str, Any]:
  """Stores a decoded video; returns its facts, see `load_facts`. Raises UserError if the disk is full or read-only."""
  facts = dataclasses.asdict(video) | {"frames": len(video.frames)}
  ends, data = np.cumsum([len(frame) for frame in video.frames]), np.frombuffer(b"".join(video.frames), np.uint8)
  with atomic_write(path) as temporary:
    np.savez(temporary, facts=np.array(json.dumps(facts)), ends=ends, data=data)
  return facts


def load_video(path: Path) -> DecodedVideo:
  """Loads a stored video."""
  with np.load(path) as stored:
    facts, ends, data = json.loads(str(stored["facts"])), stored["ends"].tolist(), stored["data"].tobytes()
  return DecodedVideo(**facts | {"frames": [data[start:end] for start, end in itertools.pairwise([0, *ends])]})


def load_facts(path: Path) -> dict[str, Any] | None:
  """Fields of a stored `DecodedVideo`, with the number of frames as 'frames'.

  None if the file is absent or damaged, or a version with other fields wrote it.
  """
  try:
    with path.open("rb") as file, np.load(file) as stored:
      facts = json.loads(str(stored["facts"]))
  except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
    return None
  return facts if facts.keys() == {field.name for field in dataclasses.fields(DecodedVideo)} else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
  """Result of decoding one video.

  Attributes:
    file: the video.
    cached: path of its decoded frames in the cache; None if it was skipped.
    reason: reason why it was skipped.
    facts: facts about its frames, see `load_facts`; empty if it was skipped.
  """

  file: SourceFile
  cached: Path | None = None
  reason: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Decodes videos of a source into the folder of a cache; can be sent to another process."""

  source: Source
  cache: Path
  options: DecodeOptions

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video unless the cache contains it; raises UserError if the cache cannot be written."""
    if file.excluded:
      return Staged(file=file, reason=file.excluded)
    if file.class_name is None:
      return Staged(file=file, reason="is not in a class folder, so its class is unknown")
    if file.stamp == MISSING:
      return Staged(file=file, reason="is missing")
    # The number of decoding threads does not change the frames.
    options = dataclasses.asdict(dataclasses.replace(self.options, threads="AUTO"))
    digest = hashlib.sha256(json.dumps([file.identity, file.stamp, file.parts, options]).encode()).hexdigest()
    path = self.cache / digest[:2] / f"{digest}.npz"
    facts = load_facts(path)
    if facts is None:
      try:
        video = read_video(self.source, file, self.options)
      except UnreadableVideoError as error:
        return Staged(file=file, reason=str(error))
      except OSError as error:
        return Staged(file=file, reason=f"cannot be read: {error.strerror or error}")
      facts = save_video(path, video)
    return Staged(file=file, cached=path, facts=facts)


def read_video(source: Source, file: SourceFile, options: DecodeOptions) -> DecodedVideo:
  """Reads a video of a source with the reader of its file format.

  Raises UnreadableVideoError if it is damaged or not of the expected form, and OSError if the file cannot be read.
  """
  if file.reader is not None:
    return file.reader(source, file, options)
  if file.images:
    conversions: dict[str, str] = {}
    video = decode.encode_clips([decode.same_size(_images(source, file, conversions))], options)
    return dataclasses.replace(video, conversions=conversions)
  with source.open(file.path) as opened:
    return decode.decode_video(opened, options, parts=file.parts)


def _images(source: Source, file: SourceFile, conversions: dict[str, str]) -> Iterator[Image.Image]:
  for path in file.images:
    with source.open(path) as opened:
      try:
        yield to_rgb(Image.open(opened, formats=decode.IMAGE_FORMATS), conversions=conversions)
      except decode.DAMAGED_IMAGE_ERRORS as error:
        raise UnreadableVideoError(f"{path} is no image") from error
      except UnreadableVideoError as error:
        raise UnreadableVideoError(f"{path}: {error}") from error


def stage_all(decoder: Decoder, files: Sequence[SourceFile], *, num_workers: int = 0) -> list[Staged]:
  """Decodes all videos that the cache lacks, with `num_workers` processes (0: one per core).

  Returns results in the order of `files`; raises UserError if the cache cannot be written.
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
      idle.put(stack.enter_context(contextlib.closing(IsolatedDecoder(decoder))))
    executor = concurrent.futures.ThreadPoolExecutor(workers)
    # After an error or an interrupt, pending videos are not decoded.
    stack.callback(executor.shutdown, cancel_futures=True)
    return list(tqdm(executor.map(stage, files), total=len(files), desc="decoding", unit="video"))


class IsolatedDecoder:
  """Decodes one video at a time in a separate process, which may crash."""

  def __init__(self, decoder: Decoder):
    self._decoder = decoder
    self._executor = _executor(decoder)

  def close(self) -> None:
    """Ends the process."""
    self._executor.shutdown()

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video; one that crashes two processes is skipped."""
    for _ in range(2):
      try:
        return self._executor.submit(_stage, file).result()
      except BrokenProcessPool:
        self.close()
        self._executor = _executor(self._decoder)
    return Staged(file=file, reason="makes the decoder crash")


def _executor(decoder: Decoder) -> concurrent.futures.ProcessPoolExecutor:
  # A fork of a server process that has no threads and has this module loaded: safe, and fast to start.
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload([__name__])
  return concurrent.futures.ProcessPoolExecutor(
    1, mp_context=context, initializer=_initialize_worker, initargs=(decoder,)
  )


_decoder: Decoder


def _initialize_worker(decoder: Decoder) -> None:
  global _decoder
  _decoder = decoder
  # A worker whose parent was killed would wait for work for ever.
  if (parent := multiprocessing.parent_process()) is not None:
    threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()


def _stage(file: SourceFile) -> Staged:
  return _decoder.stage(file)
