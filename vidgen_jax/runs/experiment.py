"""Wiring of a config: algorithm, mesh, initial state and compiled functions."""

import bisect
import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu.parameter_overview import count_parameters, get_parameter_overview
from flax.traverse_util import flatten_dict

from vidgen_jax.core.algorithm import Algorithm, Update, num_microbatches
from vidgen_jax.core.standing_statistics import STATISTICS, standing_statistics
from vidgen_jax.core.state import Nets, NetState, TrainState
from vidgen_jax.core.step import StepConstants, train_step
from vidgen_jax.errors import UserError
from vidgen_jax.gans import GANS, Gan, InfersClips, SampleOptions
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.nn.spectral import SPECTRAL_STATS, power_iteration
from vidgen_jax.ops.video import to_uint8
from vidgen_jax.parallel.mesh import batch_sharding, global_batch, make_mesh, quick_options, replicated, state_sharding
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.programs import load_or_compile
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file
from vidgen_jax.types import Batch, Metrics, Params

GATHER_SCOPE = "gather_parameters"
"""Name of the exchange of split parameters in compiled programs."""


def jax_disable_jit() -> bool:
  """Whether JAX_DISABLE_JIT is set."""
  return jax.config.jax_disable_jit  # ty: ignore[missing-attribute]  # JAX adds its options at run time.


@contextlib.contextmanager
def report_lack_of_memory(mesh: jax.sharding.Mesh) -> Generator[None]:
  """Turns XLA's refusal to compile a step that exceeds the memory into a UserError."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise UserError(
      f"the train step does not fit {mesh.size} devices: {str(error).splitlines()[0]}; use more of them, "
      "--config.mesh.fsdp=8, --config.step.accumulate=4 or --config.algorithm.remat=True"
    ) from error


def parameter_table(networks: Mapping[str, Params]) -> str:
  """Name, shape, dtype and size of every parameter as text, with a total per network and over all.

  Only shapes are read, so `jax.eval_shape` results and arrays on other hosts are accepted.
  """
  tables = [f"{name}\n{get_parameter_overview(params, include_stats=False)}" for name, params in networks.items()]
  return "\n\n".join([*tables, f"All networks: {sum(map(count_parameters, networks.values())):,} parameters"])


def parameter_norms(nets: Nets) -> Metrics:
  """Norms and singular values of live networks.

  The sigma of a kernel is the divisor of spectral normalisation at evaluation: one power iteration from the stored
  vector, which stays unchanged.

  Returns:
    float32[] by name: '{net}/param_norm', the L2 norm of all parameters of the net; for nets with spectral
    normalisation also '{net}/sigma_max' and '{net}/sigma_mean' over the normalised kernels, before the division.
  """
  metrics = {}
  for name, net in nets.items():
    metrics[f"{name}/param_norm"] = optax.tree.norm(net.params)
    kernels = flatten_dict(net.params)
    # The vector of kernel K is named K_u and has the same path in its own tree.
    sigmas = [
      power_iteration(kernels[*path, vector_name.removesuffix("_u")], vector)[0]
      for (*path, vector_name), vector in flatten_dict(net.variables.get(SPECTRAL_STATS, {})).items()
    ]
    if sigmas:
      stacked = jnp.stack(sigmas)
      metrics |= {f"{name}/sigma_max": jnp.max(stacked), f"{name}/sigma_mean": jnp.mean(stacked)}
  return metrics


@dataclass(frozen=True)
class TrainingExperiment:
  """A config with its algorithm, mesh and compiled train steps; its only arrays are the frozen nets."""

  config: ExperimentConfig
  algorithm: Algorithm
  mesh: jax.sharding.Mesh

  @functools.cached_property
  def updates(self) -> tuple[Update, ...]:
    """Updates of all phases, each once."""
    found = {update.name: update for phase in self.algorithm.phases for update in self.algorithm.updates(phase)}
    return tuple(found.values())

  @property
  def phase_ends(self) -> tuple[int, ...]:
    """Numbers of completed train steps after which all phases but the last end; their checkpoints are kept."""
    phases, steps = self.algorithm.phases, range(self.config.train.num_steps)

    def phase_index(step: int) -> int:
      return phases.index(self.algorithm.phase_at(step))

    return tuple(bisect.bisect_left(steps, later, key=phase_index) for later in range(1, len(phases)))

  def batch_shape(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and shardings of a global batch of micro-batches: video uint8 [K, B, T, H, W, C], label int32 [K, B]."""
    data = self.config.data
    lead = (self.algorithm.microbatches, self.config.train.batch_size)
    sharding = batch_sharding(self.mesh, microbatches=True)
    video = (*lead, data.num_frames, data.resolution, data.resolution, data.channels)
    return {
      "video": jax.ShapeDtypeStruct(video, jnp.uint8, sharding=sharding),
      "label": jax.ShapeDtypeStruct(lead, jnp.int32, sharding=sharding),
    }

  def _init(self, root: jax.Array) -> TrainState:
    # Parameters do not depend on the batch size: two clips suffice on any number of devices.
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
    """Shapes and shardings of the train state."""
    shapes = jax.eval_shape(self._init, jax.random.key(0))
    shardings = state_sharding(shapes, self.mesh, self.config.mesh)
    return jax.tree.map(lambda leaf, sharding: leaf.update(sharding=sharding, weak_type=False), shapes, shardings)

  def init_state(self) -> TrainState:
    """A new train state; each device initialises only its own shards."""
    key = jax.random.key(self.config.train.seed)

    def init() -> Any:
      shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
      # Runs once.
      return jax.jit(self._init, out_shardings=shardings, compiler_options=quick_options(self.mesh))

    # In a job of several processes `jit` turns the key of this process into one on all devices.
    if jax_disable_jit() or jax.process_count() > 1:
      return init()(key)
    return self._load_or_compile("init", lambda: init().lower(key))(key)

  def step_fn(self, phase: str) -> jax.stages.Wrapped:
    """The jitted train step of a phase: (state, batch, constants) -> (state, metrics). It donates the state."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
    run = functools.partial(
      train_step,
      updates=self.algorithm.updates(phase),
      ema=self.config.ema,
      config=self.config.step,
      gather=self._gather,
      mesh=self.mesh,
    )
    quick = quick_options(self.mesh) if self.config.step.quick_compilation else None
    return jax.jit(run, donate_argnums=0, out_shardings=(shardings, replicated(self.mesh)), compiler_options=quick)

  def _gather(self, nets: Nets) -> Nets:
    # Gathering split parameters before use leaves only the batch split in the computation. Without this constraint the
    # partitioner also splits channels, which changed the numbers with jax 0.10.2.
    with jax.named_scope(GATHER_SCOPE):
      return jax.lax.with_sharding_constraint(nets, replicated(self.mesh))

  def step_constants(self, step: int, phase: str) -> StepConstants:
    """Learning rates after `step` completed steps, and the frozen nets; on the devices."""
    rates = {update.name: np.float32(update.learning_rate(step)) for update in self.algorithm.updates(phase)}
    return StepConstants(learning_rates=jax.device_put(rates, replicated(self.mesh)), frozen=self.frozen_nets)

  @functools.cached_property
  def frozen_weights(self) -> Mapping[str, WeightFile]:
    """Weight files of the frozen networks, by the names that losses use."""
    files = {}
    for name, frozen in self.algorithm.frozen_networks().items():
      files[name] = weights = read_weight_file(frozen.weights, network=frozen.network)
      if weights.network != frozen.network:
        raise UserError(f"{frozen.weights} has weights of {weights.network}; choose a file of {frozen.network}")
    return files

  @functools.cached_property
  def frozen_nets(self) -> Nets:
    """Frozen networks, replicated on all devices."""
    nets = {}
    for name, weights in self.frozen_weights.items():
      variables = jax.tree.map(np.asarray, dict(weights.variables))
      nets[name] = NetState(params=variables.pop("params"), variables=variables)
    return jax.device_put(nets, replicated(self.mesh))

  def compile_step(self, phase: str) -> Any:
    """The compiled train step of a phase, with its cost and memory analyses; the jitted one under JAX_DISABLE_JIT.

    Raises a UserError if it needs more memory than the devices have.
    """
    if jax_disable_jit():
      return self.step_fn(phase)
    inputs = self.abstract_state, self.batch_shape(), self.step_constants(0, phase)
    # Compiler options are not in the lowered form, which may name a stored program.
    options = "_quick" if self.config.step.quick_compilation else ""
    with report_lack_of_memory(self.mesh):
      return self._load_or_compile(f"train_step_{phase}{options}", lambda: self.step_fn(phase).lower(*inputs))

  def _load_or_compile(self, name: str, lower: Callable[[], jax.stages.Lowered]) -> jax.stages.Compiled:
    # Nets from other packages may change while their config stays the same.
    types_used = (type(self.algorithm), *RECURRENT_UNITS.values())
    if not all(used.__module__.startswith("vidgen_jax.") for used in types_used):
      return lower().compile()
    config = self.config
    frozen = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), self.frozen_nets)
    views = getattr(self.algorithm, "views", None)  # Of a decomposition that an experiment has added.
    inputs = repr((self.algorithm, views, config.step, config.ema, config.mesh, self.batch_shape(), frozen))
    return load_or_compile(name, inputs, lower, self.mesh)

  @functools.cached_property
  def parameter_norms(self) -> Callable[[Nets], Metrics]:
    """The jitted module function of the same name."""
    # A program of its own, so that steps whose metrics are not written do not pay for it.
    return jax.jit(parameter_norms, out_shardings=replicated(self.mesh))

  def clips_per_step(self, phase: str) -> int:
    """Number of real clips that a train step consumes, over all devices."""
    return num_microbatches(self.algorithm.updates(phase)) * self.config.train.batch_size

  def put_batch(self, local_batch: Mapping[str, Any], *, microbatches: bool) -> Batch:
    """Moves this process's share of a batch (host arrays) to its devices, as part of a global array."""
    return global_batch(local_batch, batch_sharding(self.mesh, microbatches=microbatches))


@dataclass(frozen=True)
class Experiment(TrainingExperiment):
  """A `TrainingExperiment` of a GAN, with compiled functions that sample from it."""

  algorithm: Gan

  def options(self, *, num_frames: int = 0, truncation: float = -1.0) -> SampleOptions:
    """Sampling options; 0 frames means the trained length, a negative truncation none.

    Raises a UserError if the model cannot generate clips of this length, or the truncation is not a number.
    """
    if math.isnan(truncation):
      raise UserError("truncation is not a number; set a bound, 0 for the typical latent, or a negative value for none")
    trained = self.config.data.num_frames
    num_frames = num_frames or trained
    if self.algorithm.fixed_length and num_frames != trained:
      raise UserError(f"num_frames={num_frames}: this model only generates clips of {trained} frames")
    self.algorithm.conditioning_indices(num_frames)
    return SampleOptions(num_frames=num_frames, truncation=None if truncation < 0 else truncation)

  def with_standing_statistics(
    self, nets: Nets, batches: Iterable[Batch], key: jax.Array, *, options: SampleOptions, num_clips: int | None = None
  ) -> Nets:
    """Nets whose batch statistics are pooled over `batches`, for clips of one length; see `standing_statistics`.

    Latents are not truncated while statistics are collected. For `num_clips` see `Gan.batch_moments`.
    """
    options = SampleOptions(num_frames=options.num_frames)
    moments = functools.partial(self._batch_moments, options=options, num_clips=num_clips)
    return standing_statistics(moments, nets, batches, key)

  def with_batch_statistics(
    self, nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions, num_clips: int | None = None
  ) -> Nets:
    """Nets with the batch statistics of the clips that `sample` generates from the same arguments.

    Sampling with these nets equals a forward pass in train mode. For `num_clips` see `Gan.batch_moments`.
    """
    moments = self._batch_moments(nets, batch, key, options=options, num_clips=num_clips)
    # Only the statistics are taken: the pass also advanced the power iterations, which would change the kernels.
    found = {name: {k: v for k, v in net.variables.items() if k == STATISTICS} for name, net in moments.items()}
    return {name: net.replace(variables={**net.variables, **found[name]}) for name, net in nets.items()}

  @functools.cached_property
  def _batch_moments(self) -> Callable:
    def batch_moments(nets: Nets, batch: Batch, key: jax.Array, **static: Any) -> Nets:
      return self.algorithm.batch_moments(self._gather(nets), batch, key, **static)

    return jax.jit(batch_moments, static_argnames=("options", "num_clips"))

  @functools.cached_property
  def sample(self) -> Callable[..., jax.Array]:
    """Jitted (nets, batch, key, *, options) -> whole clips, uint8 [B, num_frames, H, W, C]; see `Gan.sample`.

    The result is replicated on all devices. Conditioning frames keep their values bit by bit.
    """
    return self._jit_sampling(self.algorithm.sample)

  @functools.cached_property
  def infer(self) -> Callable[..., jax.Array]:
    """Like `sample`, with reconstructions instead of the conditioning frames; see `InfersClips.infer`."""
    gan = cast(InfersClips, self.algorithm)

    def infer(nets: Nets, batch: Batch, key: jax.Array, *, options: SampleOptions) -> jax.Array:
      latent = self.algorithm.latent(key, batch["label"].shape[0], truncation=options.truncation)
      return gan.infer(nets, batch, latent, num_frames=options.num_frames)

    return self._jit_sampling(infer)

  @functools.cached_property
  def interpolate(self) -> Callable[..., jax.Array]:
    """Jitted (nets, batch, *, options) -> clips of the naive baseline; see `InfersClips.interpolate`."""
    gan = cast(InfersClips, self.algorithm)
    return self._jit_sampling(
      lambda nets, batch, *, options: gan.interpolate(nets, batch, num_frames=options.num_frames)
    )

  def _jit_sampling(self, function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def sample(nets: Nets, *inputs: Any, options: SampleOptions) -> jax.Array:
      return to_uint8(function(self._gather(nets), *inputs, options=options))

    return jax.jit(sample, static_argnames="options", out_shardings=replicated(self.mesh))


def build_experiment(
  config: ExperimentConfig, *, devices: list[jax.Device] | None = None, trains: bool = True
) -> Experiment:
  """The experiment of a GAN's config, on all devices by default; without `trains` only for sampling.

  Raises:
    UserError: raised by `mesh_shape`, or if the model cannot sample with the settings in `config.evaluation`.
  """
  accumulate = config.step.accumulate
  name = "config.train.batch_size" + " / config.step.accumulate" * (accumulate > 1)
  # Sampling pads its batches.
  batch_size = config.train.batch_size // accumulate if trains else 0
  mesh = make_mesh(config.mesh, devices=devices, batch_size=batch_size, name=name)
  gan_type: Any = GANS[config.algorithm_name][1]
  experiment = Experiment(config=config, algorithm=gan_type(config.algorithm), mesh=mesh)
  # Raises errors now that would otherwise stop the first evaluation of a trained run.
  experiment.options(num_frames=config.evaluation.num_frames, truncation=config.evaluation.truncation)
  return experiment
