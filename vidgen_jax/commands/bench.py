"""`vidgen bench`: time, FLOPs and memory of a train step, and whether the loop and the pipeline keep up with it."""

import dataclasses
from typing import TYPE_CHECKING, Any

from absl import flags

from vidgen_jax.bench.settings import PEAKS, WINDOWS, accelerator
from vidgen_jax.commands.flag_parsing import define_config, integers, values_of
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.runs.config import from_config_dict

if TYPE_CHECKING:
  from vidgen_jax.bench.measurements import Report

# Modules that use JAX are imported by `run`, so that a mistake in a flag is reported at once.

SUMMARY = """Measures a train step, and the loop and the data pipeline against it.

Needs --config, and the data set named by config.data.name (or --no_data). Trains from new weights in a temporary
folder, without images, scores and checkpoints. Compiles twice, without and with a compilation cache of its own.
  --no_loop        leaves out the loop. --steps=1 then times a single step after one warm-up step, for steps that take
                   minutes. The figures of the whole run are computed from the bare step.
  --profile        lists the modules that take most of the time of a step, from a trace of --steps steps, and leaves out
                   all other figures. Operations that overlap count in full.
  --estimate       runs nothing: counts the FLOPs of a step and of the run, and the hours of one chip of --device_kind
                   at an assumed utilisation, --mfu.
  --collectives=8,64,512
                   runs nothing: compiles the step for 8, 64 and 512 fake devices, and reports what they exchange in a
                   step, for which purpose, and the memory of each; --config.mesh.fsdp=8 splits the state. TPU
                   topologies such as v5p:2x2x2,v5p:4x4x4 give the TPU's program; they need libtpu, but no TPU. A
                   chip of TPU v2 and v3 has two devices, any other chip one: v3:4x4 has 32.
  --scaling=8,64,512
                   runs nothing: predicts the step time on 8, 64 and 512 chips (not devices) of --device_kind at
                   --mfu, from FLOPs, the traffic of a program for 8 fake devices, and published bandwidths. A model,
                   not a measurement.
Tables of the papers and comparisons with other libraries are scripts in benchmarks/ of the repository.
Example: vidgen bench --config=trivd_shape_motion.py:cpu --steps=40 --out=bench.jsonl
         vidgen bench --config=trivd_shape_motion.py:cpu --profile
         vidgen bench --config=trivd_kinetics600.py:paper --estimate --device_kind="TPU v3" --mfu=0.3
         vidgen bench --config=trivd_kinetics600.py:paper --collectives=8,64,512
         vidgen bench --config=trivd_kinetics600.py:paper --scaling=8,64,512 --device_kind="TPU v5p" --mfu=0.4"""


def define_flags(flag_values: flags.FlagValues) -> None:
  """The command's flags."""
  values: dict[str, Any] = {"flag_values": flag_values}
  define_config(flag_values)
  flags.DEFINE_integer("steps", 20, "steps to time, of the bare step and of the loop", **values)
  flags.DEFINE_integer("first_step", 0, "completed steps, which choose the phase", **values)
  flags.DEFINE_float("peak_tflops", None, "peak of one device, for MFU; known for some kinds", **values)
  flags.DEFINE_string("out", None, "file for the figures, one JSON object per line", **values)
  flags.DEFINE_bool("no_data", False, "train on noise and leave out the pipeline", **values)
  flags.DEFINE_bool("no_loop", False, "time the bare step alone", **values)
  flags.DEFINE_bool("profile", False, "only list the modules that take most of a step's time", **values)
  flags.DEFINE_bool("estimate", False, "run nothing: FLOPs and chip-hours", **values)
  flags.DEFINE_enum(
    "device_kind", "TPU v3", [peak.name for peak in PEAKS], "--estimate, --scaling: accelerator", **values
  )
  flags.DEFINE_float("mfu", 0.3, "--estimate, --scaling: assumed share of the chip's peak, 0 to 1", **values)
  flags.DEFINE_list(
    "collectives", None, "run nothing: traffic for numbers of devices, not chips, or for TPU topologies", **values
  )
  flags.DEFINE_list("scaling", None, "run nothing: predicted step time on numbers of chips, not devices", **values)
  flags.mark_flag_as_required("config", **values)


def run(flag_values: flags.FlagValues, _arguments: list[str]) -> None:
  """Runs the command."""
  _check_flags(flag_values)
  out = check_writable(flag_values.out, "--out")
  config = from_config_dict(flag_values.config)
  runs = not flag_values.estimate and flag_values.collectives is None and flag_values.scaling is None
  if runs and not flag_values.no_data:
    from vidgen_jax.runs.data_checks import check_training

    check_training(config, validates=False)
  counts = integers("scaling", flag_values.scaling or [])
  from vidgen_jax.bench import reports, scaling
  from vidgen_jax.bench.measurements import write_report
  from vidgen_jax.parallel.processes import enable_compilation_cache

  enable_compilation_cache()
  assumed = values_of(flag_values, "device_kind", "mfu", "first_step")
  measured = values_of(flag_values, "steps", "first_step", "no_data")
  if flag_values.collectives is not None:
    report = reports.report_collectives(config, flag_values.collectives, first_step=flag_values.first_step)
  elif flag_values.scaling is not None:
    report = _name_default(scaling.predict(config, counts, **assumed), flag_values)
  elif flag_values.estimate:
    report = _name_default(reports.report_estimate(config, **assumed), flag_values)
  elif flag_values.profile:
    report = reports.report_profile(config, **measured)
  else:
    report = reports.report_step(config, **measured, **values_of(flag_values, "no_loop", "peak_tflops"))
  write_report(report, out)


_USED = {
  "": {"steps", "no_data", "no_loop", "peak_tflops"},
  "profile": {"steps", "no_data"},
  "estimate": {"device_kind", "mfu"},
  "scaling": {"device_kind", "mfu"},
  "collectives": set(),
}
"""Flags that have an effect, by the flag that selects the report."""


def _name_default(report: "Report", flag_values: flags.FlagValues) -> "Report":
  """The report, which names the accelerator if it was not chosen."""
  if flag_values["device_kind"].present:
    return report
  named = f"--device_kind is not set, so these are figures of a {flag_values.device_kind}.\n"
  return dataclasses.replace(report, text=named + report.text)


def _check_flags(flag_values: flags.FlagValues) -> None:
  modes = {name: values_of(flag_values, name)[name] is not None for name in ("collectives", "scaling")}
  modes |= values_of(flag_values, "estimate", "profile")
  if sum(modes.values()) > 1:
    raise UserError(f"{' and '.join(f'--{name}' for name, on in modes.items() if on)} exclude each other")
  mode = next((name for name, on in modes.items() if on), "")
  for name in sorted(set().union(*_USED.values()) - _USED[mode]):
    if flag_values[name].present:
      others = " or ".join(f"--{other}" for other, used in _USED.items() if other and name in used)
      why = f"has no effect with --{mode}" if mode else f"needs {others}"
      raise UserError(f"--{name} {why}; leave it out")
  at_least = 1 if flag_values.no_loop or flag_values.profile else WINDOWS
  if flag_values.steps < at_least:
    hint = "" if at_least == 1 else "; --no_loop times the bare step alone, even a single one"
    raise UserError(f"--steps={flag_values.steps} must be at least {at_least}{hint}")
  if flag_values.peak_tflops is not None and not flag_values.peak_tflops > 0:
    raise UserError(f"--peak_tflops={flag_values.peak_tflops} must be positive")
  accelerator(flag_values.device_kind, flag_values.mfu)
