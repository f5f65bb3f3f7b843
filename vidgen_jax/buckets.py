"""Paths as users write them: of this machine's file systems, or `gs://BUCKET/...`. The only module that knows gcsfs.

A bucket holds objects, each written whole: it has no append, no rename, no links, no locks, and folders only by name.
"""

import contextlib
import importlib.util
import mimetypes
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from vidgen_jax.errors import UserError

AnyPath = pathlib.Path | epath.Path
"""A local path, or one in a bucket; both have pathlib's methods."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def is_url(text: str) -> bool:
  """Whether it has a scheme, as gs://bucket/run has; also if a slash was lost, as in gs:/bucket/run."""
  return _SCHEME.match(text) is not None


def user_path(path: str | os.PathLike[str]) -> AnyPath:
  """A path that a user gave, or one below it: the one way in which workdirs become paths.

  Args:
    path: local, or gs://BUCKET/NAME.

  Returns:
    `pathlib.Path` where it is local, `epath.Path` where it lies in a bucket.

  Raises:
    UserError: for a URL of another kind, or if gcsfs is not installed and needed.
  """
  text = os.fspath(path)
  if not is_url(text):
    return pathlib.Path(path)
  if not re.match(r"gs://[^/]+(/|$)", text):
    raise UserError(f"{text} cannot be used: give a local path or gs://BUCKET/NAME, the one kind of URL that is known")
  _filesystem(text)
  return epath.Path(text)


def local_path(path: str | os.PathLike[str], flag: str) -> pathlib.Path:
  """A path that a user gave and that must be local.

  Args:
    path: as it was given.
    flag: that gave it, for the message; '' for an argument without one.

  Raises:
    UserError: if it is a URL.
  """
  text = os.fspath(path)
  if is_url(text):
    raise UserError(
      f"{flag}{'=' if flag else ''}{text} must be a local path; only runs may lie in a bucket: copy or mount the rest"
    )
  return pathlib.Path(path)


def is_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether a path, which `user_path` accepts, lies in a bucket."""
  return is_url(os.fspath(path))


@contextlib.contextmanager
def bucket_errors(path: str | os.PathLike[str], *, what: str = "written") -> Iterator[None]:
  """Turns what a bucket answers, or that it does not, into a `UserError`.

  gcsfs has tried for about a minute by then, unless the answer was final.

  Args:
    path: in the bucket.
    what: was to be done: 'written', 'read'.

  Raises:
    UserError: naming the path and the reason.
  """
  import aiohttp
  import gcsfs.retry
  import google.auth.exceptions
  import requests

  failures = (
    *(OSError, ValueError, gcsfs.retry.HttpError, gcsfs.retry.NonRetryableError),
    *(aiohttp.ClientError, requests.RequestException, google.auth.exceptions.GoogleAuthError),
  )
  try:
    yield
  except failures as error:
    reason = "there is no such bucket" if isinstance(error, FileNotFoundError) else str(error).strip()
    reason = " ".join((reason or type(error).__name__).split())[:300]
    raise UserError(f"{os.fspath(path)} cannot be {what}: {reason}; check the bucket's name and rights") from error


def read_text(path: AnyPath) -> str | None:
  """The text of a small file; None if there is none.

  Raises:
    UserError: if a bucket does not answer, or refuses.
    OSError: if a local file cannot be read.
  """
  try:
    if not is_bucket(path):
      return path.read_text(encoding="utf-8")
    with bucket_errors(path, what="read"):
      with contextlib.suppress(FileNotFoundError):
        return _filesystem(path).cat_file(os.fspath(path)).decode()
      return None
  except (FileNotFoundError, NotADirectoryError):
    return None


def upload(source: pathlib.Path, target: epath.Path) -> None:
  """Copies a local file into a bucket, where it appears whole.

  Raises:
    UserError: if it cannot be written.
  """
  with bucket_errors(target):
    # Read at once: a file of metrics may grow meanwhile.
    kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    _filesystem(target).pipe_file(os.fspath(target), source.read_bytes(), content_type=kind)


def upload_folder(source: pathlib.Path, target: epath.Path, *, last: str = "") -> None:
  """Copies a local folder's files into a bucket.

  Args:
    source: the folder.
    target: where its files go.
    last: name of the file that says that all others are there.

  Raises:
    UserError: if one cannot be written.
  """
  files = sorted(path for path in source.rglob("*") if path.is_file())
  for path in sorted(files, key=lambda path: path == source / last):
    upload(path, target / path.relative_to(source).as_posix())


def names(folder: epath.Path) -> set[str]:
  """The names of all objects below a folder, without its own."""
  prefix = os.fspath(folder).removeprefix("gs://") + "/"
  with bucket_errors(folder, what="read"):
    return {name.removeprefix(prefix) for name in _filesystem(folder).find(prefix) if name.startswith(prefix)}


def copy_folder(source: epath.Path, target: epath.Path, *, last: str = "") -> bool:
  """Copies a folder within its bucket; its content does not come through this machine.

  Args:
    source: the folder.
    target: where its objects go.
    last: name of the object that says that all others are there.

  Returns:
    False if an object went in the meantime.

  Raises:
    UserError: if it cannot be copied.
  """
  ordered = sorted(names(source), key=lambda name: (name == last, name))
  return all(copy_file(source / name, target / name) for name in ordered)


def copy_file(source: epath.Path, target: epath.Path) -> bool:
  """Copies one object within its bucket, as `copy_folder` does."""
  with bucket_errors(target):
    try:
      _filesystem(source).cp_file(os.fspath(source), os.fspath(target))
    except FileNotFoundError:
      return False
  return True


def delete_folder(folder: epath.Path) -> None:
  """Deletes everything below a folder, if there is anything.

  Raises:
    UserError: if it cannot be deleted.
  """
  with bucket_errors(folder), contextlib.suppress(FileNotFoundError):
    _filesystem(folder).rm(os.fspath(folder), recursive=True)


def _filesystem(path: str | os.PathLike[str]) -> Any:
  """The client, the same that epath and with it orbax use."""
  if importlib.util.find_spec("gcsfs") is None:
    raise UserError(f"{os.fspath(path)} needs gcsfs: install vidgen_jax with the extra [gcs], or `pip install gcsfs`")
  import fsspec

  # What was listed once must not hide what other processes have written since then.
  fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
  return fsspec.filesystem("gcs", finalize_on_close=True)
