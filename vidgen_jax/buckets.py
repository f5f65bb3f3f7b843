"""Local paths and `gs://BUCKET/...` paths. The only module that uses gcsfs.

A bucket contains objects that are written as a whole: no append, no rename, no links, no locks; folders are name
prefixes. Errors of a bucket are a UserError.
"""

import contextlib
import importlib.util
import mimetypes
import os
import pathlib
import re
from collections.abc import Generator
from typing import Any

from etils import epath

from vidgen_jax.errors import UserError

# A cached listing would hide objects that other processes wrote later. fsspec reads this when it is imported, so that
# it also holds for the client of epath, which JAX may create before this module does.
os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')

AnyPath = pathlib.Path | epath.Path
"""A local path, or a path in a bucket; both have pathlib's methods."""


def user_path(path: str | os.PathLike[str]) -> AnyPath:
  """Converts a path from the user: `pathlib.Path` for a local path, `epath.Path` for gs://BUCKET/NAME.

  Raises:
    UserError: for another kind of URL, or if gcsfs is needed and not installed.
  """
  text = os.fspath(path)
  if not is_bucket(text):
    return pathlib.Path(path)
  if not re.match(r"gs://[^/]+(/|$)", text):
    raise UserError(f"{text} is not supported; use a local path or gs://BUCKET/NAME")
  _filesystem(text)
  return epath.Path(text)


def local_path(path: str | os.PathLike[str], flag: str) -> pathlib.Path:
  """Converts a path from a flag ('' for a positional argument); UserError if it is a URL."""
  if is_bucket(path):
    raise UserError(f"{flag}{'=' if flag else ''}{os.fspath(path)} must be a local path; only runs can be in a bucket")
  return pathlib.Path(path)


def is_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether a path has a scheme, such as gs://bucket/run; also with one slash, as in gs:/bucket/run."""
  return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)) is not None


@contextlib.contextmanager
def bucket_errors(path: str | os.PathLike[str], *, what: str = "written") -> Generator[None]:
  """Converts errors of a bucket within its block to a `UserError`; `what` is the failed operation, 'written' or 'read'.

  gcsfs retries for about a minute before it raises a temporary error.
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
    reason = "the bucket does not exist" if isinstance(error, FileNotFoundError) else str(error).strip()
    reason = " ".join((reason or type(error).__name__).split())[:300]
    raise UserError(f"{os.fspath(path)} cannot be {what}: {reason}; check its name and permissions") from error


def read_text(path: AnyPath) -> str | None:
  """The text of a small file; None if it does not exist. An unreadable local file is an OSError."""
  if not is_bucket(path):
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      return path.read_text(encoding="utf-8")
    return None
  with bucket_errors(path, what="read"), contextlib.suppress(FileNotFoundError):
    return _filesystem(path).cat_file(os.fspath(path)).decode()
  return None


def upload(source: pathlib.Path, target: epath.Path) -> None:
  """Uploads a local file to a bucket, atomically."""
  with bucket_errors(target):
    # Read as a whole, because a file of metrics may grow during the upload.
    kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    _filesystem(target).pipe_file(os.fspath(target), source.read_bytes(), content_type=kind)


def upload_folder(source: pathlib.Path, target: epath.Path, *, last: str = "") -> None:
  """Uploads the files of a local folder to a bucket; `last` is the name of the file that marks it as complete."""
  files = sorted(path for path in source.rglob("*") if path.is_file())
  for path in sorted(files, key=lambda path: path == source / last):
    upload(path, target / path.relative_to(source).as_posix())


def names(folder: epath.Path) -> set[str]:
  """Names of all objects in a folder and its subfolders, relative to the folder."""
  prefix = os.fspath(folder).removeprefix("gs://") + "/"
  with bucket_errors(folder, what="read"):
    return {name.removeprefix(prefix) for name in _filesystem(folder).find(prefix) if name.startswith(prefix)}


def copy_folder(source: epath.Path, target: epath.Path, *, last: str = "") -> bool:
  """Copies a folder within its bucket, `last` at the end; returns False if an object was deleted meanwhile."""
  ordered = sorted(names(source), key=lambda name: (name == last, name))
  return all(copy_file(source / name, target / name) for name in ordered)


def copy_file(source: epath.Path, target: epath.Path) -> bool:
  """Copies an object within its bucket; False if it does not exist."""
  with bucket_errors(target), contextlib.suppress(FileNotFoundError):
    _filesystem(source).cp_file(os.fspath(source), os.fspath(target))
    return True
  return False


def delete_folder(folder: epath.Path) -> None:
  """Deletes a folder if it exists."""
  with bucket_errors(folder), contextlib.suppress(FileNotFoundError):
    _filesystem(folder).rm(os.fspath(folder), recursive=True)


def _filesystem(path: str | os.PathLike[str]) -> Any:
  """The client that epath and orbax use too."""
  if importlib.util.find_spec("gcsfs") is None:
    raise UserError(f"{os.fspath(path)} needs gcsfs: install vidgen_jax with the extra [gcs], or `pip install gcsfs`")
  import fsspec
  import fsspec.config

  # If fsspec was imported before this module, or the variable has another value.
  fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
  return fsspec.filesystem("gcs", finalize_on_close=True)
