"""Duration of a train step, by itself and in the training loop."""

import contextlib
import dataclasses
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from vidgen_jax.bench.settings import WINDOWS
from vidgen_jax.core.state import Nets, TrainState
from vidgen_jax.core.step import StepConstants
from vidgen_jax.parallel.processes import StopSignals
from vidgen_jax.runs.experiment import TrainingExperiment
from vidgen_jax.runs.loop import RunStart, TrainLoop
from vidgen_jax.runs.monitor import MetricLog, Progress
from vidgen_jax.runs.writers import create_writer
from vidgen_jax.types import Batch, Metrics

CompiledStep = Callable[[TrainState, Batch, StepConstants], tuple[TrainState, Mapping[str, jax.Array]]]


@dataclass(frozen=True)
class _CompiledExperiment(TrainingExperiment):
  """An experiment whose train step is already compiled."""

  step: Any

  def compile_step(self, phase: str) -> Any:
    del phase
    return self.step

  def parameter_norms(self, nets: Nets) -> Metrics:
    # A training computes these every `log_every` steps, but here every step is logged.
    del nets
    return {}


# A checkpointer that saves nothing.
_NO_CHECKPOINTS: Any = SimpleNamespace(
  due=lambda *_: False, preempted=lambda *_: False, steps=list, save=lambda *_: None, wait=lambda: None
)


class _TimedLog(MetricLog):
  """A log that records when it receives the metrics of each step."""

  def __init__(self, *arguments: Any) -> None:
    super().__init__(*arguments)
    self.stamps: list[float] = []

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    means = super().add(step, values)
    self.stamps.append(time.perf_counter())
    return means


@dataclass(frozen=True, kw_only=True)
class StepTiming:
  """Seconds per step.

  Attributes:
    bare: median of the compiled step by itself.
    fastest: minimum of the compiled step by itself.
    loop: median of the training loop; None if the loop was not timed.
  """

  bare: float
  fastest: float
  loop: float | None = None

  @classmethod
  def from_seconds(cls, bare: Sequence[float], *, loop: Sequence[float] = ()) -> "StepTiming":
    """Summarises measured seconds."""
    return cls(bare=statistics.median(bare), fastest=min(bare), loop=statistics.median(loop) if loop else None)


def noise(experiment: TrainingExperiment) -> dict[str, Any]:
  """This process's share of a batch of random pixels, label 0: video uint8 [K, B, T, H, W, C], label int32 [K, B]."""
  share = jax.process_count()
  shapes = {name: (x.shape[0], x.shape[1] // share, *x.shape[2:]) for name, x in experiment.batch_shape().items()}
  return {
    "video": np.random.default_rng(0).integers(256, size=shapes["video"], dtype=np.uint8),
    "label": np.zeros(shapes["label"], np.int32),
  }


def time_steps(
  experiment: TrainingExperiment,
  compiled: CompiledStep,
  state: TrainState,
  iterator: Iterator[Any],
  *,
  steps: int,
  first_step: int,
) -> StepTiming:
  """Times the bare step on one batch that stays on the devices, and the training loop; they take turns with one state.

  Both fetch the metrics of a step after the next step is started; the duration of a step is the time between two
  fetches. The loop includes input, progress, and metrics, which are written every step; images, scores and checkpoints
  are off. `state` is donated; `iterator` yields this process's batches; the completed train steps choose the phase.
  """
  window = math.ceil(steps / WINDOWS) + 2
  num_steps = first_step + window
  config = experiment.config
  train = dataclasses.replace(config.train, num_steps=num_steps, log_every=1, image_every=0, evaluate_every=0)
  config = dataclasses.replace(config, train=train)
  prepared = _CompiledExperiment(config=config, algorithm=experiment.algorithm, mesh=experiment.mesh, step=compiled)
  batch = experiment.put_batch(next(iterator), microbatches=True)
  constants = experiment.step_constants(first_step, experiment.algorithm.phase_at(first_step))
  state, _ = _pipelined_steps(compiled, state, batch, constants, 2)
  bare, loop = [], []
  with (
    tempfile.TemporaryDirectory() as workdir,
    contextlib.closing(create_writer(workdir, resumed_step=None)) as writer,
  ):
    for _ in range(WINDOWS):
      state, seconds = _pipelined_steps(compiled, state, batch, constants, window)
      bare += seconds
      progress = Progress(num_steps, initial_step=first_step, stream=io.StringIO(), interval_s=math.inf)
      log = _TimedLog(train, writer, progress)
      start = RunStart(state=state, step=first_step, iterator=iterator)
      state = TrainLoop(prepared, _NO_CHECKPOINTS, log, (), StopSignals(), {}).run(start)
      loop += _intervals(log.stamps)
  return StepTiming.from_seconds(bare, loop=loop)


def timed_steps(
  compiled: CompiledStep, state: TrainState, batch: Batch, constants: StepConstants, count: int
) -> tuple[TrainState, list[float]]:
  """Runs one untimed step and `count` timed ones; returns the last state and the seconds of each timed step.

  Every step ends before the next one starts. All get the same micro-batches on the devices; `state` is donated.
  """
  seconds = []
  for _ in range(1 + count):
    start = time.perf_counter()
    state, metrics = compiled(state, batch, constants)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - start)
  return state, seconds[1:]


def _pipelined_steps(
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
  return state, _intervals([*stamps, time.perf_counter()])


def _intervals(stamps: list[float]) -> list[float]:
  # The last fetch does not count: before it, no step was started and no input was read.
  return np.diff(stamps[:-1]).tolist()
