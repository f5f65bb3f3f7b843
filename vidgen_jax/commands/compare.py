"""`vidgen compare`: scores of one set of clips against another one from any source."""

import functools
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags, metric_flags
from vidgen_jax.commands.flag_parsing import check_needs, integers
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.scores.clip_sets import ClipSet
from vidgen_jax.scores.extraction import FeatureExtractor, Variant, load_frame_extractor
from vidgen_jax.scores.metric import Kind, Metric
from vidgen_jax.scores.metrics import baselines
from vidgen_jax.scores.metrics.bootstrap import mean_interval
from vidgen_jax.scores.metrics.content_distance import average_content_distance
from vidgen_jax.scores.neighbours import write_neighbours
from vidgen_jax.scores.registry import METRICS, paired_metrics
from vidgen_jax.scores.report import Score, append_scores, score_table
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer, content_metrics, content_score

SUMMARY = """Scores any two sets of clips against each other (FVD etc.), with trivial clips for comparison.

Needs --real and --fake: folders of videos, of frame strips, of arrays, or of one folder of numbered images per clip;
a .npy or .npz file [N, T, H, W, C]; or NAME/SPLIT of a built data set. Computes the average content distance, with
--networks distances between the sets, with --paired PSNR and SSIM of clip i of both. Values in [0, 1] and 0..255 are
distinguished, never mixed. Prints a table and appends all scores with their protocols to --out.
Example: vidgen compare --real=videos/real --fake=videos/model --networks=i3d.safetensors --num_frames=16
Example: vidgen compare --real=weizmann/train --fake=samples/samples.npz --networks=classifier.safetensors
  --neighbours=neighbours.png"""

BATCH = 16  # clips in memory at a time outside of the networks


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  metric_flags.define_clip_flags(flag_values, {"real": "real clips", "fake": "clips to be scored"})
  metric_flags.define_network_flags(flag_values)
  metric_flags.define_score_flags(flag_values)
  text = (
    "conditioning frames of the baselines copy_last and cross_fade: comma-separated indices from 0, negative ones from "
    "the end, such as 0,-1; empty for no baselines"
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
  flags.DEFINE_bool("paired", False, "clip i of both sets belong together: PSNR, SSIM", **values)
  flags.DEFINE_integer("seed", 0, "seed of resamples and halves of the real set", lower_bound=0, **values)
  flags.DEFINE_string("out", None, "file to which scores are appended, one JSON object per line", **values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["real", "fake"], **values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  out = check_writable(flag_values.out, "--out")
  sheet = check_writable(flag_values.neighbours, "--neighbours", suffix=".png")
  needs = {"num_neighbours": "neighbours", "neighbours": "networks", "conditioning_indices": "networks"}
  check_needs(flag_values, needs | metric_flags.NEED_NETWORKS | {"seed": "networks"})
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  indices = integers("conditioning_indices", flag_values.conditioning_indices)
  options, extractors = metric_flags.set_options(flag_values), metric_flags.extractors(flag_values)
  embedder = None
  if flag_values.content_network is not None:
    embedder = load_frame_extractor(flag_values.content_network, mesh=make_mesh(MeshConfig()))
  with metric_flags.open_set(flag_values, "real") as real, metric_flags.open_set(flag_values, "fake") as fake:
    _check(real, fake, paired=flag_values.paired, max_clips=flag_values.max_clips)
    for extractor in extractors:
      extractor.check(real.clip_shape)
    variants = {}
    if extractors:
      variants = _variants(_resolved(indices, real.clip_shape[0]))
      _check_sets(real, fake, options)
      if sheet is not None and flag_values.num_neighbours > len(real):
        raise UserError(f"--num_neighbours={flag_values.num_neighbours} is more than the {len(real)} real clips")
    common = {"split": real.name, "num_clips": len(real), "clip": "x".join(map(str, real.clip_shape))}
    scores = list(_content_scores(real, fake, common, embedder, tracking=flag_values.object_tracking))
    if flag_values.paired:
      scores += _paired_scores(real, fake, common)
    for extractor in extractors:
      found = extractor.extract_all(real, variants=variants, description="real")
      fakes, reals = extractor.extract_all(fake, description="fake")[""], found.pop("real")
      if sheet is not None and extractor is extractors[0] and jax.process_index() == 0:
        features = (reals.features, fakes.features)
        write_neighbours(sheet, real, fake, extractor, features=features, k=flag_values.num_neighbours)
      scorer = SetScorer(extractor, reals, clip_shape=real.clip_shape, options=options, real_fields=common)
      scores += scorer.score_all(fake.name, [fakes], {name: [features] for name, features in found.items()})
  if jax.process_index() == 0:
    sys.stdout.write(f"{score_table(scores)}\n")
    if out is not None:
      append_scores(out, scores)


def _variants(conditioning_indices: Sequence[int]) -> dict[str, Variant]:
  """The real clips and the baselines made from them."""

  def noise(video: np.ndarray) -> np.ndarray:
    # Each clip is its own seed, so that the number of processes and the batch size change nothing.
    generators = [np.random.default_rng(zlib.crc32(clip.tobytes())) for clip in video]
    return np.stack([generator.integers(256, size=video.shape[1:], dtype=np.uint8) for generator in generators])

  variants: dict[str, Variant] = {"real": lambda video: video}
  if conditioning_indices:
    for baseline in (baselines.copy_last, baselines.cross_fade):
      variants[baseline.__name__] = functools.partial(baseline, conditioning_indices=conditioning_indices)
    variants["noise"] = noise
  return variants


def _resolved(conditioning_indices: Sequence[int], num_frames: int) -> tuple[int, ...]:
  """The indices in ascending order, none of them negative."""
  flag = f"--conditioning_indices={','.join(map(str, conditioning_indices))}"
  found = sorted(index + num_frames if index < 0 else index for index in conditioning_indices)
  if found and not 0 <= found[0] <= found[-1] < num_frames:
    raise UserError(f"{flag} is out of range for clips of {num_frames} frames; give 0 to {num_frames - 1}")
  if len(set(found)) < len(found):
    raise UserError(f"{flag} contains a frame of clips of {num_frames} twice; leave one of them out")
  if len(found) == num_frames:
    raise UserError(f"{flag} contains all {num_frames} frames; leave it empty for no baselines")
  return tuple(found)


def _check(real: ClipSet, fake: ClipSet, *, paired: bool, max_clips: int) -> None:
  if real.clip_shape[1:] != fake.clip_shape[1:]:
    shapes = " and ".join("x".join(map(str, clips.clip_shape)) for clips in (real, fake))
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
  if max_clips:
    raise UserError("--paired uses all clips, but --max_clips draws some at random; omit one of them")
  if skipped := (*real.skipped, *fake.skipped):
    file, reason = skipped[0]
    raise UserError(f"--paired needs every file, but {file} cannot be used ({reason}); without it pairs would shift")
  logging.info("pairs: %s with %s, and so on", real.clip_names[0], fake.clip_names[0])


def _check_sets(real: ClipSet, fake: ClipSet, options: SetOptions) -> None:
  fewest = min(len(real), len(fake))
  if fewest < 2:
    raise UserError(f"a distance between sets needs two clips on either side, got {len(real)} and {len(fake)}")
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


def _paired_scores(real: ClipSet, fake: ClipSet, common: Mapping[str, Any]) -> Iterator[Score]:
  """Means of frame metrics over all frames."""
  values: dict[Metric, list[np.ndarray]] = {m: [] for m in paired_metrics() if m.kind is Kind.FRAME}
  for metric in [m for m in values if min(real.clip_shape[1:3]) < m.min_side]:
    logging.warning("no %s: it needs frames of at least %dx%d pixels", metric.name.upper(), *[metric.min_side] * 2)
    del values[metric]
  identical = np.ones(real.clip_shape[0], bool)
  for truth, guess in zip(real.batches(BATCH), fake.batches(BATCH), strict=True):
    identical &= (truth == guess).all(axis=(0, 2, 3, 4))
    for metric, found in values.items():
      found.append(np.asarray(metric.function(guess, truth).mean(axis=1)))
  if identical.any() and not identical.all():
    logging.warning(
      "frames %s are identical in all pairs, like conditioning frames, and count 80 dB each; `vidgen evaluate` scores "
      "generated frames only",
      ", ".join(map(str, np.flatnonzero(identical))),
    )
  for metric, found in values.items():
    clips = np.concatenate(found).astype(np.float64)
    yield Score(
      subject=fake.name,
      metric=metric.row,
      value=float(clips.mean()),
      unit=metric.unit,
      protocol=f"{metric.protocol}, all frames",
      interval=mean_interval(clips),
      **common,
    )
