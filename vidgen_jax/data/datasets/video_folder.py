"""Builds a data set from any folder or archive of videos and frame strips, which are cut into clips."""

import dataclasses
import functools
import itertools
import json
import typing
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tqdm import tqdm

from vidgen_jax.data import beam_pipeline, building, folders, listing, splits
from vidgen_jax.data.datasets import Dataset, register
from vidgen_jax.data.decode import DecodeOptions
from vidgen_jax.data.staging import Decoder, Staged, load_video, stage_all
from vidgen_jax.data.transforms import FrameEncoding
from vidgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoBuildOptions:
  """Source, conversion and destination of a data set of videos.

  Attributes:
    source: folder or archive of the videos.
    name: name of the data set.
    data_dir: folder of all data sets.
    size: smallest side of the stored frames in pixels; 0 keeps the size.
    encoding: encoding of the stored frames, 'jpeg' (the default) or 'png', which is lossless.
    quality: JPEG quality, 1..100.
    min_frames: smallest number of frames; shorter videos are skipped.
    clip_frames: number of frames of the clips that videos are cut into, dropping the rest; 0 does not cut.
    fps: frames per second to store: videos are resampled by the times of their frames; 0, the default except for
      Kinetics (25), keeps their frames.
    source_fps: frames per second of strips and images, which do not contain it; 0, the default except for Jester (12)
      and MUG (19), for unknown.
    stride: distance between the frames of a video to store; divides its frame rate. Excludes `fps`.
    max_skipped: largest fraction of videos that may be missing, damaged or too short.
    num_workers: number of decoding processes; 0 for one per core.
    beam_options: options NAME=VALUE of an Apache Beam pipeline that decodes instead ('runner=DataflowRunner', ...); ()
      for none. Its workers must see `source` and `data_dir` under the same paths.
    overwrite: whether an existing data set of that name is replaced.
  """

  source: str
  name: str
  data_dir: str
  size: int = 0
  encoding: str = "jpeg"
  quality: int = 95
  min_frames: int = 2
  clip_frames: int = 0
  fps: float = 0.0
  source_fps: float = 0.0
  stride: int = 1
  max_skipped: float = 0.5
  num_workers: int = 0
  beam_options: Sequence[str] = ()
  overwrite: bool = False

  def __post_init__(self):
    bounds = {"size": 0, "min_frames": 1, "clip_frames": 0, "stride": 1, "num_workers": 0}
    for field, bound in bounds.items():
      if getattr(self, field) < bound:
        raise UserError(f"--{field} must be at least {bound}, got {getattr(self, field)}")
    for field, zero in {"fps": "to keep the frames", "source_fps": "if it is unknown"}.items():
      if (rate := getattr(self, field)) and not 0.01 <= rate <= 1000:
        raise UserError(f"--{field} must be in 0.01..1000, or 0 {zero}, got {rate}")
    if self.fps and self.stride > 1:
      raise UserError(f"--fps={self.fps:g} and --stride={self.stride} exclude each other; lower --fps instead")
    if not 0 <= self.max_skipped <= 1:
      raise UserError(f"--max_skipped must be in [0, 1], got {self.max_skipped}")
    FrameEncoding(encoding=self.encoding, quality=self.quality)  # It checks both.


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoFolderOptions(VideoBuildOptions):
  """Options of a data set from a folder, in addition to those of `VideoBuildOptions`.

  Attributes:
    source: folder or archive with `<class>/<file>`, or with files only, which form one class; either may be below
      `train/`, `test/`, and `validation/`, `valid/` or `val/`. A folder of numbered images is one file. Or a video.
    images: what the images of a folder are: 'frames' of one clip, 'strips', or 'auto' to decide by their sizes, where a
      strip has three or more frames, or an image of another length next to it.
    split: what is divided between training and testing, unless the folders give the split: 'files', or 'time': the end
      of every video is for testing.
    test_fraction: fraction of every class, or of the time of every video, for testing, unless the folders give the
      split.
    split_group: files that get the same split: 'file' for none; 'pair' for files 2n and 2n + 1 of a folder; a number
      N, '8', for files kN .. kN + N - 1 of all folders.
    seed: seed of the division into training and testing.
  """

  images: str = "auto"
  split: str = "files"
  test_fraction: float = 0.2
  split_group: str = "file"
  seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    for field, known in {"images": typing.get_args(folders.Images), "split": ("files", "time")}.items():
      if (value := getattr(self, field)) not in known:
        raise UserError(f"--{field} must be one of {', '.join(known)}, got {value!r}")
    splits.check_grouping(self.split_group)
    if self.split == "time" and self.split_group != "file":
      raise UserError(f"--split=time divides every file, but --split_group={self.split_group} groups files; omit one")


def clips_of(
  file: listing.SourceFile, facts: Mapping[str, Any], options: VideoFolderOptions
) -> list[tuple[str, int, int]]:
  """Cuts each part of a video into clips; `facts` are those of its stored frames, see `staging.load_facts`.

  To be divided in time, a part that is not cut otherwise is cut in two, if both are long enough.

  Returns:
    (path of the video, with the clip's index for files with several clips; first stored frame; frame after the last).
  """
  num_frames = facts["frames"]
  pieces: list[tuple[str, int, int]]
  if file.clips is not None:
    borders = [0, *facts["cuts"], num_frames]
    pieces = [(f"{file.path}[{file.clips[0] + i}]", *pair) for i, pair in enumerate(itertools.pairwise(borders))]
  else:
    pieces = [(file.path, *part) for part in facts["parts"]] or [(file.path, 0, num_frames)]
  if options.split == "time" and not options.clip_frames:
    pieces = [half for source, first, last in pieces for half in _halves(source, first, last, options)]
  clips = []
  for source, first, last in pieces:
    length = options.clip_frames or last - first
    if last - first >= max(options.min_frames, length):
      clips += [(source, start, start + length) for start in range(first, last - length + 1, length)]
  return clips


def _halves(source: str, first: int, last: int, options: VideoFolderOptions) -> list[tuple[str, int, int]]:
  """The parts of a video for training and for testing; the whole if one would be too short."""
  border = last - max(round(options.test_fraction * (last - first)), options.min_frames)
  if not options.test_fraction or border - first < options.min_frames:
    return [(source, first, last)]
  return [(source, first, border), (source, border, last)]


def clips_by_split(
  entry: Staged, options: VideoFolderOptions, split_of: Mapping[str, str]
) -> dict[str, list[tuple[int, tuple[str, int, int]]]]:
  """(number, clip as from `clips_of`) of all clips of a decoded video by split; `split_of` is that of whole videos."""
  clips = list(enumerate(clips_of(entry.file, entry.facts, options)))
  if options.split == "files":
    return {split_of[entry.file.identity]: clips}
  border = len(clips) - splits.num_testing(len(clips), options.test_fraction)
  return {name: part for name, part in {"train": clips[:border], "test": clips[border:]}.items() if part}


def _make_clips(
  entry: Staged, *, split: str, split_of: Mapping[str, str], labels: Mapping[str, int], options: VideoFolderOptions
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (unique key, clip) for every clip of a decoded video in a split."""
  video = load_video(entry.cached)  # ty: ignore[invalid-argument-type]  Only of usable videos.
  shared = {"label": labels[str(entry.file.class_name)], "fps": video.fps, "height": video.height, "width": video.width}
  for number, (source, start, stop) in clips_by_split(entry, options, split_of)[split]:
    yield f"{entry.file.identity}#{number}", {**shared, "frames": video.frames[start:stop], "source": source}


def build_video_folder(options: VideoFolderOptions, *, dataset: Dataset | None = None, split_rule: str = "") -> Path:
  """Builds the data set and returns its folder; an interrupted build resumes with the videos not yet decoded.

  A published `dataset` lists the files of its `split_rule`; without one, classes and splits come from the folders. The
  decoding processes import the main program: a script that calls this needs `if __name__ == "__main__":`.

  Raises:
    UserError: if the source is missing or has no usable file, too many videos are missing, damaged or short, or the
      data set exists already or cannot be written.
  """
  beam = beam_pipeline.parse_options(options.beam_options) if options.beam_options else None
  with (
    listing.Source(options.source, nested=dataset is not None) as source,
    building.exclusive_build(options.name, options.data_dir, overwrite=options.overwrite) as staging,
  ):
    images: Any = options.images  # One of `folders.Images`.
    files = source.files(images=images) if dataset is None else dataset.files(source, split_rule)
    timeless = {bool(file.images or file.reader) for file in files if not file.excluded}
    if options.fps and not options.source_fps and timeless == {True}:
      raise UserError(
        f"--fps={options.fps:g}: the images of {options.name} have no frame rate; pass --source_fps as well"
      )
    encoding = FrameEncoding(encoding=options.encoding, quality=options.quality)
    decode_options = DecodeOptions(
      size=options.size, encoding=encoding, stride=options.stride, fps=options.fps, source_fps=options.source_fps
    )
    decoder = Decoder(source, staging / "decoded", decode_options)
    if beam is None:
      results = stage_all(decoder, files, num_workers=options.num_workers)
    else:
      results = beam_pipeline.stage_all(decoder, files, beam, folder=staging)
    results = [_skip_short(entry, options) for entry in results]
    _log_variable_rates(results, options)
    _check_skipped(results, options, listed=staging / "skipped.json")
    usable = [entry for entry in results if entry.cached is not None]
    # A published data set has all its classes, even if all videos of a class are missing.
    labelled = files if dataset is not None else [entry.file for entry in usable]
    names = {str(file.class_name) for file in labelled}
    # Numbers by value, before words.
    class_names = sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    labels = {name: label for label, name in enumerate(class_names)}
    split_of = _splits_of(usable, options)
    make_clips = functools.partial(_make_clips, split_of=split_of, labels=labels, options=options)
    entries = defaultdict(list)
    for entry in usable:
      for split in clips_by_split(entry, options, split_of):
        entries[split].append(entry)
    if "test" not in entries and options.test_fraction:
      _warn_without_test(options, usable, sorted(entries))
    clips = _local_clips if beam is None else beam_pipeline.examples
    return building.write_dataset(
      staging,
      _manifest(options, results, split_of) | _published(dataset, split_rule, results, split_of),
      class_names=class_names,
      description=f"Videos of {Path(options.source).name}.",
      splits={split: clips(entries[split], functools.partial(make_clips, split=split)) for split in sorted(entries)},
      download_config=None if beam is None else tfds.download.DownloadConfig(beam_options=beam),
    )


def _local_clips(entries: Sequence[Staged], make_clips: beam_pipeline.MakeClips) -> Iterator[Any]:
  for entry in tqdm(entries, desc="writing records", unit="video"):
    yield from make_clips(entry)


def _splits_of(usable: Sequence[Staged], options: VideoFolderOptions) -> dict[str, str]:
  """Split by identity, from the folders if they are splits, else by a division."""
  from_folders = {entry.file.identity: entry.file.split for entry in usable if entry.file.split is not None}
  if from_folders and options.split == "time":
    raise UserError(f"--split=time: the folders of --source {options.source} give the split; omit it")
  if len(from_folders) == len(usable):
    return from_folders
  if options.split == "time":
    return {}
  class_names = {entry.file.identity: str(entry.file.class_name) for entry in usable}
  return splits.divide(
    class_names, grouping=options.split_group, test_fraction=options.test_fraction, seed=options.seed
  )


def _warn_without_test(options: VideoFolderOptions, usable: Sequence[Staged], found: Sequence[str]) -> None:
  if usable[0].file.split is not None:
    remedy = "add a folder test/ to the source"
  elif options.split == "time":
    remedy = "the videos are too short; lower --clip_frames or --min_frames"
  elif options.split_group != "file":
    remedy = f"each group of --split_group={options.split_group} is needed for training; use smaller groups"
  else:
    remedy = "--split=time divides each video in time; or add videos, or a folder test/"
  logging.warning(
    "data set %r has no split 'test', only %s (%d videos): %s; or evaluate with --split=%s",
    *(options.name, ", ".join(found), len(usable), remedy, found[-1]),
  )


_WITHOUT_EFFECT = ("beam_options", "data_dir", "max_skipped", "num_workers", "overwrite")
"""Options that do not change the clips; omitted from the manifest, so that equal data sets have equal manifests."""


def _manifest(options: VideoFolderOptions, results: Sequence[Staged], split_of: Mapping[str, str]) -> dict[str, Any]:
  sources = []
  for entry in results:
    file, facts = entry.file, entry.facts
    source: dict[str, Any] = {"source": file.identity, "class": file.class_name}
    if file.name:
      # These allow the split hash to be computed again.
      source |= {"name": file.name, "split": file.split}
    if entry.cached is None:
      sources.append(source | {"status": "skipped", "reason": entry.reason})
      continue
    stored = {"fps": facts["fps"], "source_fps": facts["source_fps"]}
    stored |= {"height": facts["source_height"], "width": facts["source_width"], "frames": facts["frames"]}
    # Most videos have none of these.
    stored |= {name: facts[name] for name in ("damage", "variable_rate", "conversions") if facts[name]}
    for split, clips in clips_by_split(entry, options, split_of).items():
      sources.append(source | {"status": "used", "split": split, "clips": len(clips)} | stored)
  return {
    "builder": "video_folder",
    "options": {name: value for name, value in dataclasses.asdict(options).items() if name not in _WITHOUT_EFFECT},
    "clips": {},
    "stored": FrameEncoding(encoding=options.encoding, quality=options.quality).facts,
    "fps": sorted({entry.facts["fps"] for entry in results if entry.cached is not None}),
    "source_fps": sorted({entry.facts["source_fps"] for entry in results if entry.cached is not None}),
    "sources": sources,
  }


def _published(
  dataset: Dataset | None, split_rule: str, results: Sequence[Staged], split_of: Mapping[str, str]
) -> dict[str, Any]:
  """Additional manifest entries of a published data set; warns if it is incomplete."""
  if dataset is None:
    return {}
  used, complete = Counter(), dataset.split_rules[split_rule].num_videos
  for entry in results:
    if entry.cached is not None:
      used[split_of[entry.file.identity]] += len(entry.facts["cuts"]) + 1
  for split, number in complete.items():
    if used[split] != number:
      logging.warning("%s: %d of %d videos of the split %s", dataset.name, used[split], number, split)
  hashed = splits.split_hash({entry.file.name: entry.file.split for entry in results})
  rule = {"split_rule": split_rule, "split_description": dataset.split_rules[split_rule].description}
  return {"builder": dataset.name, **rule, "split_hash": hashed, "complete_videos": dict(complete)}


def _skip_short(entry: Staged, options: VideoFolderOptions) -> Staged:
  if entry.cached is None or clips_of(entry.file, entry.facts, options):
    return entry
  least = max(options.min_frames, options.clip_frames)
  return Staged(file=entry.file, reason=f"has {entry.facts['frames']} frames, but no clip of {least}")


def _log_variable_rates(results: Sequence[Staged], options: VideoFolderOptions) -> None:
  """Warns about videos whose frames are stored although they are not equally far apart."""
  variable = [entry for entry in results if entry.cached is not None and entry.facts["variable_rate"]]
  if variable and not options.fps:
    logging.warning(
      "%d of %d videos have a variable frame rate, such as %s with %s; --fps=N gives them a constant one",
      *(len(variable), len(results), variable[0].file.path, variable[0].facts["variable_rate"]),
    )


def _check_skipped(results: Sequence[Staged], options: VideoFolderOptions, *, listed: Path) -> None:
  """Logs how many videos are skipped; raises a `UserError` if too many are, and lists them in a file."""
  skipped = {entry.file.identity: entry.reason for entry in results if entry.cached is None}
  videos = [entry for entry in results if not entry.file.excluded.startswith((listing.NO_VIDEO, listing.OUTSIDE))]
  if skipped:
    reasons = "; ".join(reason for reason, _ in Counter(skipped.values()).most_common(3))
    logging.warning("skipped %d of %d files, most often: %s", len(skipped), len(results), reasons)
  if len(skipped) == len(results):
    raise UserError(
      f"none of the {len(results)} files in --source {options.source} is usable; the first: "
      f"{results[0].file.path}: {results[0].reason}"
    )
  lost = sum(entry.cached is None for entry in videos)
  if lost > options.max_skipped * len(videos):
    listed.write_text(json.dumps(skipped, indent=2) + "\n")
    raise UserError(
      f"{lost} of {len(videos)} videos are missing, damaged or too short (see {listed}), more than "
      f"--max_skipped={options.max_skipped:g} of them; complete --source or raise it: decoded videos are kept"
    )


register(
  Dataset(
    name="video_folder",
    title="any folder or zip of mp4, avi, webm, gif or frame strips",
    options_type=VideoFolderOptions,
    build=build_video_folder,
  )
)
