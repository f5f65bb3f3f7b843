"""Flags of the commands that score sets of clips with feature networks."""

from collections.abc import Mapping
from typing import Any

from absl import flags, logging

from vidgen_jax.commands.flag_parsing import check_needs, values_of
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.scores.clip_sets import ClipOptions, ClipSet, open_clips
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS, FVD_PROTOCOLS
from vidgen_jax.scores.set_metrics import SetOptions

MAX_LISTED = 100

NEED_NETWORKS = dict.fromkeys(
  ("fvd_protocol", "c3d_protocol", "feature_batch", "bootstrap", "extrapolate", "splits", "nearest_k"), "networks"
)
"""Flags that have no effect without --networks, for `check_needs`."""

_PROTOCOLS = {"fvd_protocol": "i3d", "c3d_protocol": "c3d"}
"""Network by flag of its input."""


def define_clip_flags(flag_values: flags.FlagValues, sets: Mapping[str, str]) -> None:
  """Defines a flag for each of the `sets` with its description, and those that choose the part of each clip."""
  values: dict[str, Any] = {"flag_values": flag_values}
  for name, description in sets.items():
    flags.DEFINE_string(name, None, f"{description}: folder, .npy, .npz or NAME/SPLIT", **values)
    text = f"range of the values in float arrays of --{name}"
    flags.DEFINE_enum(f"{name}_range", "auto", ["auto", "255", "1", "-1..1"], text, **values)
  flags.DEFINE_integer("num_frames", 0, "frames per clip; 0 for all", lower_bound=0, **values)
  flags.DEFINE_integer("frame_stride", 1, "distance between these frames", lower_bound=1, **values)
  flags.DEFINE_enum("window", "start", ["start", "centre"], "part of a longer clip", **values)
  text = "side in pixels: the shorter side is resized to it and the clip cropped at the centre; 0 for no change"
  flags.DEFINE_integer("resolution", 0, text, lower_bound=0, **values)
  text = "largest number of clips per set; files of a folder are drawn with a fixed seed; 0 for all"
  flags.DEFINE_integer("max_clips", 0, text, lower_bound=0, **values)
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of the built data sets", **values)


def open_set(flag_values: flags.FlagValues, name: str) -> ClipSet:
  """Opens the set of clips of the flag `name`."""
  check_needs(flag_values, {"window": "num_frames"})
  window = values_of(flag_values, "num_frames", "frame_stride", "window", "resolution", "max_clips")
  options = ClipOptions(value_range=getattr(flag_values, f"{name}_range"), **window)
  source = flag_values[name].value
  if not source:
    raise UserError(f"--{name} is required")
  clips = open_clips(source, options, what=f"--{name}", data_dir=flag_values.data_dir)
  for file, reason in clips.skipped[:MAX_LISTED]:
    logging.warning("--%s: %s is left out: %s", name, file, reason)
  if len(clips.skipped) > MAX_LISTED:
    logging.warning("--%s: and %d more files", name, len(clips.skipped) - MAX_LISTED)
  return clips


def define_network_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of feature networks and their preprocessing."""
  values: dict[str, Any] = {"flag_values": flag_values}
  text = (
    "comma-separated weight files from `vidgen weights import` (I3D: FVD, KVD, inception score; C3D: inception score; "
    "TSN: FID) or from `vidgen classify` (clip Frechet distance, never called FVD)"
  )
  flags.DEFINE_list("networks", [], text, **values)
  text = "FVD of Unterthiner et al., StyleGAN-V (torchscript) or VideoGPT; their numbers do not compare"
  flags.DEFINE_enum("fvd_protocol", "reference", list(FVD_PROTOCOLS), text, **values)
  text = "input of C3D as in TGAN or TGANv2; default: tgan2, for a run config.evaluation.c3d_protocol"
  flags.DEFINE_enum("c3d_protocol", None, list(C3D_PROTOCOLS), text, **values)
  text = "clips per forward pass of a network, over all devices"
  flags.DEFINE_integer("feature_batch", 16, text, lower_bound=1, **values)


def define_score_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `SetOptions`, apart from --seed."""
  values: dict[str, Any] = {"flag_values": flag_values}
  text = "resamples for the 95 % intervals of distances between sets; 0 for none"
  flags.DEFINE_integer("bootstrap", 200, text, lower_bound=0, **values)
  flags.DEFINE_bool("extrapolate", False, "also extrapolates the Frechet distance to infinitely many clips", **values)
  flags.DEFINE_integer("splits", 1, "parts over which the inception score is averaged", lower_bound=1, **values)
  text = (
    "also precision, recall, density and coverage, by this number of nearest neighbours: 3 in Kynkaanniemi et al., 5 "
    "in Naeem et al.; 0 for none"
  )
  flags.DEFINE_integer("nearest_k", 0, text, lower_bound=0, **values)


def extractors(flag_values: flags.FlagValues, *, c3d_protocol: str = "tgan2") -> list[FeatureExtractor]:
  """The networks of `--networks`, on all devices; UserError if a file is missing, damaged or listed twice.

  `c3d_protocol` is the value of a flag that is not set.
  """
  paths = flag_values.networks
  if len(set(paths)) < len(paths):
    raise UserError(f"--networks={','.join(paths)} lists a file twice")
  options = values_of(flag_values, "fvd_protocol") | {"batch_size": flag_values.feature_batch}
  options["c3d_protocol"] = flag_values.c3d_protocol or c3d_protocol
  mesh = make_mesh(MeshConfig())
  found = [load_extractor(path, mesh=mesh, **options) for path in paths]
  for flag, network in _PROTOCOLS.items():
    if flag_values[flag].present and network not in (extractor.network for extractor in found):
      raise UserError(f"--{flag} is the input of {network}, which is not among --networks; leave it out")
  return found


def set_options(flag_values: flags.FlagValues) -> SetOptions:
  """The options of `define_score_flags` and `--seed`."""
  return SetOptions(**values_of(flag_values, "bootstrap", "extrapolate", "splits", "seed", "nearest_k"))
