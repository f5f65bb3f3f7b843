"""Decoding the videos of a source into the staging cache, by several processes.

Damaged videos can take the decoder's process with them. Then the videos that were being decoded are decoded again, each
alone in a process, and the one that does it once more is skipped like others that cannot be read.
"""

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidgen_jax.data import readers
from vidgen_jax.data.decode import DecodeOptions, UnreadableVideoError
from vidgen_jax.data.listing import MISSING, Source, SourceFile
from vidgen_jax.data.staging import StagingCache


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
  """What became of one video.

  Attributes:
    file: the video.
    cached: where its decoded frames are; None if it was skipped.
    reason: why it was skipped.
    facts: what its frames are like, see `StagingCache.facts`; empty if it was skipped.
  """

  file: SourceFile
  cached: Path | None = None
  reason: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Decodes videos of a source into a cache; it can be sent to another process.

  Attributes:
    source: holds the videos.
    cache: where the frames go.
    options: what becomes of the frames.
  """

  source: Source
  cache: StagingCache
  options: DecodeOptions

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video, or finds it decoded.

    Raises:
      OSError: if the cache cannot be written.
    """
    if file.class_name is None:
      return Staged(file=file, reason="lies beside the class folders, so its class is unknown")
    if file.stamp == MISSING:
      return Staged(file=file, reason="is missing")
    # How many threads decode does not change the frames.
    options = dataclasses.asdict(dataclasses.replace(self.options, threads="AUTO"))
    key = self.cache.path(file.identity, file.stamp, file.reader, options)
    facts = self.cache.facts(key)
    if facts is None:
      try:
        video = readers.read_video(self.source, file, self.options)
      except UnreadableVideoError as error:
        return Staged(file=file, reason=str(error))
      except OSError as error:
        return Staged(file=file, reason=f"cannot be read: {error.strerror or error}")
      self.cache.write(key, video)
      facts = dataclasses.asdict(video) | {"frames": len(video.frames)}
    return Staged(file=file, cached=key, facts=facts)


def stage_all(decoder: Decoder, files: Sequence[SourceFile], *, num_workers: int = 0) -> list[Staged]:
  """Decodes every video that is not in the cache.

  Args:
    decoder: does it.
    files: the videos.
    num_workers: processes; 0 for one per core.

  Returns:
    What became of each, in the order of `files`.

  Raises:
    OSError: if the cache cannot be written.
  """
  workers = min(num_workers or os.cpu_count() or 1, max(len(files), 1))
  threads = "NONE" if len(files) >= workers > 1 else "AUTO"
  decoder = dataclasses.replace(decoder, options=dataclasses.replace(decoder.options, threads=threads))
  pending, results = collections.deque(range(len(files))), {}
  with tqdm(total=len(files), desc="decoding", unit="video") as progress:
    while pending:
      suspects = _stage_until_one_dies(decoder, files, pending, results, progress, workers)
      if suspects:
        with IsolatedDecoder(decoder) as alone:
          for index in suspects:
            results[index] = alone.stage(files[index])
            progress.update()
  return [results[index] for index in range(len(files))]


def _stage_until_one_dies(
  decoder: Decoder,
  files: Sequence[SourceFile],
  pending: collections.deque[int],
  results: dict[int, Staged],
  progress: tqdm,
  workers: int,
) -> list[int]:
  """Empties `pending` into `results`; returns those that were under way when a process died."""
  running: dict[concurrent.futures.Future[Staged], int] = {}
  executor = _executor(decoder, workers)
  try:
    while pending or running:
      while pending and len(running) < 2 * workers:
        running[executor.submit(_stage, files[pending[0]])] = pending[0]
        pending.popleft()
      done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
      for future in done:
        results[running[future]] = future.result()
        del running[future]
        progress.update()
  except BrokenProcessPool:
    return sorted(running.values())
  finally:
    executor.shutdown(cancel_futures=True)
  return []


class IsolatedDecoder:
  """Decodes one video at a time in a process of its own, which may die.

  Args:
    decoder: does it.
  """

  def __init__(self, decoder: Decoder):
    self._decoder = decoder
    self._executor = _executor(decoder, 1)

  def __enter__(self) -> "IsolatedDecoder":
    return self

  def __exit__(self, *exc_info) -> None:
    self._executor.shutdown()

  def stage(self, file: SourceFile) -> Staged:
    """Decodes one video, or finds it decoded.

    Raises:
      OSError: if the cache cannot be written.
    """
    try:
      return self._executor.submit(_stage, file).result()
    except BrokenProcessPool:
      self._executor.shutdown()
      self._executor = _executor(self._decoder, 1)
      return Staged(file=file, reason="makes the decoder crash")


def _executor(decoder: Decoder, workers: int) -> concurrent.futures.ProcessPoolExecutor:
  # Forked from a process without threads that has this module loaded: safe, and started at once.
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload([__name__])
  return concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=context, initializer=_begin_work, initargs=(decoder,)
  )


_decoder: Decoder | None = None


def _begin_work(decoder: Decoder) -> None:
  """What a process does first."""
  global _decoder
  _decoder = decoder
  # Otherwise processes whose parent was killed would wait for work for ever.
  sentinel = multiprocessing.parent_process().sentinel
  threading.Thread(target=lambda: (wait_for([sentinel]), os._exit(1)), daemon=True).start()


def _stage(file: SourceFile) -> Staged:
  return _decoder.stage(file)
