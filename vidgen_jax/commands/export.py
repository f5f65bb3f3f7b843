"""`vidgen export`: the generator as a folder that runs with jax and numpy alone. See `vidgen_jax.runs.sampling.exported`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from absl import flags, logging
from flax import traverse_util
from jax import export as jax_export

import vidgen_jax
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.files import written_whole_folder
from vidgen_jax.gans import GANS
from vidgen_jax.ops.conditioning import are_leading
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import startup
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.sampling import exported
from vidgen_jax.runs.workdir import Trained

SUMMARY = """Exports the averaged generator of a run: a folder that runs with jax and numpy alone, on CPU, CUDA and TPU.

Needs --workdir of a run and --out, the folder to make; and the run's data set, for the standing statistics.
Example: vidgen export --workdir=runs/shapes --out=exports/shapes"""

BUCKET_FLAGS = ("workdir", "out")

PLATFORMS = ("cpu", "cuda", "tpu")
SEPARATOR = "/"
"""Between the parts of a flat name: 'generator/params/stage_0_unit/kernel_r'."""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  flags.DEFINE_string("workdir", None, "folder of the run", flag_values=flag_values)
  flags.DEFINE_string("out", None, "folder to make", flag_values=flag_values)
  flags.DEFINE_integer("step", None, "of the checkpoint; the latest by default", flag_values=flag_values)
  flags.DEFINE_integer(
    "num_frames",
    None,
    "length of the clips, the conditioning frames included; the trained length by default",
    lower_bound=1,
    flag_values=flag_values,
  )
  flags.DEFINE_string("data_dir", None, "folder of the data sets, if not the run's", flag_values=flag_values)
  flags.DEFINE_bool("overwrite", False, "replaces an export that is in --out already", flag_values=flag_values)
  flags.mark_flags_as_required(["workdir", "out"], flag_values=flag_values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the command."""
  del arguments
  startup.enable_compilation_cache()
  with written_whole_folder(flag_values.out, overwrite=flag_values.overwrite, marker=exported.SIGNATURE_FILE) as folder:
    config = workdir.load_config(flag_values.workdir)
    if flag_values.data_dir is not None:
      config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=flag_values.data_dir))
    trained = workdir.load_trained(flag_values.workdir, config=config, step=flag_values.step)
    export_generator(trained, folder, num_frames=flag_values.num_frames)
  logging.info("exported step %d to %s", trained.step, flag_values.out)


def export_generator(trained: Trained, folder: Path, *, num_frames: int | None = None) -> None:
  """Takes standing statistics, and writes all files of an export.

  Args:
    trained: the weights.
    folder: an empty one.
    num_frames: length of the clips, the conditioning frames included; None for `config.evaluation.num_frames`.

  Raises:
    UserError: if the length does not fit the model, the data set is missing or the disk is full.
  """
  experiment = trained.experiment
  config, options = experiment.config, generation.sampling_options(experiment, num_frames=num_frames)
  logging.info("standing statistics over %d batches", config.evaluation.standing_batches)
  nets = generation.prepare_nets(
    experiment,
    trained.nets,
    generation.standing_statistics_key(experiment),
    options=options,
    num_batches=config.evaluation.standing_batches,
  )
  weights = jax.device_get(flatten_nets(nets))
  program = generator_program(config, weights, num_frames=options.num_frames)
  signature = make_signature(trained, program, weights, num_frames=options.num_frames)
  (folder / exported.PROGRAM_FILE).write_bytes(program.serialize())
  np.savez(folder / exported.WEIGHTS_FILE, **weights)
  _write_json(folder / exported.SIGNATURE_FILE, signature)
  _write_json(folder / exported.CONFIG_FILE, configs.to_dict(config))
  (folder / exported.README_FILE).write_text(readme(signature), encoding="utf-8")


def flatten_nets(nets: Nets) -> dict[str, jax.Array]:
  """All variables of all nets by flat name, e.g. 'generator/batch_stats/output_norm/mean'."""
  return traverse_util.flatten_dict({name: net.collections for name, net in nets.items()}, sep=SEPARATOR)


def unflatten_nets(weights: Mapping[str, jax.Array]) -> Nets:
  """The inverse of `flatten_nets`."""
  nets = {}
  for name, collections in traverse_util.unflatten_dict(dict(weights), sep=SEPARATOR).items():
    params = collections.pop("params")
    nets[name] = NetState(params=params, variables=collections)
  return nets


def generator_program(config: ExperimentConfig, weights: Mapping[str, Any], *, num_frames: int) -> jax_export.Exported:
  """The generator for every platform and any batch size.

  Recurrences stay loops, also where the run had them unrolled, so that the program is small.

  Args:
    config: of the run.
    weights: arrays or ShapeDtypeStructs by flat name, with standing statistics for `num_frames`.
    num_frames: length of the clips, the conditioning frames included.

  Returns:
    (weights, given uint8 [b, G, H, W, C], latent float32 [b, D], label int32 [b])
    -> whole clips, uint8 [b, num_frames, H, W, C].
  """
  plain = {name: False for name in ("unroll", "remat") if hasattr(config.algorithm, name)}
  algorithm = GANS[config.algorithm_name][1](dataclasses.replace(config.algorithm, **plain))

  def generate(
    weights: dict[str, jax.Array], conditioning: jax.Array, latent: jax.Array, label: jax.Array
  ) -> jax.Array:
    batch = {"conditioning": conditioning, "label": label}
    return to_uint8(algorithm.predict(unflatten_nets(weights), batch, latent, num_frames=num_frames))

  (b,) = jax_export.symbolic_shape("b")
  size, channels = config.data.resolution, config.data.channels
  num_conditioning = len(algorithm.conditioning_indices(num_frames))
  latent = jax.eval_shape(lambda key: algorithm.latent(key, 1), jax.random.key(0))
  return jax_export.export(jax.jit(generate), platforms=PLATFORMS)(
    {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()},
    jax.ShapeDtypeStruct((b, num_conditioning, size, size, channels), jnp.uint8),
    jax.ShapeDtypeStruct((b, *latent.shape[1:]), latent.dtype),
    jax.ShapeDtypeStruct((b,), jnp.int32),
  )


def make_signature(
  trained: Trained, program: jax_export.Exported, weights: Mapping[str, np.ndarray], *, num_frames: int
) -> dict[str, Any]:
  """What goes in and comes out, where the weights came from and how their statistics were taken; JSON-compatible."""
  config = trained.experiment.config
  conditioning, latent, label = program.in_avals[len(weights) :]
  (video,) = program.out_avals
  num_classes = config.algorithm.num_classes if trained.is_conditional else 1
  return {
    "format": exported.FORMAT,
    "experiment": config.name,
    "algorithm": config.algorithm_name,
    "step": trained.step,
    "weights": trained.weights,
    "num_weights": sum(int(value.size) for value in weights.values()),
    "conditioning_indices": list(trained.experiment.algorithm.conditioning_indices(num_frames)),
    "num_frames": num_frames,
    "class_names": list(trained.class_names) if trained.is_conditional else [],
    "inputs": {
      "conditioning": _describe(
        conditioning, [0, 255], "the conditioning frames, in their order: batch, time, height, width, channel"
      ),
      "latent": _describe(latent, None, "standard normal; cut at +-t for less variety, zeros for none"),
      "label": _describe(label, [0, num_classes - 1], "index of the class; 0 where there are no classes"),
    },
    "outputs": {"video": _describe(video, [0, 255], "whole clips, the conditioning frames in their places")},
    "standing_statistics": {
      "batches": config.evaluation.standing_batches,
      "batch_size": config.evaluation.standing_batch_size,
      "num_frames": num_frames,
      "data": config.data.name,
      "split": config.data.train_split,
      "latent": "standard normal, not truncated",
    },
    "platforms": list(program.platforms),
    "calling_convention_version": program.calling_convention_version,
    "versions": {
      "vidgen_jax": vidgen_jax.__version__,
      "jax": jax.__version__,
      "jaxlib": jaxlib.__version__,
      "flax": flax.__version__,
      "numpy": np.__version__,
    },
  }


def readme(signature: Mapping[str, Any]) -> str:
  """The text of the export's README.md, with an example that runs in its folder."""
  arrays = {**signature["inputs"], **signature["outputs"]}
  shape = {name: (2, *array["shape"][1:]) for name, array in arrays.items()}
  platforms = ", ".join(signature["platforms"])
  names = ", ".join(f"{index} = {name}" for index, name in enumerate(signature["class_names"]))
  conditioning = "your frames" if signature["conditioning_indices"] else "no frame is given"
  label = f"`label` is the index of a class: {names}." if names else "The model has no classes: `label` is 0."
  return f"""# {signature["experiment"]}, step {signature["step"]}

{_task(signature["conditioning_indices"], signature["num_frames"])} `{exported.SIGNATURE_FILE}` describes inputs and outputs.

Needs `pip install jax flatbuffers`: numpy comes with jax, and jax reads exported programs with flatbuffers. The program
runs on {platforms} and for any number of clips. It was written by jax {signature["versions"]["jax"]}; jax reads such
programs for at least six months of its releases.

```python
import jax
import numpy as np
from jax import export

with open("{exported.PROGRAM_FILE}", "rb") as file:
  generate = jax.jit(export.deserialize(bytearray(file.read())).call)
weights = dict(np.load("{exported.WEIGHTS_FILE}"))
conditioning = np.zeros({shape["conditioning"]}, np.uint8)  # {conditioning}: clips, time, height, width, channels
latent = np.random.default_rng(0).standard_normal({shape["latent"]}).astype(np.float32)
label = np.zeros({shape["label"]}, np.int32)
video = np.asarray(generate(weights, conditioning, latent, label))  # uint8 {shape["video"]}
```

{label}
Other latents give other clips; a latent of zeros gives the typical one.
"""


def _task(conditioning_indices: Sequence[int], num_frames: int) -> str:
  """What the generator does, in a sentence."""
  count, rest = len(conditioning_indices), num_frames - len(conditioning_indices)
  if not count:
    return f"Makes clips of {num_frames} frames; no frame is given."
  if are_leading(conditioning_indices):
    first = "frame" if count == 1 else f"{count} frames"
    others = "one that follows" if rest == 1 else f"{rest} that follow"
    return f"Given the first {first} of a clip of {num_frames}, predicts the {others}."
  frames = "frame " if count == 1 else f"frames {', '.join(map(str, conditioning_indices[:-1]))} and "
  return f"Given {frames}{conditioning_indices[-1]} of a clip of {num_frames}, counted from 0, makes the other {rest}."


def _describe(aval: jax.core.ShapedArray, value_range: list[int] | None, meaning: str) -> dict[str, Any]:
  shape = ["b", *(int(length) for length in aval.shape[1:])]
  description = {"shape": shape, "dtype": str(aval.dtype), "meaning": meaning}
  return description if value_range is None else description | {"range": value_range}


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
