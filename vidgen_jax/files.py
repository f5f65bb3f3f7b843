"""Files that appear whole or not at all, and disk errors in one line."""

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
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from vidgen_jax import buckets
from vidgen_jax.buckets import AnyPath, is_bucket, local_path, user_path
from vidgen_jax.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns an `OSError` of its block into a `UserError` that names the file.

  Args:
    path: the file that is written.

  Raises:
    UserError: in place of an OSError (read-only folder, full disk, a file where a folder should be, ...), or of what a
      bucket answers.
  """
  if is_bucket(path):
    with buckets.bucket_errors(path):
      yield
    return
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    raise UserError(f"{os.fspath(path)} cannot be written: {reason}; free space or choose another folder") from error


def check_writable(path: str | os.PathLike[str], flag: str) -> None:
  """Checks that a file can be written, before minutes are spent on what it shall hold.

  Args:
    path: of the file; its folder may be missing.
    flag: that gave it, for the message.

  Raises:
    UserError: if it cannot.
  """
  path = local_path(path, flag)
  folder = next(parent for parent in path.absolute().parents if parent.exists())
  if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
    raise UserError(f"{flag}={path} cannot be written; choose another file")


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, held: str) -> Iterator[None]:
  """Holds a lock file for its block; the system lets go of it however the process ends.

  Where the file system has no locks, as some that stand for buckets, a warning is logged and nothing is held. In a
  bucket the file is there as long as the block runs, so that the warning can tell who else may be at work.

  Args:
    path: the file; its folder exists. It stays (not in a bucket), and names its last holder.
    held: says what it means that another process holds it, and what to do.

  Raises:
    UserError: if another process holds it, naming that process and its host.
    OSError: if the file cannot be written.
  """
  if is_bucket(path := user_path(path)):
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
      if error.errno not in _NO_LOCKS:
        raise
      logging.warning("%s cannot be locked (%s): see to it that no other process works there", path, error.strerror)
    lock.truncate(0)
    lock.write(_this_process() + "\n")
    lock.flush()
    yield


def _this_process() -> str:
  return f"process {os.getpid()} on {socket.gethostname()}"


@contextlib.contextmanager
def _announced(path: AnyPath) -> Iterator[None]:
  """Names this process in an object while its block runs; warns, with the name of another one that is found there."""
  holder = (buckets.read_text(path) or "").strip()
  found = f": {holder} did, and still does or was killed" if holder else ""
  logging.warning("%s locks nothing: see to it that no other process works there%s", path, found)
  own = f"{_this_process()} since {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
  _write(path, own)
  try:
    yield
  finally:
    with contextlib.suppress(UserError):
      if buckets.read_text(path) == own:
        buckets.delete_folder(path)


def _write(path: AnyPath, text: str) -> None:
  with atomic_write(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def append_text(path: str | os.PathLike[str], text: str) -> None:
  """Appends to a file, which is created with its folder if need be.

  In a bucket the whole file is read and written anew: of two processes that do so at once, one may lose its text.

  Raises:
    UserError: if it cannot be written.
  """
  path = user_path(path)
  if is_bucket(path):
    _write(path, (buckets.read_text(path) or "") + text)
    return
  with disk_errors(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
      file.write(text)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

  The folder is created. The temporary name keeps the suffix, from which Pillow tells the format.

  Args:
    path: the file that is to appear. If it lies in a bucket, the temporary one is local, and is uploaded.

  Yields:
    The path to write to.

  Raises:
    UserError: if the disk does not allow it.
  """
  path = user_path(path)
  if is_bucket(path):
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
      # After the rename there is nothing left to remove; and a full or read-only disk must not hide the first error.
      with contextlib.suppress(OSError):
        temporary.unlink()


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
  """Writes a JSON file with `atomic_write`.

  Raises:
    UserError: the file cannot be written.
  """
  with atomic_write(path) as temporary:
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def atomic_write_dir(path: str | os.PathLike[str], *, overwrite: bool, marker: str) -> Iterator[pathlib.Path]:
  """Gives a temporary folder beside `path`; on success it is renamed to `path`, on failure removed.

  Args:
    path: the folder that is to appear. An empty folder of that name is replaced. If it lies in a bucket, the temporary
      one is local, and is uploaded, `marker` last.
    overwrite: whether a folder that holds something may be replaced, if it holds `marker` too.
    marker: a file by which a folder of the same kind is told from others, which are never replaced.

  Yields:
    The folder to write to.

  Raises:
    UserError: if there is a folder that must not be replaced, or the disk does not allow it.
  """
  path = user_path(path)
  if is_bucket(path):
    _refuse_replacing(path, overwrite=overwrite, marker=marker)
    with tempfile.TemporaryDirectory() as folder:
      yield pathlib.Path(folder)
      buckets.delete_folder(path)
      buckets.upload_folder(pathlib.Path(folder), path, last=marker)
    return
  path = path.expanduser().resolve()
  _refuse_replacing(path, overwrite=overwrite, marker=marker)
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
def staged_upload_dir(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a local folder for files that libraries write in their own way: `path` itself, if it is local.

  For a bucket it is a temporary one, whose files are uploaded at the end, also after an error.

  Raises:
    UserError: if the bucket cannot be written.
  """
  path = user_path(path)
  if not is_bucket(path):
    yield path
    return
  with tempfile.TemporaryDirectory() as folder:
    try:
      yield pathlib.Path(folder)
    finally:
      buckets.upload_folder(pathlib.Path(folder), path)


def _refuse_replacing(path: AnyPath, *, overwrite: bool, marker: str) -> None:
  if is_bucket(path):
    found = buckets.names(path)
    is_free, is_own = not found, marker in found
  else:
    is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    is_own = (path / marker).is_file()
  if is_free:
    return
  if not is_own:
    raise UserError(f"{path} exists and is not of this command's making (it holds no {marker}); choose another folder")
  if not overwrite:
    raise UserError(f"{path} exists; choose another folder or replace it with --overwrite")
