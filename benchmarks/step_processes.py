"""Long-lived processes that run train steps in JAX or PyTorch on request and sleep in between."""

import contextlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OutOfMemoryError", "out of memory")


@dataclass(frozen=True, kw_only=True)
class Settings:
  """What is measured; the fields are flags of `torch_step.py`."""

  config: ExperimentConfig
  device: str
  torch_compile: bool
  channels_last: bool

  @property
  def bfloat16(self) -> bool:
    """Whether networks compute in bfloat16."""
    algorithm: Any = self.config.algorithm
    return algorithm.compute_dtype == "bfloat16"

  def random_video(self, microbatches: int) -> np.ndarray:
    """Random pixels uint8 [K, B, T, H, W, C]."""
    data, size = self.config.data, self.config.train.batch_size
    shape = (microbatches, size, data.num_frames, data.resolution, data.resolution, data.channels)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


class JaxSteps:
  """Train steps of this package; compiles with an empty cache."""

  def __init__(self, settings: Settings):
    import jax

    from vidgen_jax.bench.compilation import own_compilation_cache, trace_step
    from vidgen_jax.runs.experiment import build_experiment

    self._device = jax.devices()[0]
    self._experiment = experiment = build_experiment(settings.config, devices=[self._device])
    self._phase = experiment.algorithm.phases[0]
    batch = {"video": settings.random_video(experiment.algorithm.microbatches)}
    batch["label"] = np.zeros(batch["video"].shape[:2], np.int32)
    self._inputs = experiment.put_batch(batch, microbatches=True), experiment.step_constants(0, self._phase)
    self._state = experiment.init_state()
    start = time.perf_counter()
    with own_compilation_cache():
      self._compiled = trace_step(experiment, self._phase).lower().compile()
    self.run(1)
    self._first_s = time.perf_counter() - start

  def run(self, steps: int) -> float:
    """Seconds per step of `steps` steps, of which the last one has ended."""
    import jax

    start = time.perf_counter()
    metrics = None
    for _ in range(steps):
      self._state, metrics = self._compiled(self._state, *self._inputs)
    jax.block_until_ready((self._state, metrics))
    return (time.perf_counter() - start) / steps

  def describe(self) -> dict[str, Any]:
    """Versions, parameters by network, FLOPs and seconds to the end of the first step."""
    import jax
    import jaxlib

    from vidgen_jax.bench.cost_estimate import needed_flops, published_peak, total_flops

    nets = self._experiment.abstract_state.nets
    return {
      "device_kind": self._device.device_kind,
      "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
      "first_step_s": self._first_s,
      "parameters": {name: sum(x.size for x in jax.tree.leaves(net.params)) for name, net in nets.items()},
      # The form of convolutions for TPUs is the native one, which counts no products with padding in time.
      "flops": total_flops(needed_flops(self._experiment, self._phase, backend="tpu")),
      "peak_flops": published_peak(self._device.device_kind),
    }

  def peak_bytes(self) -> int | None:
    """Peak memory on the device; None on CPU."""
    return (self._device.memory_stats() or {}).get("peak_bytes_in_use")

  def profile(self, steps: int) -> str:
    """A table of the modules that take most of the time."""
    from vidgen_jax.bench import profile
    from vidgen_jax.bench.measurements import table_text

    times = profile.scope_times(lambda: self.run(steps), self._compiled.as_text(), runs=steps, devices=1)
    return table_text(profile.profile_figures(times, count=30))


class TorchSteps:
  """Train steps of the PyTorch version; compiles with an empty cache."""

  def __init__(self, settings: Settings):
    import torch

    from benchmarks.torch_networks import Trainer, build_system

    torch.manual_seed(0)
    # XLA multiplies float32 in TF32 on GPUs; so do PyTorch's convolutions, but not its matrix products by default.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    self._cuda = settings.device == "cuda"
    self._system = build_system(settings.config, channels_last=settings.channels_last)
    dtype = torch.bfloat16 if settings.bfloat16 else torch.float32
    self._trainer = Trainer(
      self._system, settings.config, device=settings.device, dtype=dtype, compiled=settings.torch_compile
    )
    video = settings.random_video(sum(update.repeats for update in self._system.updates()))
    frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, 3)))
    labels = torch.zeros(video.shape[:2], dtype=torch.int64)
    self._inputs = frames.to(settings.device), labels.to(settings.device)
    start = time.perf_counter()
    self.run(1)
    self._first_s = time.perf_counter() - start

  def run(self, steps: int) -> float:
    """Seconds per step of `steps` steps, of which the last one has ended."""
    import torch

    start = time.perf_counter()
    for _ in range(steps):
      self._trainer.step(*self._inputs)
    if self._cuda:
      torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps

  def describe(self) -> dict[str, Any]:
    """Versions, parameters by network, FLOPs and seconds to the end of the first step."""
    import torch

    from benchmarks.torch_networks.flops import count_flops

    run, self._system.run = self._system.run, self._system.nets
    flops = count_flops(lambda: self.run(1))
    self._system.run = run
    nets = self._system.nets
    return {
      "device_kind": torch.cuda.get_device_name() if self._cuda else "cpu",
      "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()},
      "threads": torch.get_num_threads(),
      "first_step_s": self._first_s,
      "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()},
      "flops": flops,
    }

  def peak_bytes(self) -> int | None:
    """Peak memory on the device; None on CPU."""
    import torch

    return torch.cuda.max_memory_allocated() if self._cuda else None

  def profile(self, steps: int) -> str:
    """A table of the operations that take most of the time."""
    import torch

    with torch.profiler.profile(record_shapes=True) as profiler:
      self.run(steps)
    key = "self_cuda_time_total" if self._cuda else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=50)


STEPS: dict[str, type] = {"jax": JaxSteps, "torch": TorchSteps}
"""Runners of train steps by framework."""


def _serve(connection: Connection, framework: str, settings: Settings) -> None:
  try:
    runner = STEPS[framework](settings)
    connection.send((None, None))
    busy = time.process_time()
    while (request := connection.recv()) is not None:
      idle_cpu_s = time.process_time() - busy
      name, *arguments = request
      connection.send((None, (getattr(runner, name)(*arguments), idle_cpu_s)))
      busy = time.process_time()
  except UserError as error:
    connection.send((str(error), None))
  except Exception:  # noqa: BLE001 - reported by the parent process
    connection.send((traceback.format_exc(), None))


class OutOfMemoryError(Exception):
  """A process has run out of the device's memory."""


class StepProcess:
  """A process that runs steps of one framework; between requests it waits in a blocking read.

  Attributes:
    idle_cpu_s: CPU seconds that the process has used between its requests.
  """

  def __init__(self, framework: str, settings: Settings):
    self._framework = framework
    self.idle_cpu_s = 0.0
    context = multiprocessing.get_context("spawn")
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, framework, settings), daemon=True)
    # Both frameworks share the device's memory.
    with _environment(JAX_PLATFORMS=settings.device, XLA_PYTHON_CLIENT_PREALLOCATE="false"):
      self._process.start()
    other.close()

  def wait(self) -> None:
    """Waits until the first step has ended."""
    self._receive()

  def ask(self, name: str, *arguments: Any) -> Any:
    """The result of a method of the runner."""
    self._connection.send((name, *arguments))
    result, idle_cpu_s = self._receive()
    self.idle_cpu_s += idle_cpu_s
    return result

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(OSError):
      self._connection.send(None)
    self._process.join()

  def _receive(self) -> Any:
    try:
      error, result = self._connection.recv()
    except EOFError:
      self._process.join()
      error = f"the process ended with exit code {self._process.exitcode}"
    if error is None:
      return result
    if any(words in error for words in _OUT_OF_MEMORY):
      raise OutOfMemoryError(error)
    raise UserError(f"{self._framework}: {error}")


@contextlib.contextmanager
def _environment(**values: str) -> Generator[None]:
  before = {name: os.environ.get(name) for name in values}
  os.environ.update(values)
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value
