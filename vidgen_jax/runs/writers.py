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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath
from PIL import Image

from vidgen_jax import buckets
from vidgen_jax.buckets import local_path, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write, disk_errors

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

UPLOAD_SECONDS = 60.0
"""Maximum age in seconds of the copy in a bucket between checkpoints; a checkpoint updates it."""


class MetricWriter:
  """Interface of the writers. This class itself writes nothing; all processes but the first use it."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes the metrics of one step; `step` is the number of completed train steps."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes images, each uint8 [H, W, 3]."""

  def flush(self) -> None:
    """Returns when everything written so far has reached the operating system, or the bucket."""

  def close(self) -> None:
    """Flushes and closes the files; the writer must not be used afterwards."""


class JsonlWriter(MetricWriter):
  """Appends one JSON object per line: {"step": 10, "time": 1700000000.0, "disc/loss": 1.5, ...}.

  `time` is in seconds since 1970. Non-finite values become null, since JSON has no NaN. Every line reaches the
  operating system at once, so a killed process loses none. Images are not written. The folder is created if missing.

  Raises:
    ValueError: if a metric is named 'step' or 'time'.
    UserError: if the file cannot be opened or written.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self._path = local_path(path, "path")
    self._file = self._open()

  def truncate_after(self, step: int) -> None:
    """Removes the lines of later steps (-1 for all), which a resumed run writes again, and incomplete lines."""
    self._file.close()
    with disk_errors(self._path):
      lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if (found := _step_of(line)) is not None and found <= step]
    if len(kept) < len(lines):
      logging.info("%s: removed %d of %d lines, after step %d", self._path, len(lines) - len(kept), len(lines), step)
      with atomic_write(self._path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
    self._file = self._open()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    if taken := sorted({"step", "time"} & set(scalars)):
      raise ValueError(f"a metric must not be named {taken[0]!r}: every line has a field of that name")
    values = {name: float(value) for name, value in scalars.items()}
    values = {name: value if math.isfinite(value) else None for name, value in values.items()}
    line = json.dumps({"step": int(step), "time": round(time.time(), 3), **values}, allow_nan=False)
    with disk_errors(self._path):
      self._file.write(line + "\n")
      self._file.flush()

  def close(self) -> None:
    with disk_errors(self._path):
      self._file.close()

  def _open(self) -> io.TextIOWrapper:
    with disk_errors(self._path):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      return self._path.open("a", encoding="utf-8")


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
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    self._path = folder / name
    with disk_errors(self._path):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._records = RecordWriter(self._path.open("wb"))
    self._write(file_version="brain.Event:2")
    if resumed_step is not None:
      start = events.SessionLog(status=events.SessionLog.START)
      self._write(step=resumed_step + 1, session_log=start)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [self._summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()]
    self._write(step=step, summary=self._summary(value=values))

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    values = []
    for name, pixels in images.items():
      buffer = io.BytesIO()
      Image.fromarray(pixels).save(buffer, "PNG")
      height, width, channels = pixels.shape
      image = self._summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=buffer.getvalue()
      )
      values.append(self._summary.Value(tag=name, image=image))
    self._write(step=step, summary=self._summary(value=values))

  def close(self) -> None:
    with disk_errors(self._path):
      self._records.close()

  def _write(self, **fields: object) -> None:
    event = self._event(wall_time=time.time(), **fields)
    with disk_errors(self._path):
      self._records.write(event.SerializeToString())
      self._records.flush()


class MultiWriter(MetricWriter):
  """Forwards everything to several writers; `close` closes all of them, even if one raises."""

  def __init__(self, writers: Sequence[MetricWriter]):
    self._writers = tuple(writers)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    for writer in self._writers:
      writer.write_images(step, images)

  def flush(self) -> None:
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    with contextlib.ExitStack() as stack:
      for writer in reversed(self._writers):
        stack.callback(writer.close)


class UploadingWriter(MetricWriter):
  """Writes to a temporary folder and uploads whole files to a bucket, whose objects cannot be appended to.

  Uploads run in the background every `every` seconds, and in `flush`.

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
    self._sizes: dict[pathlib.Path, tuple[int, int]] = {}
    with contextlib.ExitStack() as stack:
      self._local = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
      if (text := buckets.read_text(folder / METRICS_FILE)) is not None:
        (self._local / METRICS_FILE).write_text(text, encoding="utf-8")
      self._writer = make(self._local)
      stack.callback(self._writer.close)
      self._thread = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1, "upload"))
      self._upload()
      self._stack = stack.pop_all()
    self._running: concurrent.futures.Future | None = None
    self._uploaded = time.monotonic()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    self._writer.write_scalars(step, scalars)
    self._upload_if_due()

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    self._writer.write_images(step, images)
    self._upload_if_due()

  def flush(self) -> None:
    self._writer.flush()
    self._wait()
    self._upload()
    self._uploaded = time.monotonic()

  def close(self) -> None:
    with self._stack:
      self.flush()

  def _upload_if_due(self) -> None:
    if time.monotonic() - self._uploaded < self._every or (self._running and not self._running.done()):
      return
    self._wait()
    self._writer.flush()
    self._running = self._thread.submit(self._upload)
    self._uploaded = time.monotonic()

  def _wait(self) -> None:
    """Waits for the background upload. Its failure is only logged, since the next upload repeats it."""
    if self._running is not None:
      try:
        self._running.result()
      except UserError as error:
        logging.warning("%s", error)
      self._running = None

  def _upload(self) -> None:
    for path in sorted(path for path in self._local.rglob("*") if path.is_file()):
      stat = path.stat()
      size = (stat.st_size, stat.st_mtime_ns)
      if self._sizes.get(path) != size:
        buckets.upload(path, self._folder / path.relative_to(self._local).as_posix())
        self._sizes[path] = size


def create_writer(workdir: str | os.PathLike[str], *, is_lead: bool, resumed_step: int | None) -> MetricWriter:
  """The writer of a run: `metrics.jsonl`, and `tensorboard/` where tensorboard is installed.

  Args:
    workdir: folder of the run, local or in a bucket; UserError if it cannot be written.
    is_lead: whether this process writes for all; the others get a writer that writes nothing.
    resumed_step: step of the restored checkpoint, whose later rows are removed; None for a new run, which starts with
      an empty file.
  """
  if not is_lead:
    return MetricWriter()
  folder = user_path(workdir)
  if isinstance(folder, pathlib.Path):
    return _create_local_writer(folder, resumed_step)
  return UploadingWriter(folder, lambda local: _create_local_writer(local, resumed_step))


def _create_local_writer(workdir: pathlib.Path, resumed_step: int | None) -> MetricWriter:
  lines = JsonlWriter(workdir / METRICS_FILE)
  lines.truncate_after(-1 if resumed_step is None else resumed_step)
  try:
    return MultiWriter([lines, TensorBoardWriter(workdir / TENSORBOARD_FOLDER, resumed_step=resumed_step)])
  except ImportError as error:
    logging.info("no TensorBoard event files: %s; install the extra [tensorboard]", error)
    return lines


def _step_of(line: str) -> int | None:
  """The step of a line of the metrics file; None if the line is incomplete."""
  if not line.endswith("\n"):
    return None
  try:
    step = json.loads(line)["step"]
  except (ValueError, KeyError, TypeError):
    return None
  return step if isinstance(step, int) else None
