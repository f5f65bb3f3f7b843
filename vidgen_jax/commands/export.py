"""`vidgen export`: writes the generator of a run as a folder; see `vidgen_jax.runs.sampling.exported`."""

from typing import Any

from absl import flags, logging

from vidgen_jax.files import atomic_write_dir
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.runs import workdir
from vidgen_jax.runs.config import with_data
from vidgen_jax.runs.sampling.export import export_generator
from vidgen_jax.runs.sampling.exported import SIGNATURE_FILE

SUMMARY = """Exports the averaged generator of a run: a folder that runs with jax and numpy alone, on CPU, CUDA and TPU.

Requires --workdir, a run, --out, the folder to create, and the run's data set, for the standing statistics.
Example: vidgen export --workdir=runs/shapes --out=exports/shapes"""

BUCKET_FLAGS = ("workdir", "out")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_string("workdir", None, "folder of the run", **values)
  flags.DEFINE_string("out", None, "folder to create", **values)
  flags.DEFINE_integer("step", None, "step of the checkpoint; default: the latest", **values)
  text = "length of the clips, conditioning frames included; default: that of the run's evaluation"
  flags.DEFINE_integer("num_frames", None, text, lower_bound=1, **values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets; default: the run's", **values)
  flags.DEFINE_bool("overwrite", False, "replaces an existing export in --out", **values)
  flags.mark_flags_as_required(["workdir", "out"], **values)


def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  enable_compilation_cache()
  with atomic_write_dir(flag_values.out, overwrite=flag_values.overwrite, marker=SIGNATURE_FILE) as folder:
    config = with_data(workdir.load_config(flag_values.workdir), data_dir=flag_values.data_dir)
    trained = workdir.load_trained(flag_values.workdir, config=config, step=flag_values.step)
    export_generator(trained, folder, num_frames=flag_values.num_frames)
  logging.info("exported step %d to %s", trained.step, flag_values.out)
