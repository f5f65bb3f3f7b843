"""The training loop, whose order is part of the contract."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging

from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.core.state import TrainState
from vidgen_jax.data import pipeline
from vidgen_jax.data.training_stream import TrainingStream
from vidgen_jax.errors import UserError
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.collapse import Collapse
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.parallel.preemption import StopSignals
from vidgen_jax.runs.device_prefetch import DevicePrefetch
from vidgen_jax.runs.health import Health
from vidgen_jax.runs.hooks import Hooks
from vidgen_jax.types import Batch, Metrics

PROFILED_STEPS = 5


class CollapseError(UserError):
  """The training has collapsed.

  Attributes:
    collapse: what was seen.
    place: of the data, behind the last batch of the step that decided it.
  """

  def __init__(self, message: str, collapse: Collapse, place: Mapping[str, Any] | None) -> None:
    super().__init__(message)
    self.collapse, self.place = collapse, place


class NonFiniteMetricError(CollapseError):
  """A metric became NaN or infinite."""


def train_iterator(experiment: Experiment) -> TrainingStream:
  """This process's training batches, from the beginning."""
  config = experiment.config
  return pipeline.train_batches(
    config.data,
    batch_size=config.train.batch_size,
    microbatches=experiment.algorithm.microbatches,
    seed=config.train.seed,
    places=meshes.local_batch_indices(config.train.batch_size, experiment.mesh),
  )


class TrainLoop:
  """The order of a train step, which is part of the contract.

  Next batch (on the devices already) -> step of the current phase -> metrics of the *previous* step are fetched (so the
  device never waits for the host) and judged -> hooks -> checkpoint -> asked to stop?
  """

  def __init__(
    self,
    experiment: Experiment,
    checkpointer: Checkpointer,
    iterator: Iterator[Any],
    hooks: Hooks,
    stop: StopSignals,
    meta: dict[str, Any],
  ) -> None:
    """Takes everything that lives as long as the run; `meta` is saved with every checkpoint."""
    self._experiment = experiment
    self._checkpointer = checkpointer
    self._iterator = iterator
    self._hooks = hooks
    self._stop = stop
    self._meta = meta
    self._pending: tuple[int, Metrics, Any] | None = None
    self._tracing = False

  def run(
    self,
    state: TrainState,
    first_step: int,
    *,
    health: Mapping[str, Any] | None = None,
    profile_folder: Path | None = None,
  ) -> TrainState:
    """Trains from `first_step` completed steps on; returns the last state, saved.

    Args:
      state: to start from; donated.
      first_step: its completed steps.
      health: `meta["health"]` of its checkpoint; None begins anew.
      profile_folder: for a trace of some steps.

    Raises:
      CollapseError: as `config.health` says; the states that led to it may be saved.
      NonFiniteMetricError: whatever `config.health` says; a state with such metrics is never saved.
    """
    self._health = Health(self._experiment.config, first_step, saved=health)
    depth = self._experiment.config.data.device_prefetch
    with contextlib.closing(DevicePrefetch(self._iterator, self._put_batch, depth=depth)) as batches:
      batches.start_prefetch()  # While the step is compiled.
      try:
        return self._run(state, first_step, batches, profile_folder)
      finally:
        self._stop_trace()

  def _run(
    self, state: TrainState, first_step: int, batches: DevicePrefetch, profile_folder: Path | None
  ) -> TrainState:
    num_steps = self._experiment.config.train.num_steps
    step_fns: dict[str, Any] = {}
    # Operations that run one by one take their constants from the host.
    transfers = "allow" if jax.config.jax_disable_jit else "disallow"
    step = first_step
    for step in range(first_step + 1, num_steps + 1):
      phase = self._experiment.algorithm.phase_at(step - 1)
      if phase not in step_fns:
        step_fns[phase] = self._compile(phase)
      batch = next(batches)
      constants = self._experiment.step_constants(step - 1, phase)
      with jax.transfer_guard(transfers):
        state, metrics = step_fns[phase](state, batch, constants)
        if self._health.due(step):
          metrics = metrics | self._experiment.net_health(state.nets)
      jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
      self._check_pending()
      self._pending = (step, metrics, batches.get_state())
      if profile_folder is not None:
        self._profile(step - first_step, profile_folder)
      if self._hooks.due(step):
        self._check_pending()
        self._hooks.run(step, state)
      stopping = self._stopping(step)
      if stopping or step == num_steps or self._checkpointer.due(step):
        self._save(step, state, batches)
      if stopping:
        logging.info("stopped by %s; saved step %d, run the same command to continue", stopping, step)
        break
    self._check_pending()
    self._checkpointer.wait()
    return state

  def _put_batch(self, local_batch: Batch) -> Batch:
    return self._experiment.put_batch(local_batch, microbatches=True)

  def _compile(self, phase: str) -> Any:
    start = time.monotonic()
    compiled = self._experiment.compile_step(phase)
    logging.info("compiled the train step of phase %r in %.1f s", phase, time.monotonic() - start)
    return compiled

  def _check_pending(self) -> None:
    """Fetches the last metrics that were left on the device, judges and writes them; raises at a collapse."""
    if self._pending is None:
      return
    (step, metrics, place), self._pending = self._pending, None
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if collapse := self._health.not_finite(step, values):
      saved = self._checkpointer.steps()
      text = f"{collapse}; last good step {step - 1}, latest checkpoint {saved[-1] if saved else 'none'}"
      raise NonFiniteMetricError(text, collapse, place)
    self._hooks.metrics(step, values)
    if means := self._health.add(step, values):
      self._hooks.write(step, means)
      if collapse := self._health.judge(step, means):
        self._tell(collapse, place)

  def _tell(self, collapse: Collapse, place: Any) -> None:
    """Does with a collapse what the config says."""
    config = self._experiment.config.health
    good = [step for step in self._checkpointer.steps() if step <= collapse.good_step]
    text = f"the training may have collapsed: {collapse}; last checkpoint from before: {good[-1] if good else 'none'}"
    if config.action == "stop":
      text += "; look at the images, then go on with --config.health.action=roll_back, or warn, or with other limits"
    if config.action in ("stop", "roll_back"):
      raise CollapseError(text, collapse, place)
    if config.action == "warn" and collapse.bad_windows == config.patience:
      logging.warning("%s; look at the images; --config.health.action=stop or roll_back acts on it", text)

  def _save(self, step: int, state: TrainState, batches: DevicePrefetch) -> None:
    self._check_pending()  # A state whose metrics are not finite is never saved.
    self._hooks.flush()  # Nor one whose metrics could be lost: a resumed run would never write them.
    devices = {"process_count": jax.process_count(), "device_count": jax.device_count()}
    meta = self._meta | {"step": step, **devices, "health": self._health.state()}
    self._checkpointer.save(step, state, batches, meta)

  def _stopping(self, step: int) -> str | None:
    if jax.process_count() > 1:
      return "preemption" if self._checkpointer.preempted(step) else None
    return self._stop.received.name if self._stop.received else None

  def _profile(self, steps_done: int, folder: Path) -> None:
    """Traces the steps after the first one, which compiles."""
    if steps_done == 1:
      jax.profiler.start_trace(str(folder))
      self._tracing = True
    elif steps_done == 1 + PROFILED_STEPS:
      self._stop_trace()

  def _stop_trace(self) -> None:
    if self._tracing:
      jax.profiler.stop_trace()
      self._tracing = False
      logging.info("wrote a trace for TensorBoard or Perfetto")
