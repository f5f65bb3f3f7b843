"""`vidgen compare`: scores of one set of clips against another one from any source."""

import contextlib
import dataclasses
import functools
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags, metric_flags
from vidgen_jax.commands.flag_parsing import check_needs, integers, parse_flags
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.scores.clip_sets import ClipSet
from vidgen_jax.scores.clip_sets.mistakes import warn_of_mistakes, warn_of_mistakes_by_facts
from vidgen_jax.scores.clip_sets.pairing import pair_clips
from vidgen_jax.scores.extraction import FeatureExtractor, Variant, load_frame_extractor
from vidgen_jax.scores.feature_cache import cache_folder, cached_features
from vidgen_jax.scores.inputs import differences, recorded_inputs
from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.neighbours import write_neighbours
from vidgen_jax.scores.perceptual import PerceptualDistance, load_perceptual_distance
from vidgen_jax.scores.registry import METRICS, paired_metrics
from vidgen_jax.scores.report import Score, append_scores, read_score, score_table
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, content_metrics, content_score
from vidgen_jax.scores.set_statistics import (
  SetStatistics,
  check_protocol,
  protocol_of,
  read_statistics,
  score_by_statistics,
  statistics_of,
)

SUMMARY = """Scores any two sets of clips against each other: FVD, and other distances between sets and between pairs.

Needs --real and --fake: folders of videos, of frame strips, of arrays, or of one folder of numbered images per clip;
a .npy or .npz file [N, T, H, W, C]; or NAME/SPLIT of a built data set; --real also the statistics of `vidgen features
--stats`. Computes distances between the sets, by the network of the package or those of --networks, the average
content distance, and with --paired PSNR, SSIM and LPIPS of pairs of clips: those of the same name, if both sets have
the same names, else in order. Values in [0, 1] and 0..255 are distinguished, never mixed; repeated clips and different
frame rates are reported. Prints a table and appends all scores to --out, with their protocols and what is needed to
repeat them.
Features of real clips are kept in $VIDGEN_CACHE or ~/.cache/vidgen_jax/features, which may be deleted at any time.
Example: vidgen compare --real=videos/real --fake=videos/model
Example: vidgen compare --real=videos/real --fake=videos/model --networks=i3d.safetensors --num_frames=16
  --fvd_protocol=styleganv --out=scores.jsonl
Example: vidgen compare --repeat=scores.jsonl:1
Example: vidgen compare --real=weizmann/train --fake=samples/samples.npz --networks=classifier.safetensors
  --neighbours=neighbours.png"""

BATCH = 16  # clips in memory at a time outside of the networks

_FOR_CLIPS = ("paired", "lpips", "neighbours", "baselines", "content_network", "real_range")
_NOT_REPEATED = ("out", "neighbours", "num_neighbours", "verbose", "distributed", "no_cache")


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  metric_flags.define_clip_flags(flag_values, {"real": "real clips", "fake": "clips to be scored"})
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  text = "also scores trivial clips made from the real ones: copies of a frame, cross-fades, noise"
  flags.DEFINE_bool("baselines", False, text, **values)
  text = (
    "--baselines: conditioning frames of copy_last and cross_fade: comma-separated indices from 0, negative ones from "
    "the end, such as 0,-1"
  )
  flags.DEFINE_list("conditioning_indices", ["0"], text, **values)
  text = "weight file of a tsn; the content distance uses its features of single frames instead of mean colours"
  flags.DEFINE_string("content_network", None, text, **values)
  text = "the clips show one bright object, as in Shape Motion: content distance of the object too"
  flags.DEFINE_bool("object_tracking", False, text, **values)
  text = (
    ".png file for a sheet of generated clips above their nearest real ones in the network's features, which are very "
    "near if the model copies; all distances are written to a .json file next to it"
  )
  flags.DEFINE_string("neighbours", None, text, **values)
  flags.DEFINE_integer("num_neighbours", 3, "--neighbours: real clips per generated one", lower_bound=1, **values)
  flags.DEFINE_bool(
    "paired", False, "each clip belongs to the one of the same name, or to the i-th: PSNR, SSIM", **values
  )
  text = "--paired: weights of LPIPS (`vidgen weights fetch lpips`), the perceptual distance of the frames"
  flags.DEFINE_string("lpips", None, text, **values)
  flags.DEFINE_bool("no_cache", False, "neither reads nor writes features of real clips", **values)
  flags.DEFINE_string("out", None, "file to which scores are appended, one JSON object per line", **values)
  text = "computes a score of a file of --out again, FILE:LINE, and compares the values; no other flag is needed"
  flags.DEFINE_string("repeat", None, text, **values)
  distributed_flags.define(flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> int | None:
  """Runs the command."""
  if flag_values.repeat is not None:
    return _repeat(flag_values)
  out = check_writable(flag_values.out, "--out")
  check_needs(flag_values, {"num_neighbours": "neighbours", "lpips": "paired", "conditioning_indices": "baselines"})
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  scores = _scores(flag_values)
  if jax.process_index() == 0:
    sys.stdout.write(f"{score_table(scores)}\n")
    if out is not None:
      append_scores(out, scores)
  return None


def _repeat(flag_values: flags.FlagValues) -> int:
  """Computes a line of a score file again; the exit status is 0 if the value is equal."""
  allowed = ("repeat", *_NOT_REPEATED)
  if others := [name for name in flag_values if flag_values[name].present and name not in allowed]:
    raise UserError(f"--repeat takes all settings from the score; omit --{others[0]}")
  row = read_score(flag_values.repeat)
  match recorded := row.get("inputs"):
    case {"command": ["compare", *words], "folder": str(folder)} if all(isinstance(word, str) for word in words):
      pass
    case _:
      raise UserError(f"--repeat={flag_values.repeat} is no score of `vidgen compare`; only these can be repeated")
  again = flags.FlagValues()
  define_flags(again)
  parse_flags(words, again, command="compare")
  if others := [name for name in allowed if name in again and again[name].present]:
    raise UserError(
      f"--repeat={flag_values.repeat}: no command is recorded with --{others[0]}; remove it from the line"
    )
  again.no_cache = flag_values.no_cache
  enable_compilation_cache()
  if not Path(folder).is_dir():
    raise UserError(f"--repeat: folder {folder} of the command is missing; create it")
  with contextlib.chdir(folder):
    scores = _scores(again)
  names = ("subject", "metric", "protocol", "extractor_hash")
  found = [score for score in scores if all(getattr(score, name) == row.get(name) for name in names)]
  for line in differences(recorded, scores[0].inputs or {}) if scores else ():
    logging.warning("not as recorded: %s", line)
  if not found:
    wanted = f"{row['metric']} of {row.get('subject')}"
    raise UserError(f"--repeat={flag_values.repeat}: no {wanted} by the recorded protocol")
  is_equal = bool(np.isclose(found[0].value, row["value"], rtol=1e-5, atol=1e-9, equal_nan=True))
  verdict = "equal to rounding" if is_equal else "different"
  values = f"{found[0].value:.9g}, recorded {row['value']:.9g}"
  sys.stdout.write(f"{row['metric']} of {row['subject']}: {values}: {verdict}\n")
  return 0 if is_equal else 1


def _scores(flag_values: flags.FlagValues) -> list[Score]:
  """All scores of the command; checks all flags before anything is computed."""
  sheet = check_writable(flag_values.neighbours, "--neighbours", suffix=".png")
  indices = integers("conditioning_indices", flag_values.conditioning_indices)
  for name in ("real", "fake"):
    metric_flags.check_set(flag_values, name)
  extractors = metric_flags.extractors(flag_values, default=(metric_flags.BUILTIN,))
  if (statistics := read_statistics(flag_values.real)) is not None:
    return _scores_by_statistics(flag_values, statistics, extractors)
  embedder, options = None, metric_flags.set_options(flag_values)
  if flag_values.content_network is not None:
    embedder = load_frame_extractor(flag_values.content_network, mesh=make_mesh(MeshConfig()))
  lpips = load_perceptual_distance(flag_values.lpips) if flag_values.lpips is not None else None
  window = metric_flags.real_window(flag_values, [extractor.network for extractor in extractors])
  with (
    metric_flags.open_set(flag_values, "real", window=window) as real,
    metric_flags.open_set(flag_values, "fake", window=window and "start") as fake,
  ):
    _check(real, fake, paired=flag_values.paired)
    if lpips is not None:
      lpips.check(real.clip_shape[1:3])
    extractors = _usable(extractors, real, fake, options, needed=not flag_values.paired or bool(flag_values.networks))
    variants = _variants(_resolved(indices, real.clip_shape[0])) if flag_values.baselines else {}
    if sheet is not None and flag_values.num_neighbours > len(real):
      raise UserError(f"--num_neighbours={flag_values.num_neighbours} is more than the {len(real)} real clips")
    common = {"split": real.name, "num_clips": len(real), "clip": _text(real.clip_shape), "window": real.options.text}
    scores = list(_content_scores(real, fake, common, embedder, tracking=flag_values.object_tracking))
    if flag_values.paired:
      scores += _paired_scores(real, fake, common, lpips)
    warn_of_mistakes(real, fake)
    for extractor in extractors:
      reals = cached_features(extractor, real, folder=None if flag_values.no_cache else cache_folder())
      others = extractor.extract_all(real, variants=variants, description="baselines") if variants else {}
      fakes = extractor.extract_all(fake, description="fake")[""]
      if sheet is not None and extractor is extractors[0] and jax.process_index() == 0:
        features = (reals.features, fakes.features)
        write_neighbours(sheet, real, fake, extractor, features=features, k=flag_values.num_neighbours)
      scorer = SetScorer(extractor, reals, clip_shape=real.clip_shape, options=options, real_fields=common)
      scores += scorer.score_all(fake.name, [fakes], {name: [features] for name, features in others.items()})
    sets = {"real": real.facts, "fake": fake.facts}
  return _with_inputs(flag_values, scores, sets)


def _scores_by_statistics(
  flag_values: flags.FlagValues, statistics: SetStatistics, extractors: Sequence[FeatureExtractor]
) -> list[Score]:
  """The Frechet distance to the statistics of a real set, which is all that can be computed from them."""
  for name in _FOR_CLIPS:
    if flag_values[name].present:
      raise UserError(f"--{name} needs real clips, but --real={flag_values.real} holds their statistics")
  window = metric_flags.real_window(flag_values, [extractor.network for extractor in extractors])
  scores = []
  with metric_flags.open_set(flag_values, "fake", window=window and "start") as fake:
    for extractor in extractors:
      extractor.check(fake.clip_shape)
      check_protocol(statistics, protocol_of(extractor, fake.clip_shape))
    for extractor in extractors:
      features = extractor.extract_all(fake, description="fake")[""]
      found = statistics_of(extractor, features, clip_shape=fake.clip_shape, facts=fake.facts)
      scores.append(score_by_statistics(extractor, statistics, found))
    warn_of_mistakes_by_facts(statistics.protocol["clips"], fake)
    logging.warning("--real=%s: only Frechet distances, without intervals, as it holds no clips", flag_values.real)
    sets = {"real": statistics.protocol["clips"], "fake": fake.facts}
  return _with_inputs(flag_values, scores, sets)


def _with_inputs(
  flag_values: flags.FlagValues, scores: Sequence[Score], sets: Mapping[str, Mapping[str, Any]]
) -> list[Score]:
  given = [flag_values[name] for name in sorted(flag_values) if flag_values[name].present]
  words = [flag.serialize() for flag in dict.fromkeys(given) if flag.name not in _NOT_REPEATED]
  inputs = recorded_inputs(sets, command=["compare", *words])
  return [dataclasses.replace(score, inputs=inputs) for score in scores]


def _usable(
  extractors: Sequence[FeatureExtractor], real: ClipSet, fake: ClipSet, options: SetOptions, *, needed: bool
) -> list[FeatureExtractor]:
  """The networks that can score the sets; UserError if one cannot, unless distances between sets are not `needed`."""
  try:
    _check_sets(real, fake, options)
    for extractor in extractors:
      extractor.check(real.clip_shape)
  except UserError as error:
    if needed:
      raise
    logging.warning("no distance between the sets: %s", error)
    return []
  return list(extractors)


def _variants(conditioning_indices: Sequence[int]) -> dict[str, Variant]:
  """Baselines made from the real clips."""

  def noise(video: np.ndarray) -> np.ndarray:
    # Each clip is its own seed, so that the number of processes and the batch size change nothing.
    generators = [np.random.default_rng(zlib.crc32(clip.tobytes())) for clip in video]
    return np.stack([generator.integers(256, size=video.shape[1:], dtype=np.uint8) for generator in generators])

  made = [baselines.copy_last, baselines.cross_fade]
  return {b.__name__: functools.partial(b, conditioning_indices=conditioning_indices) for b in made} | {"noise": noise}


def _resolved(conditioning_indices: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """The indices in ascending order, none of them negative."""
  flag = f"--conditioning_indices={','.join(map(str, conditioning_indices))}"
  if not conditioning_indices:
    raise UserError("--conditioning_indices is empty; omit --baselines for no baselines")
  found = sorted(index + num_frames if index < 0 else index for index in conditioning_indices)
  if not 0 <= found[0] <= found[-1] < num_frames:
    raise UserError(f"{flag} is out of range for clips of {num_frames} frames; give 0 to {num_frames - 1}")
  if len(set(found)) < len(found):
    raise UserError(f"{flag} contains a frame of clips of {num_frames} twice; leave one of them out")
  if len(found) == num_frames:
    raise UserError(f"{flag} contains all {num_frames} frames; omit some")
  return tuple(found)


def _text(clip_shape: Sequence[int]) -> str:
  return "x".join(map(str, clip_shape))


def _check(real: ClipSet, fake: ClipSet, *, paired: bool) -> None:
  if real.clip_shape[1:] != fake.clip_shape[1:]:
    shapes = " and ".join(_text(clips.clip_shape) for clips in (real, fake))
    found = f"the clips of --real and --fake are {shapes} (frames x height x width x channels)"
    raise UserError(f"{found}; set --resolution")
  if real.clip_shape[0] != fake.clip_shape[0]:
    raise UserError(
      f"--real contains clips of {real.clip_shape[0]} frames, --fake of {fake.clip_shape[0]}; "
      f"cut both with --num_frames={min(real.clip_shape[0], fake.clip_shape[0])}"
    )
  if not paired:
    return
  if len(real) != len(fake):
    raise UserError(f"--paired needs equally many clips, got {len(real)} real and {len(fake)} fake ones")
  if real.options.max_clips:
    raise UserError("--paired uses all clips, but --max_clips draws some at random; omit one of them")
  if "random" in (real.options.window, fake.options.window):
    raise UserError("--paired needs the same window of both clips, but --window draws them at random; omit one of them")
  if skipped := (*real.skipped, *fake.skipped):
    file, reason = skipped[0]
    raise UserError(f"--paired needs every file, but {file} cannot be used ({reason}); without it pairs would shift")


def _check_sets(real: ClipSet, fake: ClipSet, options: SetOptions) -> None:
  fewest = min(len(real), len(fake))
  if fewest < 2:
    found = f"got {len(real)} and {len(fake)}; give a folder of several, such as the one above a single clip"
    raise UserError(f"a distance between sets needs two clips on either side, {found}")
  if options.splits > fewest:
    raise UserError(f"--splits={options.splits} is more than the {fewest} clips of a set")


def _content_scores(
  real: ClipSet, fake: ClipSet, common: Mapping[str, Any], embedder: FeatureExtractor | None, *, tracking: bool
) -> Iterator[Score]:
  if real.clip_shape[0] < 2:
    return
  functions = {name: METRICS[name].function for name in content_metrics(tracking=tracking)}
  fields: dict[str, dict[str, Any]] = {name: {"metric": name, **common} for name in functions}
  if embedder is not None:
    functions["content_distance"] = functools.partial(average_content_distance, embed=embedder.embed_frames)
    network = {"extractor": embedder.label, "extractor_hash": embedder.hash, "protocol": "features of single frames"}
    fields["content_distance"] |= network
  for subject, clips in ((fake.name, fake), ("real", real)):
    values: dict[str, list[np.ndarray]] = {name: [] for name in functions}
    for video in clips.batches(BATCH):
      for name, function in functions.items():
        values[name].append(function(video))
    for name, found in values.items():
      yield content_score(subject, np.concatenate(found), num_generated=len(clips), **fields[name])


def _paired_scores(
  real: ClipSet, fake: ClipSet, common: Mapping[str, Any], lpips: PerceptualDistance | None
) -> Iterator[Score]:
  """Means of frame metrics over all frames of the pairs, see `pair_clips`."""
  networks: dict[Need, PerceptualDistance] = {Need.PERCEPTION: lpips} if lpips is not None else {}
  known = paired_metrics(available=(Need.TRUTH, *networks))
  values: dict[Metric, list[np.ndarray]] = {m: [] for m in known if m.kind is Kind.FRAME}
  for metric in [m for m in values if min(real.clip_shape[1:3]) < m.min_side]:
    logging.warning("no %s: it needs frames of at least %dx%d pixels", metric.name.upper(), *[metric.min_side] * 2)
    del values[metric]
  identical = np.ones(real.clip_shape[0], bool)
  order = pair_clips(real.clip_names, fake.clip_names)
  for truth, guess in zip(real.batches(BATCH), fake.batches(BATCH, indices=order), strict=True):
    identical &= (truth == guess).all(axis=(0, 2, 3, 4))
    for metric, found in values.items():
      network = [networks[need] for need in metric.needs if need in networks]
      found.append(np.asarray(metric.function(guess, truth, *network).mean(axis=1)))
  if identical.any() and not identical.all():
    logging.warning(
      "frames %s are identical in all pairs, like conditioning frames, and count 80 dB each; `vidgen evaluate` scores "
      "generated frames only",
      ", ".join(map(str, np.flatnonzero(identical))),
    )
  for metric, found in values.items():
    clips = np.concatenate(found).astype(np.float64)
    fields = next((networks[need].fields for need in metric.needs if need in networks), {})
    yield Score(
      subject=fake.name,
      metric=metric.row,
      value=float(clips.mean()),
      unit=metric.unit,
      protocol=f"{metric.protocol}, all frames",
      interval=mean_interval(clips),
      **common,
      **fields,
    )
