"""FLOPs that a train step needs, counted from the shapes of its layers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from vidgen_jax.bench.flops import Parts, gradient_flops
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.core.algorithm import Update
from vidgen_jax.core.state import Nets
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.types import Batch


def needed_flops(experiment: Experiment, phase: str) -> dict[str, Parts]:
  """FLOPs of a train step by update, over all its repeats and accumulated parts; see `bench.flops`. Runs nothing."""
  state, step_config = experiment.abstract_state, experiment.config.step
  clips = experiment.config.train.batch_size // step_config.accumulate
  part = {name: jax.ShapeDtypeStruct((clips, *x.shape[2:]), x.dtype) for name, x in experiment.batch_shape().items()}
  data = (part, jax.ShapeDtypeStruct(state.key.shape, state.key.dtype), jax.ShapeDtypeStruct((), np.int32))
  frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), experiment.frozen_nets)
  result = {}
  for update in experiment.algorithm.updates(phase):
    params = {name: state.nets[name].params for name in update.trains}
    parts = gradient_flops(_loss_of(update), params, (state.nets, frozen), data)
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
