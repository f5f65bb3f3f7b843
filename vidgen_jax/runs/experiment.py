"""Wiring: from a config to an algorithm, a mesh and compiled functions."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.gans import GANS, Gan, SampleOptions
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.core.standing_statistics import STATISTICS, standing_statistics
from vidgen_jax.core.state import Nets, NetState, TrainState
from vidgen_jax.core.step import StepConstants, train_step
from vidgen_jax.core.update import Update, num_microbatches
from vidgen_jax.errors import UserError
from vidgen_jax.runs.net_health import net_health
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file
from vidgen_jax.types import Batch, Metrics

GATHER_SCOPE = "gather_parameters"
"""By this name compiled programs know the exchange of parameters that are split."""

StepFn = Callable[[TrainState, Batch, StepConstants], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class Experiment:
  """A config, and what follows from it. Holds no arrays."""

  config: ExperimentConfig
  algorithm: Gan
  mesh: jax.sharding.Mesh

  @property
  def num_frames(self) -> int:
    """Length of training clips."""
    return self.config.data.num_frames

  @functools.cached_property
  def updates(self) -> tuple[Update, ...]:
    """All updates of all phases, once each."""
    found = {update.name: update for phase in self.algorithm.phases for update in self.algorithm.updates(phase)}
    return tuple(found.values())

  def batch_shape(self) -> Batch:
    """ShapeDtypeStructs of a global batch of micro-batches: video [K, B, T, H, W, C], label [K, B]."""
    data = self.config.data
    lead = (self.algorithm.microbatches, self.config.train.batch_size)
    sharding = meshes.batch_sharding(self.mesh, microbatches=True)
    video = (*lead, data.num_frames, data.resolution, data.resolution, data.channels)
    return {
      "video": jax.ShapeDtypeStruct(video, jnp.uint8, sharding=sharding),
      "label": jax.ShapeDtypeStruct(lead, jnp.int32, sharding=sharding),
    }

  def _init(self, root: jax.Array) -> TrainState:
    # Parameters do not depend on the number of clips: two stand for all, whatever the devices.
    shapes = {name: (2, *leaf.shape[2:]) for name, leaf in self.batch_shape().items()}
    batch = {"video": jnp.zeros(shapes["video"], jnp.uint8), "label": jnp.zeros(shapes["label"], jnp.int32)}
    init_key, run_key = jax.random.split(root)
    nets = self.algorithm.init(init_key, batch)
    opt_states = {
      update.name: update.optimizer.init({name: nets[name].params for name in update.trains}) for update in self.updates
    }
    ema = {name: nets[name] for name in self.algorithm.ema_nets}
    return TrainState(step=jnp.zeros((), jnp.int32), key=run_key, nets=nets, opt_states=opt_states, ema=ema)

  @functools.cached_property
  def abstract_state(self) -> TrainState:
    """The state's shapes and shardings."""
    shapes = jax.eval_shape(self._init, jax.random.key(0))
    shardings = meshes.state_sharding(shapes, self.mesh, self.config.mesh)
    return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
    )

  def init_state(self) -> TrainState:
    """A fresh state, each device holding its share only."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
    return jax.jit(self._init, out_shardings=shardings)(jax.random.key(self.config.train.seed))

  def step_fn(self, phase: str) -> StepFn:
    """The jitted train step of a phase; it donates the state.

    Split parameters are gathered when a loss uses them, and only the batch is split in the computation: left to itself,
    the partitioner also splits channels, which with jax 0.10.2 changed the numbers.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
    run = functools.partial(
      train_step,
      updates=self.algorithm.updates(phase),
      ema=self.config.ema,
      config=self.config.step,
      gather=self._gather,
    )
    return jax.jit(run, donate_argnums=0, out_shardings=(shardings, meshes.replicated(self.mesh)))

  def _gather(self, nets: Nets) -> Nets:
    with jax.named_scope(GATHER_SCOPE):
      return jax.lax.with_sharding_constraint(nets, meshes.replicated(self.mesh))

  def step_constants(self, step: int, phase: str) -> StepConstants:
    """The learning rates after `step` completed steps, and the frozen nets; on the devices."""
    rates = {update.name: np.float32(update.learning_rate(step)) for update in self.algorithm.updates(phase)}
    rates = jax.device_put(rates, meshes.replicated(self.mesh))
    return StepConstants(learning_rates=rates, frozen=self.frozen_nets)

  @functools.cached_property
  def frozen_weights(self) -> Mapping[str, WeightFile]:
    """The weight files of the networks that nothing trains, by the names that losses know.

    Raises:
      UserError: if a file cannot be read, or is another network's.
    """
    files = {}
    for name, frozen in self.algorithm.frozen_networks().items():
      files[name] = weights = read_weight_file(frozen.weights)
      if weights.network != frozen.network:
        raise UserError(f"{frozen.weights} holds weights of {weights.network}, and {frozen.network} is needed")
    return files

  @functools.cached_property
  def frozen_nets(self) -> Nets:
    """The nets that losses use and nothing trains, whole on every device."""
    nets = {}
    for name, weights in self.frozen_weights.items():
      variables = jax.tree.map(np.asarray, dict(weights.variables))
      nets[name] = NetState(params=variables.pop("params"), variables=variables)
    return jax.device_put(nets, meshes.replicated(self.mesh))

  def compile_step(self, phase: str) -> Any:
    """The compiled train step of a phase, with its cost and memory analyses; the plain one under JAX_DISABLE_JIT."""
    if jax.config.jax_disable_jit:
      return self.step_fn(phase)
    if phase not in self._compiled:
      constants = self.step_constants(0, phase)
      lowered = self.step_fn(phase).lower(self.abstract_state, self.batch_shape(), constants)
      self._compiled[phase] = lowered.compile()
    return self._compiled[phase]

  @functools.cached_property
  def _compiled(self) -> dict[str, Any]:
    """Train steps by phase: a run that is rolled back does not wait for them again."""
    return {}

  def net_health(self, nets: Nets) -> Metrics:
    """Norms and singular values of live nets, on every device; see `observe.net_health`.

    A program of its own, so that steps whose metrics are not written do not pay for it.
    """
    return self._net_health(nets)

  @functools.cached_property
  def _net_health(self) -> Callable[[Nets], Metrics]:
    return jax.jit(net_health, out_shardings=meshes.replicated(self.mesh))

  def clips_per_step(self, phase: str) -> int:
    """Real clips that a train step consumes, over all devices."""
    return num_microbatches(self.algorithm.updates(phase)) * self.config.train.batch_size

  def options(self, *, num_frames: int = 0, truncation: float = -1.0) -> SampleOptions:
    """Sampling options; 0 frames means the trained length, a negative truncation none.

    Raises:
      UserError: if the model cannot make clips of this length, or the truncation is not a number.
    """
    if math.isnan(truncation):
      raise UserError(
        "truncation is not a number; give a width, 0 for the typical latent, or a negative one for no cut"
      )
    num_frames = num_frames or self.num_frames
    if self.algorithm.fixed_length and num_frames != self.num_frames:
      raise UserError(f"num_frames={num_frames}: this model makes clips of {self.num_frames} frames and no others")
    self.algorithm.conditioning_indices(num_frames)
    return SampleOptions(num_frames=num_frames, truncation=None if truncation < 0 else truncation)

  @functools.cached_property
  def _batch_moments(self) -> Callable:
    def batch_moments(nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> Nets:
      return self.algorithm.batch_moments(self._gather(nets), batch, key, options=options)

    return jax.jit(batch_moments, static_argnames="options")

  @functools.cached_property
  def _sample(self) -> Callable:
    def sample(nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> jax.Array:
      return to_uint8(self.algorithm.sample(self._gather(nets), batch, key, options=options))

    return jax.jit(sample, static_argnames="options", out_shardings=meshes.replicated(self.mesh))

  @functools.cached_property
  def _infer(self) -> Callable:
    def infer(nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> jax.Array:
      latent = self.algorithm.latent(key, batch["label"].shape[0], truncation=options.truncation)
      return to_uint8(self.algorithm.infer(self._gather(nets), batch, latent, num_frames=options.num_frames))

    return jax.jit(infer, static_argnames="options", out_shardings=meshes.replicated(self.mesh))

  @functools.cached_property
  def _interpolate(self) -> Callable:
    def interpolate(nets: Nets, batch: Batch, *, options: SampleOptions) -> jax.Array:
      return to_uint8(self.algorithm.interpolate(self._gather(nets), batch, num_frames=options.num_frames))

    return jax.jit(interpolate, static_argnames="options", out_shardings=meshes.replicated(self.mesh))

  def with_standing_statistics(
    self, nets: Nets, batches: Iterable[Batch], key: jax.Array, *, options: SampleOptions
  ) -> Nets:
    """Nets whose batch statistics are pooled over `batches` (see `standing_statistics`), for clips of this length.

    Args:
      nets: usually `state.ema`.
      batches: micro-batches on the devices, as of `sample`.
      key: of the latents.
      options: the length counts; latents are not truncated while statistics are taken.
    """
    options = SampleOptions(num_frames=options.num_frames)
    moments = functools.partial(self._batch_moments, options=options)
    return standing_statistics(moments, nets, batches, key)

  def with_batch_statistics(self, nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> Nets:
    """Nets whose batch statistics are those of the very clips that `sample` makes of the same arguments.

    Sampling with them is what a forward pass in train mode gives.
    """
    moments = self._batch_moments(nets, batch, key, options=options)
    # The pass has advanced the power iterations as well, which would change the kernels that `sample` uses.
    return {
      name: net.replace(variables=net.variables | {STATISTICS: moments[name].variables[STATISTICS]})
      if STATISTICS in moments[name].variables
      else net
      for name, net in nets.items()
    }

  def sample(self, nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> jax.Array:
    """Whole clips, uint8 [B, num_frames, H, W, C], on every device; see `Algorithm.sample`.

    The conditioning frames are in their places bit by bit.
    """
    return self._sample(nets, batch, key, options=options)

  def infer(self, nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> jax.Array:
    """As `sample`, with what the model makes of the conditioning frames in their places; see `InfersClips.infer`."""
    return self._infer(nets, batch, key, options=options)

  def interpolate(self, nets: Nets, batch: Batch, *, options: SampleOptions) -> jax.Array:
    """As `infer`, of the naive baseline; see `InfersClips.interpolate`."""
    return self._interpolate(nets, batch, options=options)

  def put_batch(self, local_batch: Batch, *, microbatches: bool) -> Batch:
    """This process's share of a batch (host arrays) as part of a global array."""
    return meshes.global_batch(local_batch, meshes.batch_sharding(self.mesh, microbatches=microbatches))

  def microbatches(self, local_batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The first `count` micro-batches out of stacked batches, on the devices."""
    for batch in local_batches:
      for k in range(len(batch["label"])):
        if count == 0:
          return
        yield self.put_batch({name: value[k] for name, value in batch.items()}, microbatches=False)
        count -= 1


def build_experiment(config: ExperimentConfig, *, devices: list[jax.Device] | None = None) -> Experiment:
  """Makes the experiment of a config.

  Raises:
    UserError: if the devices do not divide the batches or the mesh, or clips cannot be sampled as `config.evaluation`
      says.
  """
  mesh = meshes.make_mesh(config.mesh, devices=devices)
  batches = {
    "config.train.batch_size": config.train.batch_size,
    "config.evaluation.batch_size": config.evaluation.batch_size,
    "config.evaluation.standing_batch_size": config.evaluation.standing_batch_size,
  }
  for name, batch_size in batches.items():
    meshes.local_batch_size(batch_size, mesh, name=name)
  meshes.local_batch_size(
    config.train.batch_size // config.step.accumulate, mesh, name="config.train.batch_size / accumulate"
  )
  algorithm = GANS[config.algorithm_name][1](config.algorithm)
  experiment = Experiment(config=config, algorithm=algorithm, mesh=mesh)
  # Told now, not when a trained run is to be scored.
  experiment.options(num_frames=config.evaluation.num_frames, truncation=config.evaluation.truncation)
  return experiment
