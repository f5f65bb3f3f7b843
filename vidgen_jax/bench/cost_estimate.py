"""Estimates the cost of a whole run on an accelerator from its FLOPs alone."""

from vidgen_jax.bench.device_peaks import PEAKS
from vidgen_jax.bench.flops import on_backend
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.bench.step_flops import flops_figures, needed_flops, total_flops
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import build_experiment


def estimate(
  config: ExperimentConfig, *, device_kind: str = "TPU v3", mfu: float = 0.3, first_step: int = 0
) -> list[Measurement]:
  """Counts the FLOPs of a run, and the chip-hours that they take at an assumed utilisation. Runs nothing.

  Recomputed activations (`algorithm.remat`) do not count, as in any MFU; scores, images and input are not included.

  Args:
    config: config of the experiment.
    device_kind: name of an accelerator in `PEAKS`.
    mfu: assumed share of the chip's peak that computes needed FLOPs, in (0, 1].
    first_step: completed train steps, which choose the phase; all steps are assumed to cost the same.

  Raises:
    UserError: if the accelerator is unknown, the share out of range, or the config invalid.
  """
  peak = next((peak for peak in PEAKS if peak.name == device_kind), None)
  if peak is None:
    raise UserError(f"--device_kind={device_kind!r} must be one of {', '.join(peak.name for peak in PEAKS)}")
  if not 0 < mfu <= 1:
    raise UserError(f"--mfu={mfu} must be above 0 and at most 1")
  experiment = build_experiment(config)
  with on_backend(peak.backend):
    needed = needed_flops(experiment, experiment.algorithm.phase_at(first_step))
  total, steps = total_flops(needed), config.train.num_steps
  hours = total * steps / (mfu * peak.chip) / 3600
  assumed = f"assumed: {100 * mfu:g} % of {peak.chip / 1e12:g} TFLOP/s a chip ({peak.name})"
  return [
    *flops_figures(needed),
    Measurement(
      name=f"whole run ({steps:,} steps)", value=total * steps / 1e18, unit="EFLOP", note="1e18; all steps alike"
    ),
    Measurement(name="whole run, all chips", value=hours, unit="chip-hours", note=assumed),
  ]
