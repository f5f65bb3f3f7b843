"""Files that appear whole or not at all, and disk errors in one line."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from vidgen_jax.errors import UserError


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
