"""Writers of metrics and images: a JSON-lines file always, TensorBoard event files when tensorboard is installed."""

import concurrent.futures
import contextlib
import io
import json
import math
import os
import pathlib
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from PIL import Image

from vidgen_jax import buckets
from vidgen_jax.buckets import user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write, disk_errors

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

UPLOAD_SECONDS = 60.0
"""Maximum age in seconds of the copy in a bucket between checkpoints; a checkpoint updates it."""


class MetricWriter:
  """Forwards everything to other writers; without any it writes nothing, as on all processes but the first."""

  _writers: tuple["MetricWriter", ...] = ()

  def __init__(self, *writers: "MetricWriter") -> None:
    self._writers = writers

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes the metrics of one step; `step` is the number of completed train steps."""
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes an image, uint8 [H, W, 3]."""
    for writer in self._writers:
      writer.write_image(step, name, image)

  def flush(self) -> None:
    """Returns when everything written so far has reached the operating system, or the bucket."""
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    """Flushes and closes the files, all of them even if one raises; the writer must not be used afterwards."""
    with contextlib.ExitStack() as stack:
      for writer in reversed(self._writers):
        stack.callback(writer.close)


class JsonlWriter(MetricWriter):
  """Appends one JSON object per line: {"step": 10, "time": 1700000000.0, "disc/loss": 1.5, ...}.

  `time` is in seconds since 1970. Non-finite values become null, since JSON has no NaN. Every line reaches the
  operating system at once, so a killed process loses none. Images are not written. The folder is created if missing.
  A file that cannot be opened or written is a UserError.
  """

  def __init__(self, path: pathlib.Path) -> None:
    self._path = path
    with disk_errors(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      self._file = path.open("a", encoding="utf-8")

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    values = {name: float(value) if math.isfinite(value) else None for name, value in scalars.items()}
    line = json.dumps({"step": int(step), "time": round(time.time(), 3), **values}, allow_nan=False)
    with disk_errors(self._path):
      self._file.write(line + "\n")
      self._file.flush()

  def close(self) -> None:
    with disk_errors(self._path):
      self._file.close()


class TensorBoardWriter(MetricWriter):
  """Writes a TensorBoard event file with tensorboard's record format; never imports TensorFlow.

  Args:
    folder: folder of the event files; created if missing.
    resumed_step: step of the restored checkpoint, after which TensorBoard discards older events; None for a new run.

  Raises:
    ImportError: if tensorboard is not installed.
    UserError: if the file cannot be written.
  """

  def __init__(self, folder: pathlib.Path, *, resumed_step: int | None):
    # Unlike `tensorboard.summary.writer.event_file_writer`, these modules never import TensorFlow.
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    events: Any = event_pb2  # Protobuf creates the message classes at run time.
    summaries: Any = summary_pb2
    self._event, self._summary = events.Event, summaries.Summary
    self._path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    with disk_errors(self._path):
      folder.mkdir(parents=True, exist_ok=True)
      self._records = RecordWriter(self._path.open("wb"))
    self._write(file_version="brain.Event:2")
    if resumed_step is not None:
      self._write(step=resumed_step + 1, session_log=events.SessionLog(status=events.SessionLog.START))

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
    self._write(step=step, summary=self._summary(value=values))

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    height, width, channels = image.shape
    encoded = self._summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue())
    self._write(step=step, summary=self._summary(value=[self._summary.Value(tag=name, image=encoded)]))

  def close(self) -> None:
    with disk_errors(self._path):
      self._records.close()

  def _write(self, **fields: object) -> None:
    event = self._event(wall_time=time.time(), **fields)
    with disk_errors(self._path):
      self._records.write(event.SerializeToString())
      self._records.flush()


class UploadingWriter(MetricWriter):
  """Writes to a temporary folder and uploads whole files to a bucket, whose objects cannot be appended to.

  Uploads run in `flush`, and in the background when metrics are written, at most every `every` seconds.

  Args:
    folder: folder of the run, in a bucket.
    make: makes the writer of a local folder, which may contain the metrics file of a resumed run.
    every: seconds between two uploads; unchanged files are not uploaded again.

  Raises:
    UserError: if the bucket cannot be read or, in `flush` and `close`, written.
  """

  def __init__(
    self, folder: epath.Path, make: Callable[[pathlib.Path], MetricWriter], *, every: float = UPLOAD_SECONDS
  ):
    self._folder, self._every = folder, every
    self._stats: dict[pathlib.Path, tuple[int, int]] = {}
    with contextlib.ExitStack() as stack:
      self._local = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
      if (text := buckets.read_text(folder / METRICS_FILE)) is not None:
        (self._local / METRICS_FILE).write_text(text, encoding="utf-8")
      super().__init__(make(self._local))
      stack.callback(super().close)
      self._thread = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1, "upload"))
      self._running = self._thread.submit(self._upload)
      self._running.result()
      self._stack = stack.pop_all()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    super().write_scalars(step, scalars)
    if self._running.done() and time.monotonic() - self._started >= self._every:
      self._running.result()
      self._running = self._thread.submit(self._try_upload)

  def flush(self) -> None:
    self._running.result()
    self._upload()

  def close(self) -> None:
    with self._stack:
      self.flush()

  def _try_upload(self) -> None:
    try:
      self._upload()
    except UserError as error:  # The next upload repeats it.
      logging.warning("%s", error)

  def _upload(self) -> None:
    self._started = time.monotonic()
    for path in sorted(path for path in self._local.rglob("*") if path.is_file()):
      stat = path.stat().st_size, path.stat().st_mtime_ns
      if self._stats.get(path) != stat:
        buckets.upload(path, self._folder / path.relative_to(self._local).as_posix())
        self._stats[path] = stat


def create_writer(workdir: str | os.PathLike[str], *, resumed_step: int | None) -> MetricWriter:
  """The writer of a run: `metrics.jsonl`, and `tensorboard/` where tensorboard is installed; process 0 writes for all.

  Args:
    workdir: folder of the run, local or in a bucket; UserError if it cannot be written.
    resumed_step: step of the restored checkpoint, whose later rows are removed; None for a new run, which starts with
      an empty file.
  """
  if jax.process_index() != 0:
    return MetricWriter()
  folder = user_path(workdir)
  if isinstance(folder, pathlib.Path):
    return _create_local_writer(folder, resumed_step)
  return UploadingWriter(folder, lambda local: _create_local_writer(local, resumed_step))


def _create_local_writer(workdir: pathlib.Path, resumed_step: int | None) -> MetricWriter:
  _remove_rows(workdir / METRICS_FILE, after=-1 if resumed_step is None else resumed_step)
  lines = JsonlWriter(workdir / METRICS_FILE)
  try:
    return MetricWriter(lines, TensorBoardWriter(workdir / TENSORBOARD_FOLDER, resumed_step=resumed_step))
  except ImportError as error:
    logging.info("no TensorBoard event files: %s; install the extra [tensorboard]", error)
    return lines


def _remove_rows(path: pathlib.Path, *, after: int) -> None:
  """Removes the rows after a step, which a resumed run writes again, and incomplete rows."""
  if not path.exists():
    return
  with disk_errors(path):
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
  kept = [line for line in lines if _is_row(line, until=after)]
  if len(kept) < len(lines):
    logging.info("%s: removed %d of %d lines, after step %d", path, len(lines) - len(kept), len(lines), after)
    with atomic_write(path) as temporary:
      temporary.write_text("".join(kept), encoding="utf-8")


def _is_row(line: str, *, until: int) -> bool:
  with contextlib.suppress(ValueError, KeyError, TypeError):
    return line.endswith("\n") and json.loads(line)["step"] <= until
  return False
