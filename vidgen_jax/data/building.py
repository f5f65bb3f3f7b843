"""Writes a data set such that it either appears complete or not at all.

The files (see `vidgen_jax.data.records`) are written to `<data_dir>/.incomplete/<name>` and renamed to
`<data_dir>/<name>/1.0.0` at the end.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import writer as tfds_writer
from tqdm import tqdm

from vidgen_jax.data.records import MANIFEST, VERSION, Example, dataset_directory, index_file
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError
from vidgen_jax.files import disk_errors, locked


class ClipDatasetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """TFDS builder whose records are clips of separately encoded frames.

  `splits` are iterables or Beam transforms of (unique key, clip), by split. A clip is a dict of 'frames' (JPEG or PNG
  bytes of each), 'label' (index into `class_names`), 'fps' (0 if unknown), 'source' (path within the source, or the
  seed), and 'height' and 'width' of the frames in pixels.
  """

  VERSION = tfds.core.Version(VERSION)
  # TFDS would look for checksum files next to the code, using a package (importlib_resources) that it does not require.
  code_path = None

  def __init__(
    self, *, name: str, data_dir: Path, class_names: Sequence[str], description: str, splits: Mapping[str, Any]
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

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    del dl_manager
    return {split: self._generate_examples(clips) for split, clips in self._clips.items()}

  def _generate_examples(self, clips: Any) -> Any:
    return clips

  def _example_writer(self) -> tfds_writer.ExampleWriter:
    return _DeterministicWriter(self.info.file_format)


class _DeterministicWriter(tfds_writer.ExampleWriter):
  """Sorts the features of a record by name: protobuf writes maps in another order in every process by default."""

  def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
    parsed = ((key, Example.FromString(example)) for key, example in examples)
    return super().write(path, ((key, example.SerializeToString(deterministic=True)) for key, example in parsed))


@contextlib.contextmanager
def exclusive_build(name: str, data_dir: str | Path, *, overwrite: bool) -> Generator[Path]:
  """Reserves the staging folder of a data set for one build, and yields it.

  Decoded videos stay there if the build fails, so that the next build reuses them.

  Raises:
    UserError: if the name is invalid, the data set exists, or another process builds it.
  """
  if not name or not name.replace("_", "").replace("-", "").isalnum():
    raise UserError(f"--name must consist of letters, digits, '_' and '-', got {name!r}")
  final = dataset_directory(name, data_dir)
  if final.exists() and not overwrite:
    raise UserError(
      f"data set {name!r} is already built at {final}; pass --overwrite to build it again, or another --name"
    )
  staging = Path(data_dir).expanduser() / ".incomplete" / name
  with disk_errors(Path(data_dir).expanduser()):
    staging.mkdir(parents=True, exist_ok=True)
    held = f"another process is building data set {name!r} in {staging}; wait for it to end"
    with locked(staging / "lock", held=held):
      try:
        yield staging
      finally:
        if not any((staging / "decoded").rglob("*.npz")):
          shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
          staging.parent.rmdir()


def build_generated(
  options: Any,
  *,
  kind: str,
  class_names: Sequence[str],
  description: str,
  splits: Mapping[str, Iterable[tuple[str, np.ndarray, int, str]]],
  total: int,
  shape: tuple[int, int, int],
  fps: float,
) -> Path:
  """Builds a data set of generated videos, stored as PNG, and returns its folder.

  `options` are build options with 'name', 'data_dir' and 'overwrite', and `kind` is the name in the registry. `splits`
  are (unique key, uint8[T, H, W, 3], label, source) by split, `total` in all, of `shape` (T, H, W); `fps` may be 0.

  Raises:
    UserError: if the data set exists already, or cannot be written.
  """
  num_frames, size = shape[0], {"height": shape[1], "width": shape[2]}
  encoding = FrameEncoding(encoding="png")
  manifest = {
    "builder": kind,
    "options": dataclasses.asdict(options),
    "clips": {},
    "fps": [fps],
    "source_fps": [fps],
    "stored": encoding.facts,
    "generated": {"frames": num_frames, **size},
    "sources": [],
  }
  with (
    exclusive_build(options.name, options.data_dir, overwrite=options.overwrite) as staging,
    tqdm(total=total, desc="generating", unit="clip") as progress,
  ):

    def clips(videos: Iterable[tuple[str, np.ndarray, int, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
      for key, video, label, source in videos:
        frames = [encoding.encode(Image.fromarray(frame)) for frame in video]
        yield key, {**size, "frames": frames, "label": label, "fps": fps, "source": source}
        progress.update()

    stored = {split: clips(videos) for split, videos in splits.items()}
    return write_dataset(staging, manifest, class_names=class_names, description=description, splits=stored)


def write_dataset(
  staging: Path,
  manifest: Mapping[str, Any],
  *,
  class_names: Sequence[str],
  description: str,
  splits: Mapping[str, Any],
  download_config: tfds.download.DownloadConfig | None = None,
) -> Path:
  """Writes the records, moves them to their final folder and returns that folder.

  `staging` is the folder from `exclusive_build`, and `splits` are those of `ClipDatasetBuilder`. 'clips' and 'files' of
  the manifest are filled in. `download_config` are options of TFDS, such as those of Beam.
  """
  name, records = staging.name, staging / "records"
  shutil.rmtree(records, ignore_errors=True)
  builder = ClipDatasetBuilder(
    name=name, data_dir=records, class_names=class_names, description=description, splits=splits
  )
  tfds.disable_progress_bar()
  try:
    # TFDS prints the staging folder, which is not where the data set will be.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(download_dir=staging / "downloads", download_config=download_config)
  except RuntimeError as error:
    # ArrayRecord reports a full disk as "...: write() failed: No space left on device; writing <file>; ...".
    if (failed := re.search(r"\w+\(\) failed: ([^;]+);", str(error))) is None:
      raise
    raise OSError(failed[1]) from error
  written = records / name / VERSION
  num_clips = {}
  for split in builder.info.splits:
    source = builder.as_data_source(split=split)
    facts = [(len(record["frames"]), record["label"]) for record in map(source.__getitem__, range(len(source)))]
    num_frames, labels = np.array(facts, np.int32).T
    np.savez(written / index_file(split), num_frames=num_frames, label=labels)
    num_clips[split] = len(facts)
  content = {**manifest, "clips": num_clips, "files": file_table(written)}
  (written / MANIFEST).write_text(json.dumps(content, indent=2) + "\n")
  final = dataset_directory(name, staging.parent.parent)
  final.parent.mkdir(parents=True, exist_ok=True)
  if final.exists():
    shutil.rmtree(staging / "replaced", ignore_errors=True)
    final.rename(staging / "replaced")
  written.rename(final)
  shutil.rmtree(staging, ignore_errors=True)
  return final


def file_table(directory: Path) -> dict[str, dict[str, Any]]:
  """Sizes and checksums of all files of a data set except its manifest: {'bytes', 'sha256'} by file name, sorted.

  Equal clips give equal files: npz entries have a constant date, records are ordered by a hash of their keys and their
  features by name, and TFDS records no dates except of downloads.
  """
  return {
    name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_of(directory / name)}
    for name in file_names(directory)
    if name != MANIFEST
  }


def file_names(directory: Path) -> list[str]:
  """Relative paths, with '/', of all files below a folder, sorted."""
  return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def sha256_of(path: Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
