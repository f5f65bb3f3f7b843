"""Long-lived processes that run train steps in JAX or PyTorch on request and sleep in between."""

import contextlib
import functools
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class Settings:
  """What is measured; the fields are flags of `torch_step.py`."""

  config: ExperimentConfig
  device: str
  torch_compile: bool = False
  channels_last: bool = False

  def random_video(self, microbatches: int) -> np.ndarray:
    """Random pixels uint8 [K, B, T, H, W, C]."""
    data, size = self.config.data, self.config.train.batch_size
    shape = (microbatches, size, data.num_frames, data.resolution, data.resolution, data.channels)
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


class Steps:
  """Train steps of one framework on a fixed batch; construction compiles, without a cache, and runs the first step."""

  def __init__(self, settings: Settings):
    self.settings = settings
    self.prepare()
    start = time.perf_counter()
    self.compile()
    self.run(1)
    self.first_s = time.perf_counter() - start

  def prepare(self) -> None:
    """Builds networks and batch."""
    raise NotImplementedError

  def compile(self) -> None:
    """Compiles the step, if this is a separate stage."""

  def launch(self, steps: int) -> Callable[[], Any]:
    """Starts steps; the result waits for their end."""
    raise NotImplementedError

  def run(self, steps: int) -> dict[str, float]:
    """Seconds per step, from the clock and from the CPUs of this process."""
    start, cpu = time.perf_counter(), time.process_time()
    self.launch(steps)()
    return {"wall": (time.perf_counter() - start) / steps, "cpu": (time.process_time() - cpu) / steps}

  def describe(self) -> dict[str, Any]:
    """Device, versions, parameters by network and FLOPs of a step."""
    raise NotImplementedError

  def peak_bytes(self) -> int | None:
    """Peak memory on the device; None on CPU."""
    raise NotImplementedError

  def profile(self, steps: int) -> str:
    """A table of what takes most of the time."""
    raise NotImplementedError


class JaxSteps(Steps):
  """Train steps of this package."""

  def prepare(self) -> None:
    import jax

    from vidgen_jax.runs.experiment import build_experiment

    self.device = jax.devices()[0]
    self.experiment = build_experiment(self.settings.config, devices=[self.device])
    self.phase = self.experiment.algorithm.phases[0]
    video = self.settings.random_video(self.experiment.algorithm.microbatches)
    batch = {"video": video, "label": np.zeros(video.shape[:2], np.int32)}
    constants = self.experiment.step_constants(0, self.phase)
    self.inputs = self.experiment.put_batch(batch, microbatches=True), constants
    self.state = self.experiment.init_state()

  def compile(self) -> None:
    from vidgen_jax.bench.compilation import own_compilation_cache, trace_step

    with own_compilation_cache():
      self.compiled = trace_step(self.experiment, self.phase).lower().compile()

  def launch(self, steps: int) -> Callable[[], Any]:
    import jax

    for _ in range(steps):
      self.state, _ = self.compiled(self.state, *self.inputs)
    return functools.partial(jax.block_until_ready, self.state)

  def describe(self) -> dict[str, Any]:
    import jax

    from vidgen_jax.bench.cost_estimate import needed_flops, total_flops
    from vidgen_jax.bench.settings import published_peak

    nets = self.experiment.abstract_state.nets
    return {
      "device_kind": self.device.device_kind,
      "versions": {"jax": jax.__version__},
      "parameters": {name: sum(x.size for x in jax.tree.leaves(net.params)) for name, net in nets.items()},
      # The form of convolutions for TPUs is the native one, which counts no products with padding in time.
      "flops": total_flops(needed_flops(self.experiment, self.phase, backend="tpu")),
      "peak_flops": published_peak(self.device.device_kind),
    }

  def peak_bytes(self) -> int | None:
    return (self.device.memory_stats() or {}).get("peak_bytes_in_use")

  def profile(self, steps: int) -> str:
    from vidgen_jax.bench import profile
    from vidgen_jax.bench.measurements import table_text

    times = profile.scope_times(lambda: self.run(steps), self.compiled.as_text(), runs=steps, devices=1)
    return table_text(profile.profile_figures(times, count=30))


class TorchSteps(Steps):
  """Train steps of the PyTorch version."""

  def prepare(self) -> None:
    # Before the import: PyTorch would find programs of earlier runs in its default folder.
    self.cache = tempfile.TemporaryDirectory()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = self.cache.name
    import torch

    from benchmarks.torch_networks import Trainer, build_system

    s, self.cuda = self.settings, self.settings.device == "cuda"
    torch.manual_seed(0)
    # XLA multiplies float32 in TF32 on GPUs; so do PyTorch's convolutions, but not its matrix products by default.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    self.system = build_system(s.config, channels_last=s.channels_last)
    algorithm: Any = s.config.algorithm
    options = {"bfloat16": algorithm.compute_dtype == "bfloat16", "compiled": s.torch_compile}
    self.trainer = Trainer(self.system, s.config, s.device, **options)
    video = np.moveaxis(s.random_video(sum(update.repeats for update in self.system.updates())), -1, 3)
    labels = torch.zeros(video.shape[:2], dtype=torch.int64)
    self.inputs = torch.from_numpy(np.ascontiguousarray(video)).to(s.device), labels.to(s.device)

  def launch(self, steps: int) -> Callable[[], Any]:
    import torch

    for _ in range(steps):
      self.trainer.step(*self.inputs)
    return torch.cuda.synchronize if self.cuda else lambda: None

  def describe(self) -> dict[str, Any]:
    import torch

    from benchmarks.torch_networks.flops import count_flops

    nets = self.system.nets
    run, self.system.run = self.system.run, nets
    flops = count_flops(lambda: self.run(1))
    self.system.run = run
    if self.cuda:  # That step was not compiled.
      torch.cuda.reset_peak_memory_stats()
    return {
      "device_kind": torch.cuda.get_device_name() if self.cuda else "cpu",
      "versions": {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()},
      "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()},
      "flops": flops,
    }

  def peak_bytes(self) -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if self.cuda else None

  def profile(self, steps: int) -> str:
    import torch

    with torch.profiler.profile() as profiler:
      self.run(steps)
    key = "self_cuda_time_total" if self.cuda else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=key, row_limit=30, max_name_column_width=50)


STEPS: dict[str, type[Steps]] = {"jax": JaxSteps, "torch": TorchSteps}
"""Runners of train steps by framework."""


def _serve(connection: Connection, framework: str, settings: Settings) -> None:
  try:
    steps = STEPS[framework](settings)
    connection.send((None, steps.first_s, 0.0))
    busy = time.process_time()
    while (request := connection.recv()) is not None:
      idle_cpu_s = time.process_time() - busy
      name, *arguments = request
      connection.send((None, getattr(steps, name)(*arguments), idle_cpu_s))
      busy = time.process_time()
  except UserError as error:
    connection.send((str(error), None, 0.0))
  except Exception:  # noqa: BLE001 - the other process reports it
    connection.send((traceback.format_exc(), None, 0.0))


class OutOfMemoryError(Exception):
  """A process has run out of the device's memory."""


class StepProcess:
  """A process that runs steps of one framework; between requests it waits in a blocking read.

  Construction ends with the first step.

  Attributes:
    first_s: seconds from the start of compilation to the end of the first step.
    idle_cpu_s: CPU seconds that the process has used between its requests.
  """

  def __init__(self, framework: str, settings: Settings):
    self._framework, self.idle_cpu_s = framework, 0.0
    context = multiprocessing.get_context("spawn")
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, framework, settings), daemon=True)
    # Both frameworks share the device's memory; the child reads the variables when it imports JAX.
    os.environ |= {"JAX_PLATFORMS": settings.device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    self._process.start()
    other.close()
    try:
      self.first_s: float = self._receive()
    except Exception:
      self.close()
      raise

  def ask(self, name: str, *arguments: Any) -> Any:
    """The result of a method of `Steps`."""
    self._connection.send((name, *arguments))
    return self._receive()

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(OSError):
      self._connection.send(None)
    self._process.join()

  def _receive(self) -> Any:
    error, result, idle_cpu_s = "the process ended", None, 0.0
    with contextlib.suppress(EOFError):
      error, result, idle_cpu_s = self._connection.recv()
    self.idle_cpu_s += idle_cpu_s
    if error is None:
      return result
    if any(words in error for words in ("RESOURCE_EXHAUSTED", "OutOfMemoryError", "out of memory")):
      raise OutOfMemoryError(error)
    raise UserError(f"{self._framework}: {error}")
