"""From the name of published weights to the arrays of their file: download or local file, hash first."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import NamedTuple

from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import SourceArrays, file_hashes, read_arrays
from vidgen_jax.scores.weights.download import download, hash_problem
from vidgen_jax.scores.weights.sources import EXTRA, SOURCES, PublishedFile, PublishedWeights, is_url


class FetchedWeights(NamedTuple):
  """Files of published weights, with verified hashes where they are known."""

  source: SourceArrays
  """Arrays of the weights."""
  mean: Path | None
  """File of the mean volume, for C3D."""
  heads: Path | None
  """File of the last layers, if they are published separately."""


def fetch(
  published: PublishedWeights,
  folder: Path,
  *,
  origin: str | None = None,
  mean: str | None = None,
  heads: str | None = None,
  sha256: str = "",
) -> FetchedWeights:
  """Downloads published weights, or takes a file that the user has, and verifies the hash before reading the arrays.

  Args:
    published: the weights.
    folder: folder for downloads.
    origin: address or path of the weights; None for the recorded address. Of weights in several files it is the folder
      on the web that holds them, or the local checkpoint.
    mean: address or path of the mean volume; None for the recorded address.
    heads: likewise for the last layers.
    sha256: expected SHA-256, or its first digits, of weights in one file; it replaces the recorded hash.

  Raises:
    UserError: if a package is missing, no address is known, the download fails, a hash differs, or the file cannot be
      read.
  """
  files = published.files
  if published.library and importlib.util.find_spec(published.library) is None:
    other = next((s.name for s in SOURCES if s.network == published.network and not s.library), "")
    remedy = f"; {other} needs no further package" if other else ""
    raise UserError(f"{published.name} needs {published.library}: {EXTRA}{remedy}")
  if sha256:
    if len(files) > 1:
      raise UserError(f"--sha256 applies to weights in one file; {published.name} has {len(files)}, with known hashes")
    files = (dataclasses.replace(files[0], sha256=sha256, git_blob_sha1=""),)
  if origin and is_url(origin):
    root = origin.rstrip("/")
    files = tuple(dataclasses.replace(f, url=f"{root}/{f.name}" if len(files) > 1 else origin) for f in files)
  if origin is None or is_url(origin):
    paths = [_downloaded(file, published, folder) for file in files]
    source = read_arrays(paths[-1])
  else:
    path = Path(origin).expanduser()
    if path.is_file() and len(files) == 1:
      _verify(path, files[0])
    source = read_arrays(path)
    if len(files) > 1 and (problem := hash_problem(files[-1], source.sha256, source.git_blob_sha1)):
      raise UserError(_other_file(path, problem))

  second = ((published.mean, mean), (published.heads, heads))
  return FetchedWeights(source, *(_second_file(file, given, published, folder) for file, given in second))


def _second_file(
  file: PublishedFile | None, given: str | None, published: PublishedWeights, folder: Path
) -> Path | None:
  """The mean volume or the heads from a path or address of the user or from where they are published."""
  if file is None:
    return None
  if given and not is_url(given):
    path = Path(given).expanduser()
    if path.is_file():  # The importer reports missing files.
      _verify(path, file)
    return path
  return _downloaded(dataclasses.replace(file, url=given) if given else file, published, folder)


def _downloaded(file: PublishedFile, published: PublishedWeights, folder: Path) -> Path:
  if not file.url:
    raise UserError(
      f"no address of {file.name} itself is known; download it from {published.page} in a browser and give --from=FILE"
    )
  logging.info("downloading %s", file.url)
  path = download(file, folder)
  _state_hash(path, file)
  return path


def _verify(path: Path, file: PublishedFile) -> None:
  if file.expected_hash and (problem := hash_problem(file, *file_hashes(path))):
    raise UserError(_other_file(path, problem))
  _state_hash(path, file)


def _other_file(path: Path, problem: str) -> str:
  return (
    f"{path} {problem}: another file or damaged; download it again, or import another file with `vidgen weights import`"
  )


def _state_hash(path: Path, file: PublishedFile) -> None:
  if file.expected_hash:
    logging.info("%s has the expected hash, %s", path.name, file.expected_hash)
  else:
    logging.warning(
      "no hash of %s is recorded; compare its SHA-256 with the publisher's: %s", path.name, file_hashes(path)[0]
    )
