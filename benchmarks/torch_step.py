"""Compares the train step with the same GAN's step in PyTorch on the same device.

Both frameworks train networks of equal sizes on the same random clips, in two processes that take turns; the idle one
sleeps. The PyTorch version is benchmarks/torch_networks: it computes what the config says, in PyTorch's own manner.
"""

import contextlib
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from benchmarks.script import run_script
from benchmarks.step_processes import OutOfMemoryError, Settings, StepProcess
from vidgen_jax.bench.measurements import Report, significant
from vidgen_jax.commands.flag_parsing import define_config
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import from_config_dict

FRAMEWORKS = ("jax", "torch")

STEADY = 1.3
"""Largest ratio of the slowest to the fastest round of a framework in a measurement that counts."""


def compare(
  frameworks: Sequence[str], settings: Settings, *, steps: int, rounds: int, profile: bool = False
) -> list[dict[str, Any]]:
  """Times blocks of steps of several frameworks, which take turns.

  Args:
    frameworks: names in `FRAMEWORKS`; a name may occur twice, which measures the comparison's own error.
    settings: what is measured.
    steps: number of steps in a block, after one that is not timed.
    rounds: number of blocks of each framework.
    profile: whether to add a table of the operations that take most of the time.

  Returns:
    Figures of each framework.

  Raises:
    UserError: if a framework fails or the numbers of parameters differ.
  """
  with contextlib.ExitStack() as stack:
    processes, figures = [], []
    for framework in frameworks:
      # One after the other: compilation uses all cores.
      logging.info("starting %s", framework)
      try:
        processes.append(process := StepProcess(framework, settings))
      except OutOfMemoryError:
        raise UserError(f"{framework}: the step does not fit into memory; choose a smaller train.batch_size") from None
      stack.callback(process.close)
      figures.append({"framework": framework, "first_step_s": process.first_s, **process.ask("describe")})
    check_parameters(figures)
    times: list[list[dict[str, float]]] = [[] for _ in processes]
    for turn in range(rounds):
      logging.info("round %d of %d", turn + 1, rounds)
      for process, blocks in zip(processes, times, strict=True):
        process.ask("run", 1)
        blocks.append(process.ask("run", steps))
    for row, process, blocks in zip(figures, processes, times, strict=True):
      row |= timing(row, blocks, clips=clips_per_step(settings))
      row |= {"peak_bytes": process.ask("peak_bytes"), "idle_cpu_s": process.idle_cpu_s}
      if profile:
        row["profile"] = process.ask("profile", steps)
  return figures


def clips_per_step(settings: Settings) -> int:
  """Number of real clips that a step consumes."""
  algorithm: Any = settings.config.algorithm
  return (getattr(algorithm, "discriminator_steps", 1) + 1) * settings.config.train.batch_size


def timing(row: Mapping[str, Any], blocks: Sequence[Mapping[str, float]], *, clips: int) -> dict[str, Any]:
  """Figures from the seconds per step of each block; MFU if the device's peak is known."""
  median, cpu = (statistics.median(block[clock] for block in blocks) for clock in ("wall", "cpu"))
  peak = row.get("peak_flops")
  return {
    "step_ms": 1e3 * median,
    "rounds_ms": [1e3 * block["wall"] for block in blocks],
    "cpu_ms": 1e3 * cpu,
    "clips_per_s": clips / median,
    # What remains of the first step is compilation and, in PyTorch, the choice of algorithms.
    "compile_s": row["first_step_s"] - median,
    "mfu_percent": 100 * row["flops"] / (median * peak) if peak else None,
  }


def check_parameters(figures: Sequence[Mapping[str, Any]]) -> None:
  """Raises UserError if networks differ in their number of parameters."""
  first, *others = figures
  for other in others:
    if other["parameters"] != first["parameters"]:
      raise UserError(
        f"the networks differ: {first['framework']} has {first['parameters']} parameters, {other['framework']} "
        f"{other['parameters']}"
      )


def ratios(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The first framework over the second: time by the medians and by the rounds, FLOPs and memory."""
  first, second = figures
  rounds = [a / b for a, b in zip(first["rounds_ms"], second["rounds_ms"], strict=True)]
  return {
    "name": f"{first['framework']} / {second['framework']}",
    "ratio": first["step_ms"] / second["step_ms"],
    "rounds": rounds,
    "cpu": first["cpu_ms"] / second["cpu_ms"],
    "flops": first["flops"] / second["flops"],
    "peak_bytes": first["peak_bytes"] / second["peak_bytes"] if first["peak_bytes"] else None,
  }


def largest_batch(framework: str, settings: Settings) -> int | None:
  """The largest batch size, from the config's on by doubling, whose step fits into the device's memory.

  None if not even the config's fits. Each size runs in a process of its own.
  """
  size, largest = settings.config.train.batch_size, None
  while True:
    logging.info("%s: batch %d", framework, size)
    try:
      with contextlib.closing(StepProcess(framework, with_batch(settings, size))) as process:
        process.ask("run", 2)
    except OutOfMemoryError:
      return largest
    size, largest = 2 * size, size


def with_batch(settings: Settings, size: int) -> Settings:
  """The settings with another batch size."""
  config = settings.config
  return dataclasses.replace(
    settings, config=dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=size))
  )


def layout(figures: Sequence[Mapping[str, Any]], ratio: Mapping[str, Any] | None) -> str:
  """The figures as text."""
  lines = []
  for row in figures:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items() if version)
    rounds = " ".join(significant(value) for value in row["rounds_ms"])
    lines += [
      f"{row['framework']} ({versions})",
      f"  step, median       {significant(row['step_ms'])} ms; rounds: {rounds}",
      f"  CPU time per step  {significant(row['cpu_ms'])} ms",
      f"  clips consumed     {significant(row['clips_per_s'])} clips/s",
      f"  first step         {significant(row['first_step_s'])} s, with cold compilation",
      f"  FLOPs              {significant(row['flops'] / 1e9)} GFLOP per step",
      f"  parameters         {sum(row['parameters'].values()):,}",
      f"  CPU time when idle {significant(row['idle_cpu_s'])} s",
    ]
    if row["peak_bytes"]:
      lines.append(f"  peak memory        {significant(row['peak_bytes'] / 2**20)} MiB")
    if row["mfu_percent"] is not None:
      lines.append(f"  MFU                {significant(row['mfu_percent'])} %")
    lines += row["profile"].splitlines() if "profile" in row else []
  if ratio:
    rounds = " ".join(f"{value:.3f}" for value in ratio["rounds"])
    lines += [
      f"{ratio['name']}: time {ratio['ratio']:.3f} (rounds: {rounds}); above 1, {figures[0]['framework']} is slower",
      f"  CPU time {ratio['cpu']:.3f}, FLOPs {ratio['flops']:.4f}",
    ]
  for row in figures:
    spread = max(row["rounds_ms"]) / min(row["rounds_ms"])
    if spread > STEADY:
      lines.append(f"{row['framework']}: rounds differ by a factor of {spread:.2f}; repeat on an idle machine")
  return "\n".join(lines) + "\n"


def _define_flags(flag_values: flags.FlagValues) -> None:
  values: dict[str, Any] = {"flag_values": flag_values}
  define_config(flag_values)
  flags.DEFINE_enum("framework", "both", [*FRAMEWORKS, "both"], "framework to measure", **values)
  flags.DEFINE_enum("device", "cpu", ["cpu", "cuda"], "device", **values)
  text = "dtype of the computation, autocast in PyTorch; algorithm.compute_dtype by default"
  flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], text, **values)
  flags.DEFINE_bool("torch_compile", False, "compile the PyTorch networks", **values)
  flags.DEFINE_bool("channels_last", False, "memory layout of PyTorch", **values)
  flags.DEFINE_integer("steps", 10, "steps of a block", lower_bound=1, **values)
  flags.DEFINE_integer("rounds", 5, "blocks of each framework", lower_bound=1, **values)
  flags.DEFINE_bool("null", False, "let a single framework take turns with itself", **values)
  flags.DEFINE_bool("profile_ops", False, "add tables of the operations that take most of the time", **values)
  flags.DEFINE_bool("max_batch", False, "only find the largest batch size (cuda)", **values)
  flags.mark_flag_as_required("config", flag_values=flag_values)


def report(flag_values: flags.FlagValues) -> Report:
  """Measures with the settings of the flags."""
  f = flag_values
  config = from_config_dict(f.config)
  if f.null and f.framework == "both":
    raise UserError("--null needs one --framework, which takes turns with itself")
  if f.dtype:
    config = dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, compute_dtype=f.dtype))
  settings = Settings(config=config, device=f.device, torch_compile=f.torch_compile, channels_last=f.channels_last)
  frameworks = FRAMEWORKS if f.framework == "both" else (f.framework,) * (1 + f.null)
  head: dict[str, Any] = {"experiment": config.name, "batch": config.train.batch_size}
  head |= {"dtype": config.algorithm.compute_dtype}
  head |= {name: f[name].value for name in ("device", "torch_compile", "channels_last", "steps", "rounds")}
  if f.max_batch:
    if f.device != "cuda":
      raise UserError("--max_batch needs --device=cuda")
    rows = [{"framework": name, "largest_batch": largest_batch(name, settings)} for name in frameworks]
    return Report(head=head, rows=rows, text="".join(f"{r['framework']}: {r['largest_batch']}\n" for r in rows))
  figures = compare(frameworks, settings, steps=f.steps, rounds=f.rounds, profile=f.profile_ops)
  ratio = ratios(figures) if len(figures) == 2 else None
  rows = [*figures, *([ratio] if ratio else []), {"config": f.config.to_dict()}]
  return Report(head=head | {"device_kind": figures[0]["device_kind"]}, rows=rows, text=layout(figures, ratio))


if __name__ == "__main__":
  run_script(_define_flags, report)
