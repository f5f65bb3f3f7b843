"""FLOPs that a train step needs, published peak FLOP/s of accelerators, and the cost of a whole run from both."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vidgen_jax.bench.flops import Parts, gradient_flops
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.core.algorithm import Update
from vidgen_jax.core.state import Nets
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.types import Batch


@dataclass(frozen=True, kw_only=True)
class Peak:
  """Peak rate of dense bfloat16 matrix products of one kind of accelerator.

  Attributes:
    name: name of the chip, as in `--device_kind`.
    kinds: regular expression for the whole `device_kind` that JAX reports.
    chip: FLOP/s of a chip.
    devices: number of JAX devices per chip.
  """

  name: str
  kinds: str
  chip: float
  devices: int = 1

  @property
  def backend(self) -> str:
    """JAX's name of the backend: 'tpu' or 'gpu'."""
    return "tpu" if self.name.startswith("TPU") else "gpu"


PEAKS = (
  # NVIDIA's data sheets, tensor cores, without sparsity: H100 SXM and H200 SXM (1,979 with sparsity); A100.
  Peak(name="NVIDIA H200", kinds="NVIDIA H200", chip=989e12),
  Peak(name="NVIDIA H100", kinds="NVIDIA H100 80GB HBM3", chip=989e12),
  Peak(name="NVIDIA A100", kinds="NVIDIA A100.*", chip=312e12),
  # cloud.google.com/tpu/docs, the pages v2, v3, v4, v5e, v5p, v6e: peak compute per chip. A chip of v2 and v3 has two
  # TensorCores, and each is a device.
  Peak(name="TPU v2", kinds="TPU v2", chip=45e12, devices=2),
  Peak(name="TPU v3", kinds="TPU v3", chip=123e12, devices=2),
  Peak(name="TPU v4", kinds="TPU v4", chip=275e12),
  Peak(name="TPU v5e", kinds="TPU v5 lite|TPU v5e", chip=197e12),
  Peak(name="TPU v5p", kinds="TPU v5|TPU v5p", chip=459e12),
  Peak(name="TPU v6e", kinds="TPU v6 lite|TPU v6e", chip=918e12),
)
"""The known accelerators."""


def published_peak(device_kind: str) -> float | None:
  """FLOP/s of one device of a kind such as 'NVIDIA H200'; None if `PEAKS` does not contain it."""
  return next((peak.chip / peak.devices for peak in PEAKS if re.fullmatch(peak.kinds, device_kind)), None)


def accelerator(device_kind: str, mfu: float) -> Peak:
  """The accelerator named `device_kind`; UserError if `PEAKS` does not contain it, or `mfu` is not in (0, 1]."""
  peak = next((peak for peak in PEAKS if peak.name == device_kind), None)
  if peak is None:
    raise UserError(f"--device_kind={device_kind!r} must be one of {', '.join(peak.name for peak in PEAKS)}")
  if not 0 < mfu <= 1:
    raise UserError(f"--mfu={mfu} must be above 0 and at most 1")
  return peak


def needed_flops(experiment: Experiment, phase: str, *, backend: str | None = None) -> dict[str, Parts]:
  """FLOPs of a train step by update, over all its repeats and accumulated parts; see `gradient_flops`. Runs nothing."""
  state, step_config = experiment.abstract_state, experiment.config.step
  clips = experiment.config.train.batch_size // step_config.accumulate
  part = {name: jax.ShapeDtypeStruct((clips, *x.shape[2:]), x.dtype) for name, x in experiment.batch_shape().items()}
  data = (part, jax.ShapeDtypeStruct(state.key.shape, state.key.dtype), jax.ShapeDtypeStruct((), np.int32))
  frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), experiment.frozen_nets)
  result = {}
  for update in experiment.algorithm.updates(phase):
    params = {name: state.nets[name].params for name in update.trains}
    parts = gradient_flops(_loss_of(update), params, (state.nets, frozen), data, backend=backend)
    runs = update.repeats * step_config.accumulate
    result[update.name] = {kind: runs * count for kind, count in parts.items()}
  return result


def total_flops(needed: Mapping[str, Parts]) -> int:
  """The sum over all parts of all updates."""
  return sum(sum(parts.values()) for parts in needed.values())


def flops_figures(needed: Mapping[str, Parts]) -> list[Measurement]:
  """The total of a step, and the share of each network in each update."""
  note = "per step on all devices; the sum of these:"
  result = [Measurement(name="FLOPs from layer shapes", value=total_flops(needed) / 1e9, unit="GFLOP", note=note)]
  for update, parts in needed.items():
    sums: dict[str, int] = {}
    for kind, count in sorted(parts.items(), key=lambda item: (item[0].on, item[0])):
      label = f"{kind.network or 'losses'} {kind.direction}" if kind.on == "clips" else "weights alone"
      sums[label] = sums.get(label, 0) + count
    result += [Measurement(name=f"  {update}: {label}", value=n / 1e9, unit="GFLOP") for label, n in sums.items()]
  return result


def _loss_of(update: Update) -> Callable[..., tuple[jax.Array, Any]]:
  def loss(params: dict, fixed: tuple[Nets, Nets], data: tuple[Batch, jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
    nets, frozen = fixed
    nets = nets | {name: dataclasses.replace(nets[name], params=value) for name, value in params.items()}
    return update.loss_fn(nets, frozen, *data)

  return loss


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
  peak = accelerator(device_kind, mfu)
  experiment = build_experiment(config, trains=False)
  needed = needed_flops(experiment, experiment.algorithm.phase_at(first_step), backend=peak.backend)
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
