"""The start of a run and the training loop."""

import abc
import contextlib
import dataclasses
import functools
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vidgen_jax.core.state import TrainState
from vidgen_jax.data import pipeline
from vidgen_jax.data.records import DatasetInfo, check_class_names, check_content, load_info
from vidgen_jax.errors import UserError
from vidgen_jax.files import staged_upload_dir
from vidgen_jax.parallel.mesh import DevicePrefetch, local_batch_indices
from vidgen_jax.parallel.processes import StopSignals
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import to_dict
from vidgen_jax.runs.experiment import TrainingExperiment, jax_disable_jit, parameter_table
from vidgen_jax.runs.monitor import Collapse, CollapseDetector, MetricLog, Progress
from vidgen_jax.runs.workdir import claim, exclusive
from vidgen_jax.runs.writers import MetricWriter, create_writer
from vidgen_jax.types import Metrics


class CollapseError(UserError):
  """The training has collapsed."""


class NonFiniteMetricError(CollapseError):
  """A metric became NaN or infinite."""


class Hook(abc.ABC):
  """A task that the training loop runs after some steps, before it saves a checkpoint."""

  @property
  def finished(self) -> bool:
    """Whether the training ends after the current step."""
    return False

  @abc.abstractmethod
  def due(self, step: int) -> bool:
    """Whether the hook runs after `step` completed steps."""

  @abc.abstractmethod
  def __call__(self, step: int, state: TrainState, writer: MetricWriter) -> None:
    """Runs the task, which may write metrics. The arrays of `state` must not be kept: the next step overwrites them."""

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible state, saved with every checkpoint."""
    return {}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    del state


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunStart:
  """Where the training loop starts.

  Attributes:
    state: train state; donated to the first step.
    step: number of completed steps.
    iterator: training batches of this process, after those of the completed steps.
    meta: meta data of the restored checkpoint; {} for a new run.
    lineage: meta data for later checkpoints: seed of the data order, and `start_run`'s arguments at the last branch.
  """

  state: TrainState
  step: int
  iterator: Iterator[Any]
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lineage: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def train_experiment(
  experiment: TrainingExperiment,
  workdir: str,
  hooks: Sequence[Hook],
  *,
  stop: StopSignals | None = None,
  profile: bool = False,
  restore_step: int | None = None,
  new_seed: int | None = None,
  strict_data: bool = False,
) -> TrainState:
  """Trains until `config.train.num_steps`, until a hook is finished, or until a signal; saves and returns the state.

  An existing run in `workdir` is resumed, bitwise; for `restore_step` and `new_seed` see `start_run`. The hooks run
  after some steps. The caller reads the received signal from `stop`; None uses new signal handlers. With `profile`, a
  JAX trace of some steps is written to `workdir/profile`. A data set whose clips have changed is an error with
  `strict_data`, and a warning otherwise.

  Raises:
    UserError: if config, workdir, data or devices do not fit together.
    CollapseError: raised by `TrainLoop.run`.
  """
  train, data = experiment.config.train, experiment.config.data
  info = load_info(data.name, data.data_dir)
  iterator = train_iterator(experiment)
  # Raises errors about networks that do not fit the data, and unreadable weights, before the folder is claimed.
  _ = experiment.abstract_state, experiment.frozen_nets
  claim(workdir, experiment.config)
  with contextlib.ExitStack() as stack:
    stack.enter_context(exclusive(workdir))
    checkpointer = stack.enter_context(
      Checkpointer(
        workdir,
        every=train.checkpoint_every,
        keep=train.checkpoints_to_keep,
        keep_every=train.keep_every,
        keep_steps=experiment.phase_ends,
      )
    )
    stop = stack.enter_context(stop or StopSignals())
    profile_folder = stack.enter_context(staged_upload_dir(f"{workdir}/profile")) if profile else None
    _check_unchanged_inputs(checkpointer, experiment, workdir, strict_data=strict_data)
    compiling = stack.enter_context(_compile_ahead(experiment, checkpointer, restore_step))
    start = start_run(experiment, checkpointer, iterator, restore_step=restore_step, new_seed=new_seed)
    logging.info("%s", parameter_table({name: net.params for name, net in start.state.nets.items()}))
    log = stack.enter_context(_metric_log(experiment, start, workdir))
    meta = checkpoint_meta(experiment, start, info)
    loop = TrainLoop(experiment, checkpointer, log, hooks, stop, meta, compiling=compiling)
    return loop.run(start, profile_folder=profile_folder)


def checkpoint_meta(experiment: TrainingExperiment, start: RunStart, info: DatasetInfo) -> dict[str, Any]:
  """What a checkpoint says about its run, in addition to the state: JSON values."""
  return {
    "config": to_dict(experiment.config),
    "class_names": list(info.class_names),
    # The one that the run started with, so that every resume with other clips is reported.
    "data_hash": start.meta.get("data_hash") or info.content_hash,
    "frozen_weights": {name: weights.hash for name, weights in experiment.frozen_weights.items()},
    **start.lineage,
  }


@contextlib.contextmanager
def _metric_log(experiment: TrainingExperiment, start: RunStart, workdir: str) -> Generator[MetricLog]:
  """Writes the metrics to the folder of the run, and shows the progress."""
  train = experiment.config.train
  progress = Progress(
    train.num_steps,
    initial_step=start.step,
    clips_per_step=experiment.clips_per_step(experiment.algorithm.phase_at(start.step)),
    enabled=jax.process_index() == 0,
    shown=[f"{update.name}/loss" for update in experiment.updates],
  )
  writer = create_writer(workdir, resumed_step=start.step if start.meta else None)
  with contextlib.closing(writer), progress:
    yield MetricLog(train, writer, progress)


def train_iterator(experiment: TrainingExperiment, *, seed: int | None = None) -> pipeline.TrainingStream:
  """Training batches of this process, from the beginning; `seed` replaces `train.seed` as the seed of their order."""
  config = experiment.config
  return pipeline.train_batches(
    config.data,
    batch_size=config.train.batch_size,
    microbatches=experiment.algorithm.microbatches,
    seed=config.train.seed if seed is None else seed,
    batch_indices=local_batch_indices(config.train.batch_size, experiment.mesh, microbatches=True),
  )


def start_run(
  experiment: TrainingExperiment,
  checkpointer: Checkpointer,
  iterator: pipeline.TrainingStream,
  *,
  restore_step: int | None = None,
  new_seed: int | None = None,
) -> RunStart:
  """Restores the latest readable checkpoint, or initialises a new run if there is none.

  Args:
    experiment: algorithm, data and settings.
    checkpointer: checkpoints of the run.
    iterator: training batches from the beginning, with the order of `train.seed`.
    restore_step: step of the checkpoint to restore; later ones are deleted. A run whose latest checkpoint already
      descends from the same `restore_step` and `new_seed` resumes from its latest checkpoint instead, so that a
      launcher may repeat the command after an interruption.
    new_seed: seed in 0..2^31 - 1 that changes the random keys and the order of the data from `restore_step` on; None
      keeps both.

  Raises:
    UserError: if the checkpoint does not exist, or none can be read.
  """
  branch, seed = [restore_step, new_seed], experiment.config.train.seed
  if restore_step is not None and (checkpointer.latest_meta() or {}).get("branch") == branch:
    logging.info(
      "the run was restored from step %d before; resuming from its latest checkpoint (choose another --new_seed to "
      "restore the step again)",
      restore_step,
    )
    restore_step = new_seed = None
  restored = checkpointer.restore(experiment.abstract_state, step=restore_step)
  if restored is None:
    lineage = {"seed": seed, "branch": None}
    return RunStart(state=experiment.init_state(), step=0, iterator=iterator, lineage=lineage)
  # Later checkpoints are damaged, or belong to the steps that are repeated.
  checkpointer.discard_after(restored.step)
  state, meta = restored.state, restored.meta
  lineage = {"seed": meta["seed"], "branch": meta["branch"] if restore_step is None else branch}
  if new_seed is not None:
    # Derived, so that it differs from all earlier seeds of the run.
    lineage["seed"] = int(np.random.SeedSequence([meta["seed"], new_seed]).generate_state(1)[0] >> 1)
    state = state.replace(key=jax.jit(jax.random.fold_in, out_shardings=state.key.sharding)(state.key, new_seed))
  if lineage["seed"] != seed:
    iterator.close()
    iterator = train_iterator(experiment, seed=lineage["seed"])
  iterator.set_state(restored.data_state)
  before, now = (meta["process_count"], meta["device_count"]), (jax.process_count(), jax.device_count())
  moved = "" if before == now else "; saved by {} processes on {} devices, now {} on {}".format(*before, *now)
  logging.info("resuming from step %d, %s clips seen%s", restored.step, f"{restored.data_state['next_index']:,}", moved)
  return RunStart(state=state, step=restored.step, iterator=iterator, meta=meta, lineage=lineage)


@contextlib.contextmanager
def _compile_ahead(
  experiment: TrainingExperiment, checkpointer: Checkpointer, restore_step: int | None
) -> Generator[dict[str, Future[Any]]]:
  """Loads or compiles the first train step in a thread, while the train state is initialised or restored."""
  step = max(checkpointer.steps(), default=0)
  # `start_run` decides whether `restore_step` is used. Processes of a job must compile in the same order.
  if restore_step is not None or step >= experiment.config.train.num_steps or jax.process_count() > 1:
    yield {}
    return
  phase, pool = experiment.algorithm.phase_at(step), ThreadPoolExecutor(1, "compile")
  try:
    yield {phase: pool.submit(experiment.compile_step, phase)}
  finally:
    pool.shutdown(wait=False, cancel_futures=True)  # An error is reported before the compilation has ended.


def _check_unchanged_inputs(
  checkpointer: Checkpointer, experiment: TrainingExperiment, workdir: str, *, strict_data: bool
) -> None:
  """Checks inputs that the config refers to by name: the data set and its classes, and the frozen weights."""
  meta = checkpointer.latest_meta()
  if meta is None:
    return
  owner = f"the run in --workdir={workdir}"
  # In a data set that was rebuilt with other class folders every label has another meaning.
  check_class_names(meta["class_names"], experiment.config.data, what=owner)
  check_content(meta.get("data_hash", ""), experiment.config.data, owner=owner, strict=strict_data)
  for name, frozen in experiment.algorithm.frozen_networks().items():
    known, found = meta["frozen_weights"].get(name), experiment.frozen_weights[name].hash
    if found != known:
      raise UserError(f"{frozen.weights} has the hash {found[:12]}, but {owner} started with {known[:12]}; restore it")


@dataclasses.dataclass
class TrainLoop:
  """Runs the train steps. The order of its actions is part of the contract.

  Next batch (already on the devices) -> step of the current phase -> metrics of the *previous* step are fetched, so
  that the device never waits for the host, and checked -> hooks -> checkpoint -> stop if requested.
  """

  experiment: TrainingExperiment
  checkpointer: Checkpointer
  log: MetricLog
  hooks: Sequence[Hook]
  stop: StopSignals
  meta: Mapping[str, Any]
  """Saved with every checkpoint."""
  compiling: Mapping[str, Future[Any]] = dataclasses.field(default_factory=dict, kw_only=True)
  """Train steps by phase, which other threads compile; the others are compiled when they are needed."""

  def run(self, start: RunStart, *, profile_folder: Path | None = None) -> TrainState:
    """Trains from `start` to the end; returns the last state, which is saved.

    Writes a trace of some steps to `profile_folder`.

    Raises:
      CollapseError: if `config.health.action` is 'stop'; the states that led to the collapse may be saved.
      NonFiniteMetricError: if a metric is NaN or infinite; a state with such metrics is never saved.
    """
    config = self.experiment.config
    self._pending: tuple[int, Metrics] | None = None
    self._detector = CollapseDetector(config.health, first_step=start.step, saved=start.meta.get("detector"))
    self.log.set_state(start.meta.get("window", {}))
    for hook in self.hooks:
      if (saved := start.meta.get("hooks", {}).get(type(hook).__name__)) is not None:
        hook.set_state(saved)
    put_batch = functools.partial(self.experiment.put_batch, microbatches=True)
    prefetch = DevicePrefetch(start.iterator, put_batch, depth=config.data.device_prefetch)
    with contextlib.closing(prefetch) as batches, contextlib.ExitStack() as trace:
      batches.start_prefetch()  # Reads while the step compiles.
      return self._run(start, batches, trace, profile_folder)

  def _run(
    self, start: RunStart, batches: DevicePrefetch, trace: contextlib.ExitStack, profile_folder: Path | None
  ) -> TrainState:
    step_fns: dict[str, Any] = {}
    # Without compilation every operation takes its constants from the host.
    transfers = "allow" if jax_disable_jit() else "disallow"
    state, step, stopping, done = start.state, start.step, None, self._done(start.step)
    if done:
      num_steps = self.experiment.config.train.num_steps
      logging.info("nothing to do: the run has ended at step %d; train.num_steps is %d", step, num_steps)
    while not (stopping or done):
      phase = self.experiment.algorithm.phase_at(step)
      if phase not in step_fns:
        compiling = self.compiling.get(phase)
        step_fns[phase] = compiling.result() if compiling else self.experiment.compile_step(phase)
      batch = next(batches)
      constants = self.experiment.step_constants(step, phase)
      step += 1
      with jax.transfer_guard(transfers):
        state, metrics = step_fns[phase](state, batch, constants)
        if self.log.due(step):
          metrics = metrics | self.experiment.parameter_norms(state.nets)
      jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
      self._check_pending()
      self._pending = step, metrics
      # Traces five steps after the first one, which compiles.
      if profile_folder is not None and step == start.step + 1:
        trace.callback(logging.info, "wrote a trace for TensorBoard or Perfetto")
        trace.enter_context(jax.profiler.trace(profile_folder))
      elif step == start.step + 6:
        trace.close()
      for hook in self.hooks:
        if hook.due(step):
          self._check_pending()
          hook(step, state, self.log.writer)
      stopping, done = self._stop_reason(step), self._done(step)
      if stopping or done or self.checkpointer.due(step):
        self._save(step, state, batches)
    if stopping:
      logging.info("stopped by %s; saved step %d, run the same command to continue", stopping, step)
    self._check_pending()
    self.checkpointer.wait()
    return state

  def _done(self, step: int) -> bool:
    return step >= self.experiment.config.train.num_steps or any(hook.finished for hook in self.hooks)

  def _check_pending(self) -> None:
    """Fetches, checks and logs the metrics that are still on the devices."""
    if self._pending is None:
      return
    (step, metrics), self._pending = self._pending, None
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    for name, value in values.items():
      if not math.isfinite(value):
        latest = max(self.checkpointer.steps(), default=None)
        found = f"metric {name} became {value} at step {step}; last good step {step - 1}"
        raise NonFiniteMetricError(f"{found}, latest checkpoint {latest or 'none'}; {self._remedy(latest)}")
    means = self.log.add(step, values)
    if means is not None and self.log.complete(step) and (collapse := self._detector.check(step, means)):
      self._report(collapse)

  def _report(self, collapse: Collapse) -> None:
    config = self.experiment.config.health
    good = max((step for step in self.checkpointer.steps() if step <= collapse.good_step), default=None)
    text = f"the training may have collapsed: {collapse}, last checkpoint before it: {good or 'none'}"
    if config.action == "stop":
      raise CollapseError(f"{text}; look at the images, then {self._remedy(good)} or with other config.health limits")
    if config.action == "warn" and collapse.bad_windows == config.patience:
      logging.warning("%s; look at the images, then %s", text, self._remedy(good))

  def _remedy(self, step: int | None) -> str:
    if step is None:
      return "start again in another --workdir with another --config.train.seed"
    _, seed = self.meta.get("branch") or (None, None)
    return f"start again with --restore_step={step} --new_seed={(seed or 0) + 1}"

  def _save(self, step: int, state: TrainState, batches: DevicePrefetch) -> None:
    self._check_pending()  # A state whose metrics are not finite must never be saved.
    self.log.writer.flush()  # A resumed run never repeats the steps of this checkpoint, so their rows must be durable.
    meta = {
      **self.meta,
      "step": step,
      "process_count": jax.process_count(),
      "device_count": jax.device_count(),
      "window": self.log.get_state(),
      "detector": self._detector.get_state(),
      "hooks": {type(hook).__name__: hook.get_state() for hook in self.hooks},
    }
    self.checkpointer.save(step, state, batches.get_state(), meta)

  def _stop_reason(self, step: int) -> str | None:
    if jax.process_count() > 1:
      return "preemption" if self.checkpointer.preempted(step) else None
    return self.stop.received.name if self.stop.received else None
