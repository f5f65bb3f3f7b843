"""FLOPs that a train step needs, and the cost of a whole run at the peak FLOP/s of an accelerator."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from vidgen_jax.bench.flops import Parts, gradient_flops
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.bench.settings import accelerator
from vidgen_jax.core.algorithm import Update
from vidgen_jax.core.state import Nets
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import Experiment, build_experiment
from vidgen_jax.types import Batch


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

  Recomputed activations (`algorithm.remat`) do not count, as in any MFU; scores, images and input are not included. All
  steps count as the one after `first_step` steps; `mfu` is the assumed share of the peak of `device_kind`, in (0, 1].

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
