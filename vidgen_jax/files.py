"""Atomic writes of files and folders, lock files, and one-line disk errors.

A file or folder that cannot be written is a UserError.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Generator, Mapping
from typing import Any

from absl import logging
from etils import epath

from vidgen_jax import buckets
from vidgen_jax.buckets import AnyPath, is_bucket, local_path, user_path
from vidgen_jax.errors import UserError


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Generator[None]:
  """Converts an `OSError` of its block, or a bucket's error, to a `UserError` that contains `path`."""
  if is_bucket(path):
    with buckets.bucket_errors(path):
      yield
    return
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    raise UserError(f"{os.fspath(path)} cannot be written: {reason}; free space or choose another folder") from error


def check_writable(text: str | None, flag: str, *, suffix: str = "") -> pathlib.Path | None:
  """The path of an output file, whose folder may be missing; None if the flag is not set.

  Raises:
    UserError: before the content is computed, if the file cannot be written or has another suffix.
  """
  if not text:
    return None
  path = local_path(text, flag)
  if suffix and path.suffix != suffix:
    raise UserError(f"{flag}={path} must end in {suffix}")
  folder = next(parent for parent in path.absolute().parents if parent.exists())
  if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
    raise UserError(f"{flag}={path} cannot be written; choose another file")
  return path


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, held: str) -> Generator[None]:
  """Holds a lock file in an existing folder for its block; the operating system releases it when the process ends.

  On file systems without locks it logs a warning and locks nothing. In a bucket it does not lock either, but the file
  exists while the block runs, so that a second process can log who else may be writing. A local file stays.

  Raises:
    UserError: if another process holds the lock; the message is `held` and this process.
    OSError: if the file cannot be written.
  """
  path = user_path(path)
  if not isinstance(path, pathlib.Path):
    with _announced(path):
      yield
    return
  with path.open("a+") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      lock.seek(0)
      raise UserError(f"{held} ({lock.read().strip() or 'unknown'})") from error
    except OSError as error:
      if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
        raise
      remedy = "make sure that no other process uses this folder"
      logging.warning("%s cannot be locked (%s); %s", path, error.strerror, remedy)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    yield


@contextlib.contextmanager
def _announced(path: epath.Path) -> Generator[None]:
  holder = (buckets.read_text(path) or "").strip()
  found = f" ({holder} started, and is running or was killed)" if holder else ""
  logging.warning("%s does not lock; make sure that no other process uses this folder%s", path, found)
  now = datetime.datetime.now(datetime.UTC)
  own = f"process {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S} UTC"
  _write(path, own)
  try:
    yield
  finally:
    with contextlib.suppress(UserError):
      if buckets.read_text(path) == own:
        buckets.delete_folder(path)


def _write(path: str | os.PathLike[str], text: str) -> None:
  with atomic_write(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def append_text(path: str | os.PathLike[str], text: str) -> None:
  """Appends to a file, on a new line; creates it and its folder if they are missing.

  Processes may append to a local file at the same time: each text is written at once.
  In a bucket the whole file is rewritten: if two processes append at the same time, one text may be lost.
  """
  path = user_path(path)
  if not isinstance(path, pathlib.Path):
    _write(path, (buckets.read_text(path) or "") + text)
    return
  with disk_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
      # A killed process may leave an incomplete line, which would swallow the first line of the text.
      is_complete = not file.seek(0, os.SEEK_END) or (file.seek(-1, os.SEEK_END), file.read())[1] == b"\n"
      file.write(("" if is_complete else "\n").encode() + text.encode())


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Generator[pathlib.Path]:
  """Writes a file atomically: yields a temporary path, which is renamed to `path` on success and removed on failure.

  `path` is local or in a bucket, and its folder is created. The temporary path is local and has the same suffix.
  """
  path = user_path(path)
  if not isinstance(path, pathlib.Path):
    with tempfile.TemporaryDirectory() as folder:
      yield pathlib.Path(folder) / path.name
      buckets.upload(pathlib.Path(folder) / path.name, path)
    return
  temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
  with disk_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      yield temporary
      temporary.replace(path)
    finally:
      # Fails after the rename, and on a full or read-only disk, whose first error must not be hidden.
      with contextlib.suppress(OSError):
        temporary.unlink()


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
  """Writes a JSON file with `atomic_write`."""
  _write(path, json.dumps(values, indent=2) + "\n")


@contextlib.contextmanager
def atomic_write_dir(path: str | os.PathLike[str], *, overwrite: bool, marker: str) -> Generator[pathlib.Path]:
  """Writes a folder atomically: yields a temporary folder, renamed to `path` on success and removed on failure.

  In a bucket the folder is uploaded, `marker` last. An empty folder is replaced; with `overwrite` also one that has the
  file `marker`, which identifies folders of this kind.
  """
  path = user_path(path)
  if isinstance(path, pathlib.Path):
    path = path.expanduser().resolve()
  _refuse_replacing(path, overwrite=overwrite, marker=marker)
  if not isinstance(path, pathlib.Path):
    with tempfile.TemporaryDirectory() as folder:
      yield pathlib.Path(folder)
      buckets.delete_folder(path)
      buckets.upload_folder(pathlib.Path(folder), path, last=marker)
    return
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced")
  with disk_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      temporary.mkdir()
      yield temporary
      if path.exists():
        path.rename(replaced)
      temporary.rename(path)
    finally:
      if replaced.exists() and not path.exists():
        replaced.rename(path)
      for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def staged_upload_dir(path: str | os.PathLike[str]) -> Generator[pathlib.Path]:
  """Yields a local folder for libraries that write files: `path`, or a temporary folder if `path` is in a bucket.

  Files of a temporary folder are uploaded at the end, also after an error.
  """
  path = user_path(path)
  if isinstance(path, pathlib.Path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    try:
      yield pathlib.Path(folder)
    finally:
      buckets.upload_folder(pathlib.Path(folder), path)


def _refuse_replacing(path: AnyPath, *, overwrite: bool, marker: str) -> None:
  if not isinstance(path, pathlib.Path):
    found = buckets.names(path)
    is_free, is_own = not found, marker in found
  else:
    is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    is_own = (path / marker).is_file()
  if is_free:
    return
  if not is_own:
    raise UserError(f"{path} exists without {marker}, so this command did not write it; choose another folder")
  if not overwrite:
    raise UserError(f"{path} exists; choose another folder or replace it with --overwrite")
