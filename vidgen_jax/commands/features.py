"""`vidgen features`: the output of a feature network for a set of clips, for other programs."""

import json
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from vidgen_jax.commands import distributed_flags, metric_flags
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write, check_writable
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.scores.set_statistics import statistics_of, write_statistics

SUMMARY = """Writes the features and logits of a set of clips to an .npz file, or their mean and covariance.

Needs --clips (as --real of `vidgen compare`), --networks with one weight file or builtin, and --out. The file contains
features float32 [N, D], logits float32 [N, K], with an axis of frames [N, T, D] for Inception-v3, names [N], label [N]
and class_names if the folders are classes, and protocol: JSON with the network, the hash of its weights and the
preprocessing.
With --stats it contains mean, covariance, count and protocol, and replaces the clips as --real of `vidgen compare`.
Example: vidgen features --clips=videos/model --networks=i3d.safetensors --out=features.npz
Example: vidgen features --clips=videos/real --networks=i3d.safetensors --stats --out=real.npz"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  metric_flags.define_clip_flags(flag_values, {"clips": "clips"})
  metric_flags.define_network_flags(flag_values)
  text = "writes mean and covariance of the features that the network's Frechet distance is defined on"
  flags.DEFINE_bool("stats", False, text, flag_values=flag_values)
  flags.DEFINE_string("out", None, ".npz file to write", flag_values=flag_values)
  distributed_flags.define(flag_values)
  flags.mark_flags_as_required(["clips", "out"], flag_values=flag_values)


@distributed_flags.fail_fast
def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  path = Path(flag_values.out)
  if len(flag_values.networks) != 1:
    raise UserError(f"--networks needs exactly one weight file, got {len(flag_values.networks)}; builtin needs none")
  check_writable(flag_values.out, "--out", suffix=".npz")
  enable_compilation_cache()
  distributed_flags.join(flag_values)
  (extractor,) = metric_flags.extractors(flag_values)
  window = metric_flags.real_window(flag_values, [extractor.network]) if flag_values.stats else ""
  with metric_flags.open_set(flag_values, "clips", window=window) as clips:
    extractor.check(clips.clip_shape)
    features = extractor.extract_all(clips, description="features")[""]
    if flag_values.stats:
      clips.digests()  # Without all of them, the facts lack the hash of the content.
      statistics = statistics_of(extractor, features, clip_shape=clips.clip_shape, facts=clips.facts)
      if jax.process_index() == 0:
        write_statistics(path, statistics)
        logging.info("wrote statistics of %d clips to %s", len(clips), path)
      return
  protocol = {
    "extractor": extractor.label,
    "extractor_hash": extractor.weights.hash,
    "input": extractor.protocol(clips.clip_shape),
    "clips": clips.name,
  }
  arrays = {"features": features.features, "logits": features.logits, "names": np.array(clips.clip_names)}
  arrays["protocol"] = np.array(json.dumps(protocol))
  if clips.labels is not None:
    arrays |= {"label": clips.labels, "class_names": np.array(clips.class_names)}
  if jax.process_index() == 0:
    with atomic_write(path) as temporary:
      np.savez_compressed(temporary, **arrays)  # ty: ignore[invalid-argument-type]  (no array is called allow_pickle)
    logging.info("wrote features of %d clips to %s", len(clips), path)
