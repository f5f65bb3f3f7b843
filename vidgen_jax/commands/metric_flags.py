"""Flags of the commands that score sets of clips with feature networks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from absl import flags, logging

from vidgen_jax.commands.flag_parsing import check_needs, values_of
from vidgen_jax.data.config import DEFAULT_DATA_DIR
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.scores.builtin import load_builtin_extractor
from vidgen_jax.scores.clip_sets import ClipOptions, ClipSet, open_clips
from vidgen_jax.scores.clip_sets.opening import check_source
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS, FID_PROTOCOLS, FVD_PROTOCOLS
from vidgen_jax.scores.set_metrics import SetOptions

MAX_LISTED = 100

BUILTIN = "builtin"
"""Value of --networks for the network that is part of the package."""

NEED_NETWORKS = dict.fromkeys(
  (
    *("fvd_protocol", "c3d_protocol", "fid_protocol", "fid_frames", "feature_batch"),
    *("intervals", "extrapolate", "splits", "nearest_k"),
  ),
  "networks",
)
"""Flags that have no effect without --networks, for `check_needs`."""

_PROTOCOLS = {"fvd_protocol": "i3d", "c3d_protocol": "c3d", "fid_protocol": "inception", "fid_frames": "inception"}
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
  text = (
    "part of a longer clip; random: drawn from --seed and the clip's name; default: start, or as --fvd_protocol says"
  )
  flags.DEFINE_enum("window", None, ["start", "centre", "random"], text, **values)
  text = "side in pixels: the shorter side is resized to it and the clip cropped at the centre; 0 for no change"
  flags.DEFINE_integer("resolution", 0, text, lower_bound=0, **values)
  text = "largest number of clips per set, drawn at random with --seed; 0 for all"
  flags.DEFINE_integer("max_clips", 0, text, lower_bound=0, **values)
  flags.DEFINE_string("data_dir", DEFAULT_DATA_DIR, "folder of the built data sets", **values)
  flags.DEFINE_integer("seed", 0, "seed of drawn clips, random windows, splits and halves", lower_bound=0, **values)


def _protocol_window(flag_values: flags.FlagValues, networks: Iterable[str]) -> str:
  return FVD_PROTOCOLS[flag_values.fvd_protocol].real_window if "i3d" in networks else ""


def real_window(flag_values: flags.FlagValues, networks: Iterable[str]) -> str:
  """The window of real clips that a protocol of these networks fixes; '' for none.

  Raises:
    UserError: if --window is another one.
  """
  fixed = _protocol_window(flag_values, networks)
  if fixed and flag_values.window not in (None, fixed):
    raise UserError(
      f"--fvd_protocol={flag_values.fvd_protocol} has a {fixed} window of each real clip and the start of each "
      f"generated one, not --window={flag_values.window}; omit --window"
    )
  return fixed


def check_eval_window(flag_values: flags.FlagValues, networks: Iterable[str], eval_window: str) -> None:
  """Raises a UserError if data.eval_window of a run is not the window that a protocol of these networks fixes."""
  fixed = _protocol_window(flag_values, networks)
  if fixed and eval_window not in (fixed, "all"):
    raise UserError(
      f"--fvd_protocol={flag_values.fvd_protocol} has a {fixed} window of each real clip, not that of "
      f"data.eval_window={eval_window}; give --config=FILE.py:VARIANT --config.data.eval_window={fixed}"
    )


def check_set(flag_values: flags.FlagValues, name: str) -> str:
  """The value of the flag `name` of a set of clips; UserError if it is not given or does not exist."""
  source = flag_values[name].value
  if not source:
    raise UserError(f"--{name} is required")
  check_source(source, what=f"--{name}", data_dir=flag_values.data_dir)
  return source


def open_set(flag_values: flags.FlagValues, name: str, *, window: str = "") -> ClipSet:
  """Opens the set of clips of the flag `name`; a `window` replaces --window."""
  check_needs(flag_values, {"window": "num_frames"})
  fields = values_of(flag_values, "num_frames", "frame_stride", "resolution", "max_clips", "seed")
  fields["window"] = window or flag_values.window or "start"
  options = ClipOptions(value_range=getattr(flag_values, f"{name}_range"), **fields)
  clips = open_clips(check_set(flag_values, name), options, what=f"--{name}", data_dir=flag_values.data_dir)
  for file, reason in clips.skipped[:MAX_LISTED]:
    logging.warning("--%s: %s is left out: %s", name, file, reason)
  if len(clips.skipped) > MAX_LISTED:
    logging.warning("--%s: and %d more files", name, len(clips.skipped) - MAX_LISTED)
  return clips


def define_network_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of feature networks and their preprocessing."""
  values: dict[str, Any] = {"flag_values": flag_values}
  text = (
    "comma-separated weight files from `vidgen weights fetch` (I3D: FVD, KVD, inception score; C3D: inception score; "
    "TSN: FID; Inception: frame FID; VideoMAE: content-debiased FVD; V-JEPA: JEDi) or from `vidgen classify` (clip "
    "Frechet distance, never called FVD), and builtin for the network of the package"
  )
  flags.DEFINE_list("networks", [], text, **values)
  text = "preprocessing and estimator of FVD, by the code that they are used in; their numbers do not compare"
  flags.DEFINE_enum("fvd_protocol", "reference", list(FVD_PROTOCOLS), text, **values)
  text = "input of C3D as in TGAN or TGANv2; default: tgan2, for a run config.evaluation.c3d_protocol"
  flags.DEFINE_enum("c3d_protocol", None, list(C3D_PROTOCOLS), text, **values)
  text = "input of Inception-v3 as in pytorch-fid or clean-fid"
  flags.DEFINE_enum("fid_protocol", "pytorch_fid", list(FID_PROTOCOLS), text, **values)
  text = "frames of each clip for Inception-v3: all of them, or the middle one"
  flags.DEFINE_enum("fid_frames", "all", ["all", "middle"], text, **values)
  text = "clips per forward pass of a network, over all devices"
  flags.DEFINE_integer("feature_batch", 16, text, lower_bound=1, upper_bound=1024, **values)


def define_score_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `SetOptions`, apart from --seed."""
  values: dict[str, Any] = {"flag_values": flag_values}
  text = "95 % intervals of scores of sets, which take about as long as the scores"
  flags.DEFINE_bool("intervals", True, text, **values)
  flags.DEFINE_bool("extrapolate", False, "also extrapolates the Frechet distance to infinitely many clips", **values)
  flags.DEFINE_integer("splits", 1, "random parts over which the inception score is averaged", lower_bound=1, **values)
  text = (
    "also precision, recall, density and coverage, by this number of nearest neighbours: 3 in Kynkaanniemi et al., 5 "
    "in Naeem et al.; 0 for none"
  )
  flags.DEFINE_integer("nearest_k", 0, text, lower_bound=0, **values)


def extractors(
  flag_values: flags.FlagValues, *, c3d_protocol: str = "tgan2", default: Sequence[str] = ()
) -> list[FeatureExtractor]:
  """The networks of `--networks`, on all devices; UserError if a file is missing, damaged or listed twice.

  `c3d_protocol` and `default` are the values of flags that are not set.
  """
  paths = flag_values.networks or list(default)
  if len(set(paths)) < len(paths):
    raise UserError(f"--networks={','.join(paths)} lists a file twice")
  options = values_of(flag_values, "fvd_protocol", "fid_protocol", "fid_frames") | {
    "batch_size": flag_values.feature_batch
  }
  options["c3d_protocol"] = flag_values.c3d_protocol or c3d_protocol
  mesh = make_mesh(MeshConfig())
  found = [_load(path, mesh=mesh, **options) for path in paths]
  for flag, network in _PROTOCOLS.items():
    if flag_values[flag].present and network not in (extractor.network for extractor in found):
      found_none = f"--{flag} is the input of {network}, which is not among --networks"
      raise UserError(f"{found_none}; add its weights, or leave --{flag} out")
  return found


def _load(path: str, *, mesh: jax.sharding.Mesh, **options: Any) -> FeatureExtractor:
  if path != BUILTIN:
    return load_extractor(path, mesh=mesh, **options)
  return load_builtin_extractor(mesh=mesh, batch_size=options["batch_size"])


def set_options(flag_values: flags.FlagValues) -> SetOptions:
  """The options of `define_score_flags` and `--seed`."""
  return SetOptions(**values_of(flag_values, "intervals", "extrapolate", "splits", "seed", "nearest_k"))
