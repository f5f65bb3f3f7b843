"""The train step: all updates of a phase in order, then the EMA."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from vidgen_jax.core.algorithm import Loss, Update
from vidgen_jax.core.config import EmaConfig, StepConfig
from vidgen_jax.core.ema import update_ema
from vidgen_jax.core.state import Nets, TrainState
from vidgen_jax.ops import loops
from vidgen_jax.types import BATCH_AXES, Batch, Metrics, Params, PRNGKey

EXCHANGE_SCOPE = "exchange_gradients"
"""Name of the exchange of gradients and metrics in compiled programs."""

Gather = Callable[[Nets], Nets]
"""Constrains nets to be replicated while a loss is computed (see `Experiment.step_fn`)."""


@flax.struct.dataclass
class StepConstants:
  """Inputs of a train step besides state and batch."""

  learning_rates: dict[str, jax.Array]
  """float32[] by update name; arguments of the compiled step, so that a new rate does not recompile it."""
  frozen: Nets
  """Nets that losses use and no update trains."""


def train_step(
  state: TrainState,
  batch: Batch,
  constants: StepConstants,
  *,
  updates: tuple[Update, ...],
  ema: EmaConfig,
  config: StepConfig,
  gather: Gather = lambda nets: nets,
  mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics]:
  """Runs all updates of a phase in order, then updates the EMA.

  Args:
    state: train state before the step.
    batch: micro-batches stacked on the leading axis: video uint8 [K, B, T, H, W, C], label int32 [K, B].
    constants: learning rates and frozen nets.
    updates: updates of the current phase.
    ema: settings of the EMA.
    config: settings of the step.
    gather: function applied to the nets before a loss uses them.
    mesh: devices over which the batch is split, over `BATCH_AXES`; None for one device.

  Returns:
    (state after the step, metrics by '{update}/{name}', averaged over repeats).
  """
  nets, opt_states, metrics = dict(state.nets), dict(state.opt_states), {}
  step_key = jax.random.fold_in(state.key, state.step)
  consumed = 0
  for index, update in enumerate(updates):
    key = jax.random.fold_in(step_key, index)
    part = jax.tree.map(lambda x, a=consumed, n=update.repeats: lax.slice_in_dim(x, a, a + n), batch)
    consumed += update.repeats

    def repeat(carry, inputs, update=update, key=key, untouched=nets):
      i, microbatch = inputs
      key = jax.random.fold_in(key, i)
      touched, opt_state, metrics = _apply_update(
        update, untouched | carry[0], carry[1], microbatch, key, state.step, constants, config, gather, mesh
      )
      return ({name: touched[name] for name in carry[0]}, opt_state), metrics

    touched = {name: nets[name] for name in (*update.trains, *update.refreshes)}
    carry = (touched, opt_states[update.name])
    inputs = (jnp.arange(update.repeats), part)
    carry, stacked = loops.scan(repeat, carry, inputs, length=update.repeats)
    touched, opt_states[update.name] = carry
    nets = nets | touched
    metrics |= {f"{update.name}/{name}": jnp.mean(values) for name, values in stacked.items()}
  step = state.step + 1
  averages = update_ema(state.ema, nets, step, ema)
  return state.replace(step=step, nets=nets, opt_states=opt_states, ema=averages), metrics


def _apply_update(
  update: Update,
  nets: Nets,
  opt_state: optax.OptState,
  batch: Batch,
  key: PRNGKey,
  step: jax.Array,
  constants: StepConstants,
  config: StepConfig,
  gather: Gather,
  mesh: Mesh | None,
) -> tuple[Nets, optax.OptState, Metrics]:
  gradients = _over_devices(functools.partial(_gradients, update, config), mesh)
  grads, variables, metrics = gradients(gather(nets), constants.frozen, batch, key, step)
  params = {name: nets[name].params for name in update.trains}
  directions, opt_state = update.optimizer.update(grads, opt_state, params)
  rate = -constants.learning_rates[update.name]
  stepped: Any = optax.apply_updates(params, jax.tree.map(lambda d: rate * d, directions))
  metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
  return _replaced(_replaced(nets, "variables", variables), "params", stepped), opt_state, metrics


def _replaced(nets: Nets, field: str, values: Mapping[str, Any]) -> Nets:
  """Nets with other values in one field of some of them."""
  return nets | {name: nets[name].replace(**{field: value}) for name, value in values.items()}


_GradientsAndMetrics = tuple[Mapping[str, Params], Mapping[str, Mapping], Metrics]
"""Gradients of the trained nets, variables of the refreshed nets, and metrics."""


def _over_devices(
  gradients: Callable[..., _GradientsAndMetrics], mesh: Mesh | None
) -> Callable[..., _GradientsAndMetrics]:
  """`_gradients` of (nets, frozen nets, batch, key, completed steps), computed by each device for its own clips.

  Every loss is a mean over clips, so the mean over devices is that of the whole batch; see `vidgen_jax.ops.devices`.
  """
  if mesh is None or mesh.size == 1:
    return gradients

  def on_device(*inputs: Any) -> _GradientsAndMetrics:
    grads, variables, metrics = gradients(*inputs)
    with jax.named_scope(EXCHANGE_SCOPE):
      grads, metrics = lax.pmean((grads, metrics), mesh.axis_names)
    return grads, variables, metrics

  # `jax.jit` alone would exchange the gradients of every part: spectral normalisation needs their sum over the devices.
  # Without `check_vma` the gradient of a sum over devices is summed over devices, so `jax.grad` gives a device's share
  # of the gradients of the sum of all devices' losses.
  whole, clips = PartitionSpec(), PartitionSpec(BATCH_AXES)
  in_specs = (whole, whole, clips, whole, whole)
  return jax.shard_map(on_device, mesh=mesh, in_specs=in_specs, out_specs=whole, check_vma=False)


def _gradients(
  update: Update, config: StepConfig, nets: Nets, frozen: Nets, batch: Batch, key: PRNGKey, step: jax.Array
) -> _GradientsAndMetrics:
  """Gradients and metrics averaged over the parts of the micro-batch, and the refreshed variables."""
  params = {name: nets[name].params for name in update.trains}
  variables = {name: nets[name].variables for name in update.refreshes}

  def one_part(variables: Mapping[str, Mapping], part: Batch, key: PRNGKey):
    current = _replaced(nets, "variables", variables)

    def loss_of(params: Mapping[str, Params]) -> Loss:
      return update.loss_fn(_replaced(current, "params", params), frozen, part, key, step)

    (loss, output), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    variables = {name: output.nets[name].variables if name in output.nets else variables[name] for name in variables}
    return grads, variables, {"loss": loss} | output.metrics

  if config.accumulate == 1:
    return one_part(variables, batch, key)

  def split(x: jax.Array) -> jax.Array:
    # Strided parts: every device keeps its own clips, so splitting the batch moves no data.
    parts = x.reshape(x.shape[0] // config.accumulate, config.accumulate, *x.shape[1:])
    return jnp.swapaxes(parts, 0, 1)

  def body(carry, inputs):
    (variables, total), (i, part) = carry, inputs
    grads, variables, metrics = one_part(variables, part, jax.random.fold_in(key, i))
    # Summed, not stacked: only one copy of the gradients is kept.
    return (variables, jax.tree.map(jnp.add, total, grads)), metrics

  carry = (variables, jax.tree.map(jnp.zeros_like, params))
  inputs = (jnp.arange(config.accumulate), jax.tree.map(split, batch))
  (variables, total), metrics = loops.scan(body, carry, inputs, length=config.accumulate)
  grads = jax.tree.map(lambda x: x / config.accumulate, total)
  return grads, variables, jax.tree.map(jnp.mean, metrics)
