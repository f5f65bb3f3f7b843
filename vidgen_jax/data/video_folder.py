"""A data set from any folder (or zip) of videos and frame strips."""

import concurrent.futures
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from vidgen_jax.data import decode, listing, records, splits
from vidgen_jax.data.frames import FrameEncoding
from vidgen_jax.data.layouts import Layout, split_hash
from vidgen_jax.data.listing import SourceFile
from vidgen_jax.data.staging import StagingCache
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFolderOptions:
  """What to read, and how to store it.

  Attributes:
    source: folder or zip: `<class>/<file>`, or files only, which makes one class; either may lie below `train/` and
      `test/`.
    name: name of the data set.
    data_dir: folder of all data sets.
    size: pixels of the stored frames' smallest side; 0 keeps the size.
    encoding: 'jpeg' or 'png'.
    quality: of JPEG, 1..100.
    test_fraction: part of every class that is for testing, unless the folders say it.
    split_group: 'file'; 'pair' to keep the files numbered 2 n and 2 n + 1 of a folder on one side; or a number N, '8',
      to keep the files numbered k N .. k N + N - 1 of all folders on one side.
    seed: of the division.
    min_frames: a shorter video is skipped.
    clip_frames: cuts a video into clips of that many frames and drops the rest; 0 keeps each video as one clip.
    fps: frames per second to note for strips, which do not say it; 0 for unknown.
    num_threads: files that are decoded at a time; 0 for one per core.
    overwrite: whether to replace a data set of that name.
  """

  source: str
  name: str
  data_dir: str
  size: int = 0
  encoding: str = "jpeg"
  quality: int = 95
  test_fraction: float = 0.2
  split_group: str = "file"
  seed: int = 0
  min_frames: int = 2
  clip_frames: int = 0
  fps: float = 0.0
  num_threads: int = 0
  overwrite: bool = False

  def __post_init__(self):
    for field, least in (("size", 0), ("min_frames", 1), ("clip_frames", 0), ("fps", 0), ("num_threads", 0)):
      value = getattr(self, field)
      if value < least:
        raise UserError(f"--{field} must be at least {least}, got {value}")
    splits.check_grouping(self.split_group)
    _ = self.frame_encoding

  @property
  def frame_encoding(self) -> FrameEncoding:
    """How the frames are stored."""
    return FrameEncoding(encoding=self.encoding, quality=self.quality)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staged:
  """What became of one file.

  Attributes:
    file: the file.
    cached: where its decoded frames are; None if it was skipped.
    reason: why it was skipped.
    facts: its fps, height, width and frames; empty if it was skipped.
  """

  file: SourceFile
  cached: Path | None = None
  reason: str = ""
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class VideoFolder(records.ClipDatasetBuilder, skip_registration=True):
  """The TFDS builder, over files that are decoded already.

  Args:
    options: gives the name and the cutting into clips.
    staged: the usable files of each split.
    class_names: names of the labels.
    cache: holds the decoded files.
    data_dir: folder that TFDS writes into.
    progress: bar that is moved by one for every file.
  """

  def __init__(
    self,
    options: VideoFolderOptions,
    *,
    staged: Mapping[str, Sequence[Staged]],
    class_names: Sequence[str],
    cache: StagingCache,
    data_dir: Path,
    progress: tqdm,
  ):
    self._options = options
    self._labels = {class_name: label for label, class_name in enumerate(class_names)}
    self._cache = cache
    self._progress = progress
    super().__init__(
      name=options.name,
      data_dir=data_dir,
      class_names=class_names,
      description=f"Videos of {Path(options.source).name}.",
      splits={split: lambda files=files: self._clips_of(files) for split, files in staged.items()},
    )

  def _clips_of(self, files: Sequence[Staged]) -> Iterator[tuple[str, records.Clip]]:
    for entry in files:
      video = self._cache.read(entry.cached)
      if video is None:
        raise OSError(f"the decoded frames of {entry.file.path} disappeared from {entry.cached}")
      for number, (start, stop) in enumerate(clips_of(entry.file, len(video.frames), self._options)):
        yield (
          f"{entry.file.path}#{number}",
          records.Clip(
            frames=video.frames[start:stop],
            label=self._labels[entry.file.class_name],
            fps=video.fps,
            source=entry.file.path,
            height=video.height,
            width=video.width,
          ),
        )
      self._progress.update()


def clips_of(file: SourceFile, num_frames: int, options: VideoFolderOptions) -> list[tuple[int, int]]:
  """(first frame, frame behind the last) of every clip of a video: its parts, as far as it goes, each cut by itself.

  Args:
    file: the video.
    num_frames: of it.
    options: say how parts are cut, and how long they must be.
  """
  ranges = []
  for first, last in file.parts or ((0, num_frames),):
    length = min(last, num_frames) - first
    if length >= max(options.min_frames, options.clip_frames):
      ranges += [(first + start, first + stop) for start, stop in clip_ranges(length, options.clip_frames)]
  return ranges


def clip_ranges(num_frames: int, clip_frames: int) -> list[tuple[int, int]]:
  """Where a video is cut: (first frame, frame after the last) of each clip.

  Args:
    num_frames: frames of the video.
    clip_frames: frames of a clip; what is left over is dropped. 0: the video is one clip.
  """
  if not clip_frames:
    return [(0, num_frames)]
  return [(start, start + clip_frames) for start in range(0, num_frames - clip_frames + 1, clip_frames)]


def build_video_folder(options: VideoFolderOptions, *, layout: Layout | None = None, split_rule: str = "") -> Path:
  """Builds the data set. A build that was interrupted continues with the files that are not yet decoded.

  Args:
    options: what to read, and how to store it.
    layout: which file is what; None takes it from the folders.
    split_rule: of the layout.

  Returns:
    The folder of the complete data set.

  Raises:
    UserError: if the source is missing or has no usable file, the data set is there already, or it cannot be written.
  """
  with (
    listing.Source(options.source) as source,
    records.exclusive_build(options.name, options.data_dir, overwrite=options.overwrite) as staging,
  ):
    files = source.files() if layout is None else layout.files(source, split_rule)
    cache = StagingCache(staging / "decoded")
    results = _stage_all(source, files, cache, options)
    usable = [entry for entry in results if entry.cached is not None]
    if not usable:
      raise UserError(
        f"none of the {len(results)} files in --source {options.source} is usable; the first: "
        f"{results[0].file.path}: {results[0].reason}"
      )
    _warn_of_skipped(results)
    # A published data set has its classes even where all videos of one are missing.
    listed = files if layout is not None else [entry.file for entry in usable]
    class_names = sorted({file.class_name for file in listed}, key=_natural)
    split_of = _splits_of(usable, options)
    staged = {split: [e for e in usable if split_of[e.file.path] == split] for split in sorted(set(split_of.values()))}
    with tqdm(total=len(usable), desc="writing records", unit="file") as progress:
      return records.write_dataset(
        lambda data_dir: VideoFolder(
          options, staged=staged, class_names=class_names, cache=cache, data_dir=data_dir, progress=progress
        ),
        name=options.name,
        data_dir=options.data_dir,
        manifest=lambda num_clips: (
          _manifest(options, results, split_of, num_clips) | _published(layout, split_rule, results, split_of)
        ),
      )


def _stage_all(
  source: listing.Source, files: Sequence[SourceFile], cache: StagingCache, options: VideoFolderOptions
) -> list[Staged]:
  """Decodes every file that is not in the cache; the results are in the order of the files."""
  num_threads = options.num_threads or os.cpu_count() or 1
  executor = concurrent.futures.ThreadPoolExecutor(num_threads)
  with tqdm(total=len(files), desc="decoding", unit="file") as progress:
    futures = [executor.submit(_stage, source, file, cache, options) for file in files]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
        progress.update()
      return [future.result() for future in futures]
    finally:
      executor.shutdown(cancel_futures=True)


def _stage(source: listing.Source, file: SourceFile, cache: StagingCache, options: VideoFolderOptions) -> Staged:
  """Decodes one file, or finds it decoded."""
  if file.class_name is None:
    return Staged(file=file, reason="lies beside the class folders, so its class is unknown")
  if file.stamp == listing.MISSING:
    return Staged(file=file, reason="is missing")
  key = cache.path(file.path, file.stamp, options.size, options.encoding, options.quality, options.fps)
  video = cache.read(key)
  if video is None:
    try:
      with source.open(file.path) as opened:
        video = decode.decode_video(opened, size=options.size, encoding=options.frame_encoding, strip_fps=options.fps)
    except decode.UnreadableVideoError as error:
      return Staged(file=file, reason=str(error))
    except OSError as error:
      return Staged(file=file, reason=f"cannot be read: {error.strerror or error}")
    cache.write(key, video)
  num_frames = len(video.frames)
  if not clips_of(file, num_frames, options):
    least = max(options.min_frames, options.clip_frames)
    whose = "its parts have" if file.parts else f"has {num_frames} frames,"
    return Staged(file=file, reason=f"{whose} fewer than {least}" + (" frames" if file.parts else ""))
  facts = {"fps": video.fps, "height": video.source_height, "width": video.source_width, "frames": num_frames}
  return Staged(file=file, cached=key, facts=facts)


def _splits_of(usable: Sequence[Staged], options: VideoFolderOptions) -> dict[str, str]:
  """Split by path: what the folders say, or else a division."""
  given = {entry.file.path: entry.file.split for entry in usable}
  if None not in given.values():
    return given
  return splits.divide(
    {entry.file.path: entry.file.class_name for entry in usable},
    grouping=options.split_group,
    test_fraction=options.test_fraction,
    seed=options.seed,
  )


def _manifest(
  options: VideoFolderOptions, results: Sequence[Staged], split_of: Mapping[str, str], num_clips: Mapping[str, int]
) -> dict[str, Any]:
  sources = []
  for entry in results:
    told = {"source": entry.file.path, "class": entry.file.class_name} | _listed(entry.file)
    if entry.cached is None:
      sources.append(told | {"status": "skipped", "reason": entry.reason})
      continue
    clips = len(clips_of(entry.file, entry.facts["frames"], options))
    sources.append(told | {"status": "used", "split": split_of[entry.file.path], "clips": clips} | dict(entry.facts))
  return {
    "builder": "video_folder",
    "options": dataclasses.asdict(options),
    "clips": dict(num_clips),
    "fps": sorted({entry.facts["fps"] for entry in results if entry.cached is not None}),
    "sources": sources,
  }


def _listed(file: SourceFile) -> dict[str, Any]:
  """What the owners' lists say of a file, from which the hash of the split can be computed again."""
  return {"name": file.name, "split": file.split} if file.name else {}


def _published(
  layout: Layout | None, split_rule: str, results: Sequence[Staged], split_of: Mapping[str, str]
) -> dict[str, Any]:
  """What the manifest says of a published data set: its rule, who is on which side, and whether it is complete."""
  if layout is None:
    return {}
  used, complete = Counter(split_of.values()), layout.num_videos[split_rule]
  for split, number in complete.items():
    if used[split] != number:
      logging.warning("%s: %d of %d videos of the split %s", layout.name, used[split], number, split)
  hashed = split_hash({entry.file.name: entry.file.split for entry in results})
  return {"builder": layout.name, "split_rule": split_rule, "split_hash": hashed, "complete_videos": dict(complete)}


def _warn_of_skipped(results: Sequence[Staged]) -> None:
  skipped = [entry for entry in results if entry.cached is None]
  for entry in skipped[:10]:
    logging.warning("skipped %s: %s", entry.file.path, entry.reason)
  if len(skipped) > 10:
    kinds = Counter(entry.reason for entry in skipped).most_common(3)
    logging.warning("skipped %d files in all, most often: %s", len(skipped), "; ".join(reason for reason, _ in kinds))


def _natural(class_name: str) -> tuple[int, int, str]:
  """Numbers in their own order, before words."""
  return (0, int(class_name), class_name) if class_name.isdecimal() else (1, 0, class_name)
