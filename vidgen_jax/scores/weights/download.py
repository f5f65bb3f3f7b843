"""Downloads of published files over HTTP: complete and with the expected hash, or not at all."""

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidgen_jax.errors import UserError
from vidgen_jax.files import disk_errors
from vidgen_jax.scores.weights.arrays import file_hashes
from vidgen_jax.scores.weights.sources import PublishedFile

_CHUNK = 1 << 20  # bytes
_BROKEN = (TimeoutError, ConnectionError, ssl.SSLError, ValueError)  # ValueError: an address that is none


def hash_problem(file: PublishedFile, sha256: str, git_blob_sha1: str) -> str:
  """How the hashes of a file differ from those of the published file, in words; '' if they agree or it has none."""
  if file.sha256 and not sha256.startswith(file.sha256.lower()):
    return f"has SHA-256 {sha256}, expected {file.sha256}"
  if file.git_blob_sha1 and git_blob_sha1 != file.git_blob_sha1:
    return f"has git blob {git_blob_sha1}, expected {file.git_blob_sha1}"
  return ""


def download(file: PublishedFile, folder: Path, *, timeout: float = 60.0) -> Path:
  """Downloads a file into a folder, with a progress bar on a terminal; returns its path.

  A file with the recorded hash that is already there is not downloaded again. The rest of an interrupted download is
  requested if a hash is recorded, by which the whole can be verified; otherwise the download starts again.

  Args:
    file: address, and hashes to verify.
    folder: folder for the file, which is created.
    timeout: seconds without an answer after which the download ends.

  Raises:
    UserError: if the server does not answer, answers with an error or a web page, or ends early, if the hash differs,
      or the disk is full; no file with this name remains then.
  """
  path, part = folder / file.name, folder / f"{file.name}.part"
  with disk_errors(path):
    folder.mkdir(parents=True, exist_ok=True)
    if file.expected_hash and path.exists() and not hash_problem(file, *file_hashes(path)):
      return path
    if not file.expected_hash:
      part.unlink(missing_ok=True)
    try:
      _receive(file.url, part, timeout=timeout)
    except urllib.error.HTTPError as error:
      error.close()
      part.unlink(missing_ok=True)
      raise _failure(file, f"HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, *_BROKEN) as error:
      raise _failure(file, str(getattr(error, "reason", error)) or type(error).__name__) from error
    if file.expected_hash and (problem := hash_problem(file, *file_hashes(part))):
      part.unlink()
      raise UserError(f"{file.url} {problem}: another file or a damaged download; run the command again")
    part.replace(path)
  return path


def _failure(file: PublishedFile, reason: str) -> UserError:
  reason = " ".join(reason.split())
  return UserError(
    f"{file.url} cannot be downloaded: {reason}; run the command again, or download {file.name} in a browser and give "
    "--from=FILE"
  )


def _receive(url: str, part: Path, *, timeout: float) -> None:
  """Appends the missing bytes to `part`; raises ConnectionError if the answer ends early."""
  done = part.stat().st_size if part.exists() else 0
  headers = {"User-Agent": "vidgen-jax"} | ({"Range": f"bytes={done}-"} if done else {})
  with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
    if "text/html" in response.headers.get("Content-Type", ""):
      raise ConnectionError("the answer is a web page and not a file")
    if response.status != http.client.PARTIAL_CONTENT:
      done = 0  # The server sends the whole file.
    length = response.headers.get("Content-Length")
    total = done + int(length) if length else None
    options: dict[str, Any] = {"desc": part.stem, "unit": "B", "unit_scale": True, "disable": None}
    with part.open("ab" if done else "wb") as out, tqdm(total=total, initial=done, **options) as bar:
      while chunk := response.read(_CHUNK):
        out.write(chunk)
        bar.update(len(chunk))
  if total is not None and (found := part.stat().st_size) < total:
    raise ConnectionError(f"the connection ended after {found:,} of {total:,} bytes")
