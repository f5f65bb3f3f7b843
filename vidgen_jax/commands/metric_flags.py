"""The flags of every command that scores sets of clips with feature networks."""

from collections.abc import Mapping

from absl import flags, logging

from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.scores.clip_sets import ClipOptions, ClipSet, open_clips
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS, FVD_PROTOCOLS
from vidgen_jax.scores.set_metrics import SetOptions

MAX_LISTED = 100
"""Files that cannot be used and are named one by one."""


def define_clip_flags(flag_values: flags.FlagValues, sets: Mapping[str, str]) -> None:
  """Defines where sets of clips are, and which part of each clip is looked at.

  Args:
    flag_values: of the command.
    sets: what each set is, by the name of its flag.
  """
  for name, what in sets.items():
    flags.DEFINE_string(name, None, f"{what}: folder, .npy, .npz or NAME/SPLIT", flag_values=flag_values)
    flags.DEFINE_enum(
      f"{name}_range", "auto", ["auto", "255", "1", "-1..1"], f"of float arrays of --{name}", flag_values=flag_values
    )
  flags.DEFINE_integer("num_frames", 0, "frames of each clip; 0 for all", lower_bound=0, flag_values=flag_values)
  flags.DEFINE_integer("frame_stride", 1, "distance between these frames", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_enum("window", "start", ["start", "centre"], "which frames of a longer clip", flag_values=flag_values)
  flags.DEFINE_integer(
    "resolution",
    0,
    "smallest side is resized to so many pixels and the middle square cut out; 0 for no change",
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "max_clips",
    0,
    "at most so many of either set; of a folder, files are drawn at random, always the same; 0 for all",
    lower_bound=0,
    flag_values=flag_values,
  )
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of the built data sets", flag_values=flag_values)


def open_set(flag_values: flags.FlagValues, name: str) -> ClipSet:
  """Opens the set of clips that the flag `name` of `define_clip_flags` gives.

  Raises:
    UserError: if there are no such clips, or they are not what the flags say.
  """
  options = ClipOptions(
    num_frames=flag_values.num_frames,
    frame_stride=flag_values.frame_stride,
    window=flag_values.window,
    resolution=flag_values.resolution,
    max_clips=flag_values.max_clips,
    value_range=flag_values[f"{name}_range"].value,
  )
  if not flag_values[name].value:
    raise UserError(f"--{name} is required")
  clips = open_clips(flag_values[name].value, options, what=f"--{name}", data_dir=flag_values.data_dir)
  for file, reason in clips.skipped[:MAX_LISTED]:
    logging.warning("--%s: %s is left out: %s", name, file, reason)
  if len(clips.skipped) > MAX_LISTED:
    logging.warning("--%s: and %d more files", name, len(clips.skipped) - MAX_LISTED)
  return clips


def define_network_flags(flag_values: flags.FlagValues) -> None:
  """Defines which networks are used, and how clips become their input."""
  flags.DEFINE_list(
    "networks",
    [],
    "weight files, by comma, made by `vidgen weights import` (I3D: FVD, KVD, inception score; C3D: inception score; "
    "TSN: FID) or by `vidgen classify` (clip Frechet distance, never called FVD)",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "fvd_protocol",
    "reference",
    list(FVD_PROTOCOLS),
    "whose FVD: Unterthiner et al.'s, StyleGAN-V's (torchscript) or VideoGPT's; their numbers do not compare",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "c3d_protocol", "tgan2", list(C3D_PROTOCOLS), "whose input of C3D: TGAN's or TGANv2's", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "feature_batch", 16, "clips that a network sees at once, over all devices", lower_bound=1, flag_values=flag_values
  )


def define_score_flags(flag_values: flags.FlagValues) -> None:
  """Defines how sets are scored."""
  flags.DEFINE_integer(
    "bootstrap", 200, "resamples for the 95 % intervals of distances between sets; 0 for none", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "extrapolate", False, "also the Frechet distance extrapolated to infinitely many clips", flag_values=flag_values
  )
  flags.DEFINE_integer("splits", 1, "parts over which the inception score is averaged", flag_values=flag_values)


def extractors(flag_values: flags.FlagValues) -> list[FeatureExtractor]:
  """The networks of `--networks`, on all devices.

  Raises:
    UserError: if a file is missing, damaged or given twice.
  """
  paths = flag_values.networks
  if len(set(paths)) < len(paths):
    raise UserError(f"--networks={','.join(paths)} names a file twice")
  mesh = meshes.make_mesh(MeshConfig())
  return [
    load_extractor(
      path,
      mesh=mesh,
      batch_size=flag_values.feature_batch,
      fvd_protocol=flag_values.fvd_protocol,
      c3d_protocol=flag_values.c3d_protocol,
    )
    for path in paths
  ]


def set_options(flag_values: flags.FlagValues) -> SetOptions:
  """The options that the flags of `define_score_flags` mean; the seed is that of `--seed`.

  Raises:
    UserError: if one is out of range.
  """
  return SetOptions(
    bootstrap=flag_values.bootstrap,
    extrapolate=flag_values.extrapolate,
    splits=flag_values.splits,
    seed=flag_values.seed,
  )
