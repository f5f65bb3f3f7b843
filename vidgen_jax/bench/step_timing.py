"""How long a train step takes, bare and inside the training loop."""

import contextlib
import dataclasses
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vidgen_jax.core.state import Nets, TrainState
from vidgen_jax.core.step import StepConstants
from vidgen_jax.parallel.preemption import StopSignals
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.hooks import Hooks
from vidgen_jax.runs.loop import TrainLoop
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.writers import create_writer
from vidgen_jax.types import Batch, Metrics

WINDOWS = 4
"""Times that things to be compared take turns, so that a machine's moods meet all of them."""

CompiledStep = Callable[[TrainState, Batch, StepConstants], tuple[TrainState, dict[str, jax.Array]]]


@dataclass(frozen=True)
class _CompiledExperiment(Experiment):
  """An experiment whose train step is compiled already."""

  step: Any

  def compile_step(self, phase: str) -> Any:
    """The step; it was compiled for this phase."""
    del phase
    return self.step

  def net_health(self, nets: Nets) -> Metrics:
    """None: a training computes them every `log_every` steps, and here every step is written."""
    del nets
    return {}


class _NoCheckpoints:
  """What the loop asks of a checkpointer, for runs that save nothing."""

  def due(self, step: int) -> bool:
    del step
    return False

  def preempted(self, step: int) -> bool:
    del step
    return False

  def steps(self) -> list[int]:
    return []

  def save(self, *unused: Any) -> None:
    del unused

  def wait(self) -> None:
    pass


class _TimedHooks(Hooks):
  """The loop's hooks, and the time at which they had each step's metrics."""

  def __init__(self, *arguments: Any) -> None:
    super().__init__(*arguments)
    self.stamps: list[float] = []

  def metrics(self, step: int, values: dict[str, float]) -> None:
    super().metrics(step, values)
    self.stamps.append(time.perf_counter())


@dataclass(frozen=True, kw_only=True)
class StepTiming:
  """Seconds a step.

  Attributes:
    bare: median of the compiled step alone.
    fastest: its minimum.
    loop: median of the training loop; None where it was not run.
  """

  bare: float
  fastest: float
  loop: float | None


def noise(experiment: Experiment) -> dict[str, np.ndarray]:
  """This process's share of a batch of random pixels, label 0: video uint8 [K, B, T, H, W, C], label int32 [K, B]."""
  share = jax.process_count()
  shapes = {name: (x.shape[0], x.shape[1] // share, *x.shape[2:]) for name, x in experiment.batch_shape().items()}
  return {
    "video": np.random.default_rng(0).integers(256, size=shapes["video"], dtype=np.uint8),
    "label": np.zeros(shapes["label"], np.int32),
  }


def time_steps(
  experiment: Experiment,
  compiled: CompiledStep,
  state: TrainState,
  iterator: Iterator[Mapping[str, np.ndarray]],
  *,
  steps: int,
  first_step: int,
) -> StepTiming:
  """Times the bare step on one batch that stays on the devices, and the real loop, taking turns with one state.

  Both fetch the metrics of a step after the next one was started; a step's time is the distance between two fetches.
  The loop has its input, its progress, and its metrics, which are written every step; images, scores and checkpoints
  are off.

  Args:
    experiment: whose loop is run.
    compiled: its train step.
    state: to start from; donated.
    iterator: yields this process's batches.
    steps: how many to time, of each.
    first_step: completed train steps, which choose the phase.
  """
  window = math.ceil(steps / WINDOWS) + 2
  num_steps = first_step + window
  changes = {"num_steps": num_steps, "log_every": 1, "image_every": 0, "evaluate_every": 0}
  config = dataclasses.replace(experiment.config, train=dataclasses.replace(experiment.config.train, **changes))
  prepared = _CompiledExperiment(config=config, algorithm=experiment.algorithm, mesh=experiment.mesh, step=compiled)
  batch = experiment.put_batch(next(iterator), microbatches=True)
  constants = experiment.step_constants(first_step, experiment.algorithm.phase_at(first_step))
  state, _ = _bare_steps(compiled, state, batch, constants, 2)
  bare, loop = [], []
  with (
    tempfile.TemporaryDirectory() as workdir,
    contextlib.closing(create_writer(workdir, is_lead=jax.process_index() == 0, resumed_step=None)) as writer,
  ):
    for _ in range(WINDOWS):
      state, seconds = _bare_steps(compiled, state, batch, constants, window)
      bare += seconds
      progress = Progress(num_steps, initial_step=first_step, stream=io.StringIO(), interval_s=math.inf)
      hooks = _TimedHooks(prepared, Path(workdir), writer, progress)
      state = TrainLoop(prepared, _NoCheckpoints(), iterator, hooks, StopSignals(), {}).run(state, first_step)
      loop += _distances(hooks.stamps)
  return StepTiming(bare=statistics.median(bare), fastest=min(bare), loop=statistics.median(loop))


def time_bare_steps(
  compiled: CompiledStep, state: TrainState, batch: Batch, constants: StepConstants, *, steps: int
) -> StepTiming:
  """Times the step alone: one step to warm up, then `steps` of them, each ended before the next one is started.

  For steps of minutes, of which one must do.

  Args:
    compiled: the train step.
    state: to start from; donated.
    batch: micro-batches on the devices, the same for all steps.
    constants: learning rates and frozen nets.
    steps: how many to time, at least 1.
  """
  _, bare = _single_steps(compiled, state, batch, constants, steps)
  return StepTiming(bare=statistics.median(bare), fastest=min(bare), loop=None)


def time_in_turns(
  compiled: Sequence[CompiledStep],
  states: Sequence[TrainState],
  batch: Batch,
  constants: Sequence[StepConstants],
  *,
  steps: int,
) -> list[StepTiming]:
  """Times several train steps against each other: they take turns in `WINDOWS` windows, or `steps` where that is fewer.

  Every window begins with a step that is not timed, and every step is ended before the next one is started.

  Args:
    compiled: the train steps.
    states: to start from, one each; donated.
    batch: micro-batches on the devices, the same for all.
    constants: learning rates and frozen nets, one each.
    steps: how many to time of each, at least 1; rounded up to whole windows.
  """
  states, seconds = list(states), [[] for _ in compiled]
  windows = min(WINDOWS, steps)
  for _ in range(windows):
    for i, step in enumerate(compiled):
      states[i], times = _single_steps(step, states[i], batch, constants[i], math.ceil(steps / windows))
      seconds[i] += times
  return [StepTiming(bare=statistics.median(times), fastest=min(times), loop=None) for times in seconds]


def _single_steps(
  compiled: CompiledStep, state: TrainState, batch: Batch, constants: StepConstants, count: int
) -> tuple[TrainState, list[float]]:
  """One step that is not timed, then `count` that are."""
  seconds = []
  for _ in range(1 + count):
    start = time.perf_counter()
    state, metrics = compiled(state, batch, constants)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - start)
  return state, seconds[1:]


def _bare_steps(
  compiled: CompiledStep, state: TrainState, batch: Batch, constants: StepConstants, count: int
) -> tuple[TrainState, list[float]]:
  stamps, pending = [], None
  for _ in range(count):
    state, metrics = compiled(state, batch, constants)
    jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
    if pending is not None:
      jax.device_get(pending)
      stamps.append(time.perf_counter())
    pending = metrics
  jax.device_get(pending)
  return state, _distances([*stamps, time.perf_counter()])


def _distances(stamps: list[float]) -> list[float]:
  """Between the fetches of a window. The last fetch is left out: no step was started before it, nor input read."""
  return np.diff(stamps[:-1]).tolist()
