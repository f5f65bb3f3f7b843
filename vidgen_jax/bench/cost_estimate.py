"""What a whole run costs on an accelerator that is not at hand, from its FLOPs alone."""

from vidgen_jax.bench.device_peaks import PEAKS
from vidgen_jax.bench.flops import on_backend
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.bench.step_flops import flops_figures, needed_flops, total_flops
from vidgen_jax.errors import UserError
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs.config import ExperimentConfig


def estimate(
  config: ExperimentConfig, *, device_kind: str = "TPU v3", mfu: float = 0.3, first_step: int = 0
) -> list[Measurement]:
  """Counts the FLOPs of a run, and the chip-hours that they take at an assumed utilisation. Nothing is run.

  Recomputed activations (`algorithm.remat`) are not counted, as in any MFU; scores, images and input are left out.

  Args:
    config: of the experiment.
    device_kind: a name in `PEAKS`.
    mfu: the assumed share of the chip's peak that goes into needed FLOPs, in (0, 1].
    first_step: completed train steps, which choose the phase; all steps are taken to be like it.

  Returns:
    The figures, in the order of the table.

  Raises:
    UserError: if the accelerator is unknown, the share out of range, or the config does not fit.
  """
  peak = next((peak for peak in PEAKS if peak.name == device_kind), None)
  if peak is None:
    raise UserError(f"--device_kind={device_kind!r} is not one of {', '.join(peak.name for peak in PEAKS)}")
  if not 0 < mfu <= 1:
    raise UserError(f"--mfu={mfu} must be above 0 and at most 1")
  experiment = experiments.build(config)
  with on_backend(peak.backend):
    needed = needed_flops(experiment, experiment.algorithm.phase_at(first_step))
  total, steps = total_flops(needed), config.train.num_steps
  hours = total * steps / (mfu * peak.chip) / 3600
  assumed = f"assumed: {100 * mfu:g} % of {peak.chip / 1e12:g} TFLOP/s a chip ({peak.name})"
  return [
    *flops_figures(needed),
    Measurement(
      name=f"whole run ({steps:,} steps)", value=total * steps / 1e18, unit="EFLOP", note="1e18; all steps like these"
    ),
    Measurement(name="whole run, all chips", value=hours, unit="chip-hours", note=assumed),
  ]
