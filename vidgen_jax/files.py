"""Files that appear whole or not at all, and disk errors in one line."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import socket
from collections.abc import Iterator

from absl import logging

from vidgen_jax.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns an `OSError` of its block into a `UserError` that names the file.

  Args:
    path: the file that is written.

  Raises:
    UserError: in place of an OSError (read-only folder, full disk, a file where a folder should be, ...).
  """
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    raise UserError(f"{os.fspath(path)} cannot be written: {reason}; free space or choose another folder") from error


def check_writable(path: pathlib.Path, flag: str) -> None:
  """Checks that a file can be written, before minutes are spent on what it shall hold.

  Args:
    path: of the file; its folder may be missing.
    flag: that gave it, for the message.

  Raises:
    UserError: if it cannot.
  """
  folder = next(parent for parent in path.absolute().parents if parent.exists())
  if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
    raise UserError(f"{flag}={path} cannot be written; choose another file")


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, held: str) -> Iterator[None]:
  """Holds a lock file for its block; the system lets go of it however the process ends.

  Where the file system has no locks, as some that stand for buckets, a warning is logged and nothing is held.

  Args:
    path: the file; its folder exists. It stays, and names its last holder.
    held: says what it means that another process holds it, and what to do.

  Raises:
    UserError: if another process holds it, naming that process and its host.
    OSError: if the file cannot be written.
  """
  with pathlib.Path(path).open("a+") as lock:
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
    lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    yield


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

  The folder is created. The temporary name keeps the suffix, from which Pillow tells the format.

  Args:
    path: the file that is to appear.

  Yields:
    The path to write to.

  Raises:
    UserError: if the disk does not allow it.
  """
  path = pathlib.Path(path)
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


@contextlib.contextmanager
def written_whole_folder(path: str | os.PathLike[str], *, overwrite: bool, marker: str) -> Iterator[pathlib.Path]:
  """Gives a temporary folder beside `path`; on success it is renamed to `path`, on failure removed.

  Args:
    path: the folder that is to appear. An empty folder of that name is replaced.
    overwrite: whether a folder that holds something may be replaced, if it holds `marker` too.
    marker: a file by which a folder of the same kind is told from others, which are never replaced.

  Yields:
    The folder to write to.

  Raises:
    UserError: if there is a folder that must not be replaced, or the disk does not allow it.
  """
  path = pathlib.Path(path).expanduser().resolve()
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


def _refuse_replacing(path: pathlib.Path, *, overwrite: bool, marker: str) -> None:
  if not path.exists() or (path.is_dir() and not any(path.iterdir())):
    return
  if not (path / marker).is_file():
    raise UserError(f"{path} exists and is not of this command's making (it holds no {marker}); choose another folder")
  if not overwrite:
    raise UserError(f"{path} exists; choose another folder or replace it with --overwrite")
