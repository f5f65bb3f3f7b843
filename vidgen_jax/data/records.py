"""The stored form of a clip, and writing a data set so that it is either complete or not there.

A data set is a folder `<data_dir>/<name>/1.0.0` with TFDS's ArrayRecord shards, `manifest.json` and, for each split,
`index-<split>.npz`: 'num_frames' and 'label', both int32, of every clip in record order, so that short clips are known
without reading them. The manifest lists the size and the SHA-256 of every other file. Everything is written beside
it, under `<data_dir>/.incomplete/<name>`, and moved into place by one rename.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.proto import tf_example_pb2

from vidgen_jax.errors import UserError
from vidgen_jax.files import locked

VERSION = "1.0.0"
"""Version of the record layout."""

MANIFEST = "manifest.json"
"""Name of the file that lists where the clips came from, and under 'files' what all other files are like."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """One record.

  Attributes:
    frames: JPEG or PNG bytes of each frame.
    label: index into the class names.
    fps: frames per second; 0 where the source does not say.
    source: where it came from: path within the source, or how it was generated.
    height: pixels of the stored frames.
    width: pixels of the stored frames.
  """

  frames: Sequence[bytes]
  label: int
  fps: float
  source: str
  height: int
  width: int


class ClipDatasetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS builder whose records are clips of separately encoded frames.

  Args:
    name: name of the data set.
    data_dir: folder that TFDS writes `<name>/1.0.0` into.
    class_names: names of the labels.
    description: one line that says what the clips are.
    splits: for each split, a function that yields (unique key, clip).
  """

  VERSION = tfds.core.Version(VERSION)
  # TFDS would look beside this file for checksums, with a package (importlib_resources) that it does not require.
  code_path = None

  def __init__(
    self,
    *,
    name: str,
    data_dir: Path,
    class_names: Sequence[str],
    description: str,
    splits: Mapping[str, Callable[[], Iterator[tuple[str, Clip]]]],
  ):
    self.name = name
    self._class_names = list(class_names)
    self._description = description
    self._clips = splits
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "frames": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.bytes_)),
      "label": tfds.features.ClassLabel(names=self._class_names),
      "fps": tfds.features.Scalar(np.float32),
      "source": tfds.features.Text(),
      "height": tfds.features.Scalar(np.int32),
      "width": tfds.features.Scalar(np.int32),
    }
    return tfds.core.DatasetInfo(
      builder=self, description=self._description, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
    del dl_manager
    return {split: self._generate_examples(split) for split in self._clips}

  def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, clip in self._clips[split]():
      yield key, as_example(clip)

  @property
  def download_config(self) -> tfds.download.DownloadConfig | None:
    """How TFDS shall prepare the data set; None for its defaults."""
    return None

  def _example_writer(self) -> tfds_writer.ExampleWriter:
    return _DeterministicWriter(self.info.file_format)


def as_example(clip: Clip) -> dict[str, Any]:
  """What TFDS encodes."""
  return {field.name: getattr(clip, field.name) for field in dataclasses.fields(Clip)}


class _DeterministicWriter(tfds_writer.ExampleWriter):
  """Writes the features of a record in the order of their names.

  They are a map, which protocol buffers write in another order in every process, unless told otherwise.
  """

  def write(self, path: Path, examples: Iterable[tuple[Any, bytes]]) -> Any:
    return super().write(path, ((key, self._sorted(example)) for key, example in examples))

  def _sorted(self, example: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(example).SerializeToString(deterministic=True)


def dataset_directory(name: str, data_dir: str | Path) -> Path:
  """The folder of a complete data set, whether or not it is there."""
  return Path(data_dir).expanduser() / name / VERSION


def staging_directory(name: str, data_dir: str | Path) -> Path:
  """The folder that an unfinished build works in."""
  return Path(data_dir).expanduser() / ".incomplete" / name


def index_file(split: str) -> str:
  """Name of the file that holds the length and label of every clip of a split."""
  return f"index-{split}.npz"


@contextlib.contextmanager
def user_errors_for_writing(directory: Path) -> Iterator[None]:
  """Turns a read-only folder, a full disk and the like into one line that names the folder."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f"cannot write the data set under {directory}: {error.strerror or error}; choose another --data_dir or make room"
    ) from error


@contextlib.contextmanager
def exclusive_build(name: str, data_dir: str | Path, *, overwrite: bool) -> Iterator[Path]:
  """Holds the staging folder of a data set for one build.

  Args:
    name: name of the data set.
    data_dir: folder of all data sets.
    overwrite: whether a data set of that name may be replaced.

  Yields:
    The staging folder, created; it stays when the build fails, so that the next one can continue.

  Raises:
    UserError: if the name is unusable, the data set is there already, or another process is building it.
  """
  if not name or not name.replace("_", "").replace("-", "").isalnum():
    raise UserError(f"--name must consist of letters, digits, '_' and '-', got {name!r}")
  final = dataset_directory(name, data_dir)
  if final.exists() and not overwrite:
    raise UserError(
      f"data set {name!r} is already built at {final}; pass --overwrite to build it again, or another --name"
    )
  staging = staging_directory(name, data_dir)
  with user_errors_for_writing(Path(data_dir).expanduser()):
    staging.mkdir(parents=True, exist_ok=True)
    with locked(
      staging / "lock", held=f"another process is building data set {name!r} in {staging}; wait for it to end"
    ):
      try:
        yield staging
      finally:
        _tidy(staging)


def write_dataset(
  make_builder: Callable[[Path], ClipDatasetBuilder],
  *,
  name: str,
  data_dir: str | Path,
  manifest: Callable[[Mapping[str, int]], Mapping[str, Any]],
) -> Path:
  """Writes the records and moves them into place; call it within `exclusive_build`.

  Args:
    make_builder: makes the builder, given the folder that it shall write into.
    name: name of the data set.
    data_dir: folder of all data sets.
    manifest: gives the manifest, once the number of clips of each split is known; 'files' is added to it.

  Returns:
    The folder of the complete data set.
  """
  staging, final = staging_directory(name, data_dir), dataset_directory(name, data_dir)
  records = staging / "records"
  shutil.rmtree(records, ignore_errors=True)
  builder = make_builder(records)
  tfds.disable_progress_bar()
  # TFDS announces on stdout where it writes, which is not where the data set will be.
  with _array_record_errors_as_os_errors(), contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(download_dir=staging / "downloads", download_config=builder.download_config)
  written = records / name / VERSION
  num_clips = {}
  for split in builder.info.splits:
    source = builder.as_data_source(split=split)
    facts = [(len(record["frames"]), record["label"]) for record in map(source.__getitem__, range(len(source)))]
    num_frames, labels = np.array(facts, np.int32).T
    np.savez(written / index_file(split), num_frames=num_frames, label=labels)
    num_clips[split] = len(facts)
  listed = {**manifest(num_clips), "files": file_table(written)}
  (written / MANIFEST).write_text(json.dumps(listed, indent=2) + "\n")
  _replace(final, written, retired=staging / "replaced")
  shutil.rmtree(staging, ignore_errors=True)
  return final


def file_table(directory: Path) -> dict[str, dict[str, Any]]:
  """What the manifest says of the files of a data set.

  None is left out, since equal clips give equal bytes: the entries of an npz file carry one constant date, records
  are ordered by a hash of their keys and their features by name, and TFDS notes dates and times of downloads only.

  Args:
    directory: the folder of the data set.

  Returns:
    {'bytes': int, 'sha256': hexadecimal} by name, sorted; the manifest itself is not listed.
  """
  return {
    name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_of(directory / name)}
    for name in file_names(directory)
    if name != MANIFEST
  }


def file_names(directory: Path) -> list[str]:
  """Everything below a folder but the folders: paths relative to it with '/', sorted."""
  return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def sha256_of(path: Path) -> str:
  """SHA-256 of a file, in hexadecimal, read in pieces.

  Raises:
    OSError: if the file is missing or cannot be read.
  """
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _array_record_errors_as_os_errors() -> Iterator[None]:
  """ArrayRecord reports a full disk as "...: write() failed: No space left on device; writing <file>; ..."."""
  try:
    yield
  except RuntimeError as error:
    if (failed := re.search(r"\w+\(\) failed: ([^;]+);", str(error))) is None:
      raise
    raise OSError(failed[1]) from error


def _tidy(staging: Path) -> None:
  """Keeps the staging folder only if it holds decoded videos that the next build can use."""
  if not any((staging / "decoded").rglob("*.npz")):
    shutil.rmtree(staging, ignore_errors=True)
  with contextlib.suppress(OSError):
    staging.parent.rmdir()


def _replace(final: Path, written: Path, *, retired: Path) -> None:
  """Moves `written` to `final`; what was there goes to `retired` first."""
  final.parent.mkdir(parents=True, exist_ok=True)
  if final.exists():
    shutil.rmtree(retired, ignore_errors=True)
    final.rename(retired)
  written.rename(final)
