"""Where metrics and images go: a JSON-lines file always, TensorBoard when its extra is installed.

The only module that imports `clu.metric_writers`, and with it TensorFlow; both only inside `TensorBoardWriter`.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from absl import logging
from etils import epath

from vidgen_jax import buckets
from vidgen_jax.buckets import is_bucket, local_path, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import disk_errors, atomic_write

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

UPLOAD_SECONDS = 60.0
"""How old the copy in the bucket may be while a run goes on, in seconds; a checkpoint finds it new."""

_OWN_FIELDS = ("step", "time")


class MetricWriter(Protocol):
  """What the training loop needs of a writer."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Records the metrics of one step. `step` counts completed train steps."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Records images, each uint8[H, W, 3]."""

  def flush(self) -> None:
    """Returns when everything written so far is in the operating system's hands."""

  def close(self) -> None:
    """Flushes and releases the files; the writer must not be used afterwards."""


class NullWriter:
  """Writes nothing: for all processes but the lead."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Does nothing."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Does nothing."""

  def flush(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


class JsonlWriter:
  """Appends one JSON object a line: {"step": 10, "time": 1700000000.0, "disc/loss": 1.5, ...}.

  `time` is in seconds since 1970. A value that is not finite is written as null, which is what JSON has. Every line
  reaches the operating system at once, so that a killed process loses none. Images have no place in it: they are left
  to `vidgen_jax.media.images`.

  Args:
    path: the file; it and its folder are created if they are missing.

  Raises:
    UserError: if the file cannot be opened, here, or written, later.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self._path = local_path(path, "path")
    self._file = self._open()

  def truncate_after(self, step: int) -> None:
    """Drops the lines of later steps, and lines that a killed process left incomplete.

    Called when a run resumes: the steps after the checkpoint are run again, and the curve must not hold them twice.

    Args:
      step: the last step whose line stays; -1 empties the file.
    """
    self._file.close()
    with disk_errors(self._path):
      lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if (found := _step_of(line)) is not None and found <= step]
    if len(kept) < len(lines):
      logging.info("%s: dropped %d of %d lines, after step %d", self._path, len(lines) - len(kept), len(lines), step)
      with atomic_write(self._path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
    self._file = self._open()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Appends one line.

    Raises:
      ValueError: if a metric is called like one of the line's own fields.
      UserError: if the disk is full or gone.
    """
    if taken := sorted(set(scalars) & set(_OWN_FIELDS)):
      raise ValueError(f"a metric must not be named {taken[0]!r}: every line has a field of that name")
    values = {name: float(value) for name, value in scalars.items()}
    values = {name: value if math.isfinite(value) else None for name, value in values.items()}
    line = json.dumps({"step": int(step), "time": round(time.time(), 3), **values}, allow_nan=False)
    with disk_errors(self._path):
      self._file.write(line + "\n")
      self._file.flush()

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Does nothing."""

  def flush(self) -> None:
    """Does nothing: every line was flushed when it was written."""

  def close(self) -> None:
    """Closes the file."""
    with disk_errors(self._path):
      self._file.close()

  def _open(self):
    with disk_errors(self._path):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      return self._path.open("a", encoding="utf-8")


class TensorBoardWriter:
  """Writes TensorBoard event files through clu. Needs the extra [tensorboard]; see `tensorboard_is_installed`.

  TensorFlow is kept off the accelerators, whose memory belongs to JAX.

  Args:
    folder: where the event files go.
  """

  def __init__(self, folder: str | os.PathLike[str]):
    # TensorFlow computes nothing here: it need not speak of its devices or its rounding.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf
    from clu import metric_writers

    for kind in ("GPU", "TPU"):
      tf.config.set_visible_devices([], kind)
    self._folder = os.fspath(folder)
    with disk_errors(self._folder):
      pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
      self._writer = metric_writers.SummaryWriter(self._folder)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Adds one point to each metric's curve."""
    self._writer.write_scalars(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Adds images, each uint8[H, W, 3]."""
    self._writer.write_images(step, images)

  def flush(self) -> None:
    """Writes what is buffered."""
    self._writer.flush()

  def close(self) -> None:
    """Flushes and closes the event file."""
    self._writer.close()


class MultiWriter:
  """Passes everything on to several writers.

  Args:
    writers: all of them are closed by `close`, even if one of them fails in it.
  """

  def __init__(self, writers: Sequence[MetricWriter]):
    self._writers = tuple(writers)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Passes the metrics on."""
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Passes the images on."""
    for writer in self._writers:
      writer.write_images(step, images)

  def flush(self) -> None:
    """Flushes every writer."""
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    """Closes every writer."""
    with contextlib.ExitStack() as stack:
      for writer in reversed(self._writers):
        stack.callback(writer.close)


class UploadingWriter:
  """Writes into a temporary folder and copies its files into a bucket, which knows no appending.

  They are uploaded whole: in the background after `every` seconds, and in `flush`. What the bucket holds already is
  fetched first as far as `continued` names it, and replaced.

  Args:
    folder: of the run, in a bucket.
    make: makes the writer of a local folder.
    continued: names of the files that go on where those in the bucket end.
    every: seconds between two uploads; a file that has not grown is left out.

  Raises:
    UserError: if the bucket cannot be read or written; later, in `flush` and `close`.
  """

  def __init__(
    self,
    folder: epath.Path,
    make: Callable[[pathlib.Path], MetricWriter],
    *,
    continued: tuple[str, ...] = (),
    every: float = UPLOAD_SECONDS,
  ):
    self._folder, self._every = folder, every
    self._sizes: dict[pathlib.Path, tuple[int, int]] = {}
    with contextlib.ExitStack() as stack:
      self._local = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
      for name in continued:
        if (text := buckets.read_text(folder / name)) is not None:
          (self._local / name).write_text(text, encoding="utf-8")
      self._writer = make(self._local)
      stack.callback(self._writer.close)
      self._thread = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1, "upload"))
      self._upload()
      self._stack = stack.pop_all()
    self._running: concurrent.futures.Future | None = None
    self._uploaded = time.monotonic()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes, and begins to upload if it is time."""
    self._writer.write_scalars(step, scalars)
    self._upload_if_due()

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes, and begins to upload if it is time."""
    self._writer.write_images(step, images)
    self._upload_if_due()

  def flush(self) -> None:
    """Returns when everything is in the bucket."""
    self._writer.flush()
    self._wait()
    self._upload()
    self._uploaded = time.monotonic()

  def close(self) -> None:
    """Flushes, and removes the temporary folder."""
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
    """Lets an upload in the background end. That it failed does not matter: what it left out is uploaded next time."""
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


def tensorboard_is_installed() -> bool:
  """Whether both packages of the extra [tensorboard] can be found. Imports neither."""
  return all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "tensorboard"))


def create_writer(workdir: str | os.PathLike[str], *, is_lead: bool, resumed_step: int | None) -> MetricWriter:
  """Makes the writer of a run: `metrics.jsonl`, and `tensorboard/` where that is installed.

  Args:
    workdir: the run's folder.
    is_lead: whether this process writes for all; the others get a `NullWriter`.
    resumed_step: the step of the restored checkpoint, whose later lines are dropped; None for a run that begins anew,
      whose `metrics.jsonl` begins empty.

  Returns:
    A writer for this process.

  Raises:
    UserError: if the folder cannot be written.
  """
  if not is_lead:
    return NullWriter()
  workdir = user_path(workdir)
  if not is_bucket(workdir):
    return _create_local_writer(workdir, resumed_step)
  return UploadingWriter(workdir, lambda folder: _create_local_writer(folder, resumed_step), continued=(METRICS_FILE,))


def _create_local_writer(workdir: pathlib.Path, resumed_step: int | None) -> MetricWriter:
  lines = JsonlWriter(workdir / METRICS_FILE)
  lines.truncate_after(-1 if resumed_step is None else resumed_step)
  if not tensorboard_is_installed():
    logging.info("TensorBoard is not installed (extra [tensorboard]); metrics go to %s", workdir / METRICS_FILE)
    return lines
  try:
    return MultiWriter([lines, TensorBoardWriter(workdir / TENSORBOARD_FOLDER)])
  except ImportError as error:
    logging.warning("TensorBoard is installed but cannot be imported (%s); going on without it", error)
    return lines


def _step_of(line: str) -> int | None:
  """The step of one line of the metrics file; None if the line is not whole."""
  if not line.endswith("\n"):
    return None
  try:
    step = json.loads(line)["step"]
  except (ValueError, KeyError, TypeError):
    return None
  return step if isinstance(step, int) else None
