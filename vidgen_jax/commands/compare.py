"""`vidgen compare`: scores of one set of clips against another, wherever they come from."""

import functools
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags, metric_flags
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.parallel import startup
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.scores.clip_sets import ClipSet
from vidgen_jax.scores.extraction import FeatureExtractor, Variant, load_frame_extractor
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.metrics.content_distance import average_content_distance, mean_colour
from vidgen_jax.scores.metrics.psnr import clip_psnr
from vidgen_jax.scores.metrics.report import Score, ScoreTable
from vidgen_jax.scores.metrics.ssim import WINDOW, clip_ssim
from vidgen_jax.scores.neighbours import write_neighbours
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer

SUMMARY = """Scores any two sets of clips against each other: FVD and the like, beside what trivial clips score.

Needs --real and --fake: folders of videos, of frame strips, of one folder of numbered images a clip, or of arrays;
a .npy or .npz file [N, T, H, W, C]; or NAME/SPLIT of a built data set. With --networks distances between the sets; with
--paired PSNR and SSIM of the i-th clip of both; always the average content distance. Values are checked: [0, 1] and
0..255 are told apart, never mixed. Prints a table, appends every score with its protocol to --out.
Example: vidgen compare --real=videos/real --fake=videos/model --networks=i3d.safetensors --num_frames=16
Example: vidgen compare --real=weizmann/train --fake=samples/samples.npz --networks=classifier.safetensors
  --neighbours=neighbours.png"""

BATCH = 16
"""Clips held at once outside of the networks."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  metric_flags.define_clip_flags(flag_values, {"real": "the true clips", "fake": "the clips to be scored"})
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  flags.DEFINE_string(
    "conditioning_indices",
    "0",
    "frames that the baselines copy_last and cross_fade of the real clips keep: indices from 0, negative ones from the "
    "end, between commas, such as 0,-1; empty for no baselines",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "content_network",
    None,
    "weight file of a tsn whose features of single frames the content distance is taken on, instead of mean colours",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "neighbours",
    None,
    ".png file for a sheet of generated clips above the real ones nearest to them in the network's features (a copying "
    "model has them very near); all distances go to a .json file beside it",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "num_neighbours", 3, "--neighbours: real clips for each generated one", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_bool("paired", False, "the i-th clips of both sets belong together: PSNR, SSIM", flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "of resamples and of the real set's halves", lower_bound=0, flag_values=flag_values)
  flags.DEFINE_string("out", None, "file that scores are appended to, a JSON object a line", flag_values=flag_values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["real", "fake"], flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  if flag_values.out is not None:
    check_writable(Path(flag_values.out), "--out")
  startup.enable_compilation_cache()
  distributed_flags.join(flag_values)
  conditioning_indices = parse_given_frames(flag_values.conditioning_indices)
  options, extractors = metric_flags.set_options(flag_values), metric_flags.extractors(flag_values)
  sheet = _neighbours_file(flag_values.neighbours, num_networks=len(extractors))
  embedder = None
  if flag_values.content_network is not None:
    embedder = load_frame_extractor(flag_values.content_network, mesh=meshes.make_mesh(MeshConfig()))
  with metric_flags.open_set(flag_values, "real") as real, metric_flags.open_set(flag_values, "fake") as fake:
    table = compare(
      real,
      fake,
      extractors,
      options=options,
      paired=flag_values.paired,
      conditioning_indices=conditioning_indices,
      max_clips=flag_values.max_clips,
      embedder=embedder,
      neighbours=sheet,
      num_neighbours=flag_values.num_neighbours,
    )
  if jax.process_index() == 0:
    sys.stdout.write(f"{table.text()}\n")
    if flag_values.out is not None:
      table.write_json_lines(Path(flag_values.out))


def parse_given_frames(text: str) -> tuple[int, ...]:
  """The indices that `--conditioning_indices` names, in the order in which it does.

  Raises:
    UserError: if it is no list of integers.
  """
  parts = [part.strip() for part in text.split(",")] if text.strip() else []
  try:
    return tuple(int(part) for part in parts)
  except ValueError as error:
    raise UserError(
      f"--conditioning_indices={text} must be indices of frames between commas, such as 0,1 or 0,-1"
    ) from error


def _neighbours_file(text: str | None, *, num_networks: int) -> Path | None:
  """What `--neighbours` names, checked."""
  if text is None:
    return None
  if Path(text).suffix != ".png":
    raise UserError(f"--neighbours={text} must be a .png file")
  if not num_networks:
    raise UserError("--neighbours needs --networks, a weight file whose features tell what is near")
  check_writable(Path(text), "--neighbours")
  return Path(text)


def compare(
  real: ClipSet,
  fake: ClipSet,
  extractors: list[FeatureExtractor],
  *,
  options: SetOptions,
  paired: bool = False,
  conditioning_indices: Sequence[int] = (0,),
  max_clips: int = 0,
  embedder: FeatureExtractor | None = None,
  neighbours: Path | None = None,
  num_neighbours: int = 3,
) -> ScoreTable:
  """Scores one set against another.

  Args:
    real: the true clips.
    fake: the clips to be scored, of the same shape.
    extractors: feature networks; none for the scores that need none.
    options: of the scores of sets.
    paired: the i-th clips belong together.
    conditioning_indices: 0-based indices of the frames that the baselines made of the real clips are given, negative ones from
      the end; () for no baselines.
    max_clips: whether the sets were cut to so many clips; 0 for not.
    embedder: of frames, for the content distance; None for their mean colours.
    neighbours: for `write_neighbours`, with the first network's features; None leaves it out.
    num_neighbours: see there.

  Raises:
    UserError: if the sets do not fit each other, a network or the conditioning frames.
  """
  _check(real, fake, paired=paired, max_clips=max_clips)
  variants: dict[str, Variant] = {}
  if extractors:
    variants = _variants(_resolved(conditioning_indices, real.clip_shape[0]))
    _check_sets(real, fake, options)
    if neighbours is not None and num_neighbours > len(real):
      raise UserError(f"--num_neighbours={num_neighbours} is more than the {len(real)} real clips")
  for extractor in extractors:
    extractor.check(real.clip_shape)
  common = {"split": real.name, "num_clips": len(real), "clip": "x".join(map(str, real.clip_shape))}
  table = ScoreTable(_content_scores(real, fake, common, embedder))
  if paired:
    for score in _paired_scores(real, fake, common):
      table.add(score)
  for extractor in extractors:
    found = extractor.extract_all(real, variants=variants, description="real")
    fakes = extractor.extract_all(fake, description="fake")[""]
    if neighbours is not None and extractor is extractors[0] and jax.process_index() == 0:
      features = (found["real"].features, fakes.features)
      write_neighbours(neighbours, real, fake, extractor, features=features, k=num_neighbours)
    fields = {"split": real.name, "num_clips": len(real)}
    scorer = SetScorer(extractor, found.pop("real"), clip_shape=real.clip_shape, options=options, real_fields=fields)
    scorer.warn_of_bias(fake.name, [fakes])
    scores = [*scorer.score(fake.name, [fakes]), *scorer.score_real()]
    scores += [score for name, features in found.items() for score in scorer.score(name, [features])]
    for score in scores:
      table.add(score)
  return table


def _variants(conditioning_indices: Sequence[int]) -> dict[str, Variant]:
  """The real clips, and what the baselines make of them."""

  def noise(video: np.ndarray) -> np.ndarray:
    # Seeded by each clip itself, so that another number of processes or another batch changes nothing.
    generators = [np.random.default_rng(zlib.crc32(np.ascontiguousarray(clip))) for clip in video]
    return np.stack([generator.integers(256, size=video.shape[1:], dtype=np.uint8) for generator in generators])

  variants: dict[str, Variant] = {"real": lambda video: video}
  if not conditioning_indices:
    return variants
  copy_last = functools.partial(baselines.copy_last, conditioning_indices=conditioning_indices)
  cross_fade = functools.partial(baselines.cross_fade, conditioning_indices=conditioning_indices)
  return variants | {"copy_last": copy_last, "cross_fade": cross_fade, "noise": noise}


def _resolved(conditioning_indices: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """The indices in ascending order, counted from the beginning."""
  named = f"--conditioning_indices={','.join(map(str, conditioning_indices))}"
  found = sorted(index + num_frames if index < 0 else index for index in conditioning_indices)
  if found and not 0 <= found[0] <= found[-1] < num_frames:
    raise UserError(f"{named} names frames that clips of {num_frames} do not have; give 0 to {num_frames - 1}")
  if len(set(found)) < len(found):
    raise UserError(f"{named} names a frame of clips of {num_frames} twice; leave one of them out")
  if len(found) == num_frames:
    raise UserError(f"{named} leaves nothing of clips of {num_frames} frames; leave it empty for no baselines")
  return tuple(found)


def _check(real: ClipSet, fake: ClipSet, *, paired: bool, max_clips: int) -> None:
  if real.clip_shape[1:] != fake.clip_shape[1:]:
    sizes = ["x".join(map(str, clips.clip_shape)) for clips in (real, fake)]
    raise UserError(
      f"--real holds clips of {sizes[0]}, --fake of {sizes[1]} (frames x height x width x channels); "
      "bring both to one size with --resolution"
    )
  if real.clip_shape[0] != fake.clip_shape[0]:
    raise UserError(
      f"--real holds clips of {real.clip_shape[0]} frames, --fake of {fake.clip_shape[0]}; "
      f"cut both with --num_frames={min(real.clip_shape[0], fake.clip_shape[0])}"
    )
  if paired and len(real) != len(fake):
    raise UserError(f"--paired needs equally many clips, got {len(real)} real and {len(fake)} fake ones")
  if paired and max_clips:
    raise UserError("--paired takes all clips, because --max_clips draws them; leave one of them out")
  if paired and (real.skipped or fake.skipped):
    file, reason = (*real.skipped, *fake.skipped)[0]
    raise UserError(f"--paired needs every file, but {file} cannot be used ({reason}); without it pairs would shift")
  if paired:
    logging.info("pairs: %s with %s, and so on", real.clip_names[0], fake.clip_names[0])


def _check_sets(real: ClipSet, fake: ClipSet, options: SetOptions) -> None:
  """What distances between sets need, before anything is computed."""
  fewest = min(len(real), len(fake))
  if fewest < 2:
    raise UserError(f"a distance between sets needs two clips on either side, got {len(real)} and {len(fake)}")
  if options.splits > fewest:
    raise UserError(f"--splits={options.splits} is more than the {fewest} clips of a set")


def _content_scores(real: ClipSet, fake: ClipSet, common: dict, embedder: FeatureExtractor | None) -> Iterator[Score]:
  """The content distance of both sets: low is good only as far as the real clips' is low."""
  embed, fields = mean_colour, dict(common)
  protocol = "mean colours of frames on [0, 255]"
  if embedder is not None:
    embed, protocol = embedder.embed_frames, "features of single frames"
    fields |= {"extractor": embedder.label, "extractor_hash": embedder.hash}
  if real.clip_shape[0] < 2:
    return
  for subject, clips in ((fake.name, fake), ("real", real)):
    values = np.concatenate([average_content_distance(video, embed=embed) for video in clips.batches(BATCH)])
    yield Score(
      subject=subject,
      metric="content_distance",
      value=float(values.mean()),
      protocol=protocol,
      interval=mean_interval(values),
      **fields | {"num_generated": len(clips)},
    )


def _paired_scores(real: ClipSet, fake: ClipSet, common: dict) -> Iterator[Score]:
  metrics = {"psnr": (clip_psnr, "dB"), "ssim": (clip_ssim, "")}
  if min(real.clip_shape[1:3]) < WINDOW:
    logging.warning("no SSIM: it needs frames of at least %dx%d pixels", WINDOW, WINDOW)
    del metrics["ssim"]
  values: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
  identical = np.ones(real.clip_shape[0], bool)
  for truth, guess in zip(real.batches(BATCH), fake.batches(BATCH), strict=True):
    identical &= (truth == guess).all(axis=(0, 2, 3, 4))
    for name, (metric, _) in metrics.items():
      values[name].append(np.asarray(metric(guess, truth, data_range=255)))
  if identical.any() and not identical.all():
    frames = ", ".join(map(str, np.flatnonzero(identical)))
    logging.warning(
      "frames %s are the same in all pairs, as if given, and count 80 dB each; `vidgen evaluate` scores generated "
      "frames only",
      frames,
    )
  for name, (_, unit) in metrics.items():
    clips = np.concatenate(values[name]).astype(np.float64)
    yield Score(
      subject=fake.name,
      metric=name,
      value=float(clips.mean()),
      unit=unit,
      protocol="frame_mean, all frames",
      interval=mean_interval(clips),
      **common,
    )
