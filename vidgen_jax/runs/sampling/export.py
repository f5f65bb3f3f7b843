"""Writing a generator as a folder that runs with jax and numpy alone; `exported` reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from flax import traverse_util
from jax import export as jax_export

import vidgen_jax
from vidgen_jax.core.state import Nets, NetState
from vidgen_jax.files import write_json
from vidgen_jax.gans import GANS
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.runs import generation
from vidgen_jax.runs.config import ExperimentConfig, sampling_means, to_dict
from vidgen_jax.runs.sampling import exported
from vidgen_jax.runs.workdir import Trained, check_data

PLATFORMS = ("cpu", "cuda", "tpu")


def export_generator(trained: Trained, folder: Path, *, num_frames: int | None = None) -> None:
  """Computes standing statistics and writes all files of an export to an empty folder.

  `num_frames` is the length of the clips, conditioning frames included; None for `config.evaluation.num_frames`.
  Raises a UserError if the data set is missing or has other classes than the model.
  """
  experiment = trained.experiment
  check_data(trained)
  config, options = experiment.config, generation.sampling_options(experiment, num_frames=num_frames)
  nets = generation.prepare_nets(experiment, trained.nets, options=options)
  weights = jax.device_get(flatten_nets(nets))
  program = generator_program(config, weights, num_frames=options.num_frames)
  signature = make_signature(trained, program, weights, num_frames=options.num_frames)
  (folder / exported.PROGRAM_FILE).write_bytes(program.serialize())
  np.savez(folder / exported.WEIGHTS_FILE, **weights)
  write_json(folder / exported.SIGNATURE_FILE, signature)
  write_json(folder / exported.CONFIG_FILE, to_dict(config))
  (folder / exported.README_FILE).write_text(readme(signature), encoding="utf-8")


def flatten_nets(nets: Nets) -> dict[str, jax.Array]:
  """All variables of all networks by flat name, such as 'generator/batch_stats/output_norm/mean'."""
  return traverse_util.flatten_dict({name: net.collections for name, net in nets.items()}, sep="/")


def unflatten_nets(weights: Mapping[str, jax.Array]) -> Nets:
  """The inverse of `flatten_nets`."""
  networks = traverse_util.unflatten_dict(dict(weights), sep="/")
  return {name: NetState(params=found.pop("params"), variables=found) for name, found in networks.items()}


def generator_program(config: ExperimentConfig, weights: Mapping[str, Any], *, num_frames: int) -> jax_export.Exported:
  """The generator for all `PLATFORMS` and any batch size; `weights` are arrays or ShapeDtypeStructs by flat name.

  Returns:
    (weights, conditioning uint8 [b, G, H, W, C], latent float32 [b, D], label int32 [b])
    -> whole clips, uint8 [b, num_frames, H, W, C]. The latent is standard normal; the program adds `sampling_means`.
  """
  gan: Any = GANS[config.algorithm_name][1]
  algorithm = gan(config.algorithm)

  def generate(
    weights: dict[str, jax.Array], conditioning: jax.Array, latent: jax.Array, label: jax.Array
  ) -> jax.Array:
    batch = {"conditioning": conditioning, "label": label}
    if any(sampling_means(config)):
      latent += algorithm.latent(jax.random.key(0), 1, truncation=0.0)  # Without its random part.
    return to_uint8(algorithm.predict(unflatten_nets(weights), batch, latent, num_frames=num_frames))

  (b,) = jax_export.symbolic_shape("b")
  size = config.data.resolution
  frames = (len(algorithm.conditioning_indices(num_frames)), size, size, config.data.channels)
  latent = jax.eval_shape(lambda key: algorithm.latent(key, 1), jax.random.key(0))
  return jax_export.export(jax.jit(generate), platforms=PLATFORMS)(
    {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()},
    jax.ShapeDtypeStruct((b, *frames), jnp.uint8),
    jax.ShapeDtypeStruct((b, *latent.shape[1:]), latent.dtype),
    jax.ShapeDtypeStruct((b,), jnp.int32),
  )


def make_signature(
  trained: Trained, program: jax_export.Exported, weights: Mapping[str, np.ndarray], *, num_frames: int
) -> dict[str, Any]:
  """Inputs, outputs, origin of the weights and of their standing statistics; JSON-compatible."""
  config = trained.experiment.config
  conditioning, latent, label = program.in_avals[len(weights) :]
  (video,) = program.out_avals
  num_classes = config.algorithm.num_classes if trained.is_conditional else 1
  means = sampling_means(config)
  added = f"; the program adds algorithm.sampling_means={means}" if any(means) else ""
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
        conditioning, [0, 255], "conditioning frames in the order of conditioning_indices; B, T, H, W, C"
      ),
      "latent": _describe(latent, None, f"standard normal; truncated at +-t for less variety, zeros for none{added}"),
      "label": _describe(label, [0, num_classes - 1], "index of the class; 0 for a model without classes"),
    },
    "outputs": {"video": _describe(video, [0, 255], "whole clips, conditioning frames included; B, T, H, W, C")},
    "standing_statistics": {
      "batches": config.evaluation.standing_batches,
      "batch_size": config.evaluation.standing_batch_size,
      "num_frames": num_frames,
      "data": config.standing_data.name,
      "split": config.data.train_split,
      "latent": f"standard normal, not truncated{added}",
    },
    "platforms": list(program.platforms),
    "calling_convention_version": program.calling_convention_version,
    "versions": {package.__name__: package.__version__ for package in (vidgen_jax, jax, jaxlib, flax, np)},
  }


def readme(signature: Mapping[str, Any]) -> str:
  """The text of the export's README.md; its example runs in the export's folder."""
  arrays = {**signature["inputs"], **signature["outputs"]}
  shape = {name: (2, *array["shape"][1:]) for name, array in arrays.items()}
  platforms = ", ".join(signature["platforms"])
  names = ", ".join(f"{index} = {name}" for index, name in enumerate(signature["class_names"]))
  frames = ", ".join(map(str, signature["conditioning_indices"])) or "none"
  label = f"`label` is the index of a class: {names}." if names else "The model has no classes: `label` is 0."
  return f"""# {signature["experiment"]}, step {signature["step"]}

Generates clips of {signature["num_frames"]} frames. Conditioning frames, counted from 0: {frames}.
`{exported.SIGNATURE_FILE}` describes inputs and outputs.

Requirements: `pip install jax flatbuffers`. numpy is a dependency of jax, and jax reads exported programs with
flatbuffers. The program runs on {platforms} and for any number of clips. It was exported with jax \
{signature["versions"]["jax"]}; later versions of jax read it for at least six months.

```python
import jax
import numpy as np
from jax import export

with open("{exported.PROGRAM_FILE}", "rb") as file:
  generate = jax.jit(export.deserialize(bytearray(file.read())).call)
weights = dict(np.load("{exported.WEIGHTS_FILE}"))
conditioning = np.zeros({shape["conditioning"]}, np.uint8)  # clips, frames, height, width, channels
latent = np.random.default_rng(0).standard_normal({shape["latent"]}).astype(np.float32)
label = np.zeros({shape["label"]}, np.int32)
video = np.asarray(generate(weights, conditioning, latent, label))  # uint8 {shape["video"]}
```

{label}
Other latents give other clips; a latent of zeros gives the typical clip.
"""


def _describe(aval: Any, value_range: list[int] | None, meaning: str) -> dict[str, Any]:
  shape = ["b", *(int(length) for length in aval.shape[1:])]
  description = {"shape": shape, "dtype": str(aval.dtype), "meaning": meaning}
  return description if value_range is None else description | {"range": value_range}
