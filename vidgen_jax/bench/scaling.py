"""Step time on many chips: a model, from FLOPs, one small compiled program and published bandwidths. Runs nothing.

A step on n chips takes between (perfect overlap) and (no overlap) of

  fastest = max(compute, gradients + parameters) + state + statistics + pairs
  slowest = compute + gradients + parameters + state + statistics + pairs

Only the exchange of gradients and the gathering of split parameters can overlap with the computation; each layer waits
for its batch statistics. Of what a step computes and exchanges, only these change with n at a fixed global batch:

- FLOPs of a chip: its clips, global batch / n; products of weights alone (orthogonal penalty) run on every chip;
- the time of one collective, see `Network.seconds`. Gathered pairs of clips and all reductions keep their size.

Not modelled: input, imbalance, an MFU that falls with the clips per chip, and memory of activations.
"""

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from vidgen_jax.bench import collectives
from vidgen_jax.bench.cost_estimate import needed_flops
from vidgen_jax.bench.measurements import Report, significant
from vidgen_jax.bench.networks import LINK_SHARE, NETWORKS, Exchange, Network
from vidgen_jax.bench.settings import accelerator
from vidgen_jax.core.algorithm import num_microbatches
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import build_experiment

BASE = 8
"""Number of fake devices of the compiled program."""
SHARDS = (1, 8, 64)
"""Values of `mesh.fsdp` to compare."""


@dataclass(frozen=True, kw_only=True)
class Work:
  """What a train step computes and exchanges.

  Attributes:
    batch: clips of a micro-batch on all chips.
    accumulate: parts of a micro-batch; gradients and parameters move once per update, the rest in every part.
    clip_flops: FLOPs per clip of `batch`, of all updates.
    weight_flops: FLOPs of weights alone, in all parts.
    gradients: all-reduced; also with fsdp, as compiled for TPUs.
    statistics: all-reduced moments of batch normalisation.
    pairs: gathered and reduced arrays for pairs of clips, and scalars.
    parameters: gathered parameters by fsdp, at most: every split array once per update and repeat.
    state: bytes of the train state on a chip by fsdp.
  """

  batch: int
  accumulate: int
  clip_flops: float
  weight_flops: float
  gradients: Exchange
  statistics: Exchange
  pairs: Exchange
  parameters: Mapping[int, Exchange]
  state: Mapping[int, float]


def measure_work(config: ExperimentConfig, devices: Sequence[Any], *, backend: str, first_step: int = 0) -> Work:
  """Counts the work of a train step of any number of chips, from a program compiled for up to `BASE` of `devices`."""
  base = list(devices[:BASE])
  whole = replace(config, step=replace(config.step, accumulate=1), mesh=replace(config.mesh, fsdp=1))
  experiment = build_experiment(_raised(whole, len(base)), devices=base)
  phase = experiment.algorithm.phase_at(first_step)
  found = collectives.by_purpose(experiment, phase, collectives.compile_step(experiment, phase).as_text())
  grown = config.train.batch_size / experiment.config.train.batch_size

  def exchange(*purposes: str) -> Exchange:
    moved = [x for purpose in purposes for x in found[purpose]]
    return Exchange(sum(x.bytes for x in moved), sum(x.times for x in moved if x.is_first))

  pairs = exchange(collectives.PAIRS, collectives.SCALARS, collectives.OTHER)
  single = replace(config, mesh=whole.mesh)
  needed = needed_flops(build_experiment(single, devices=base[:1]), phase, backend=backend)
  flops = collections.Counter[str]()
  for kind, count in (item for parts in needed.values() for item in parts.items()):
    flops[kind.on] += count
  parameters, state = {}, {}
  for shards in (shards for shards in SHARDS if shards <= len(devices)):
    split = replace(whole, mesh=replace(config.mesh, fsdp=shards))
    split = build_experiment(_raised(split, shards), devices=list(devices[:shards]))
    leaves, updates = collectives.split_leaves(split), num_microbatches(split.algorithm.updates(phase))
    parameters[shards] = Exchange(updates * collectives.tree_bytes(leaves), updates * len(leaves))
    state[shards] = sum(collectives.state_bytes(split).values())
  return Work(
    batch=config.train.batch_size,
    accumulate=config.step.accumulate,
    clip_flops=flops["clips"] / config.train.batch_size,
    weight_flops=flops["weights"],
    gradients=exchange(collectives.GRADIENTS)._replace(bytes=collectives.gradient_bytes(experiment, phase)),
    statistics=exchange(collectives.STATISTICS),
    pairs=pairs._replace(bytes=pairs.bytes * grown),
    parameters=parameters,
    state=state,
  )


def _raised(config: ExperimentConfig, devices: int) -> ExperimentConfig:
  """The config with a batch raised to a multiple of the devices."""
  batch_size = -(-config.train.batch_size // devices) * devices
  return replace(config, train=replace(config.train, batch_size=batch_size))


def step_time(
  work: Work, network: Network, flops_per_second: float, *, chips: int, fsdp: int, batch: int | None = None
) -> dict[str, float]:
  """Seconds of the parts of a step on a number of chips, and the bounds 'fastest' and 'slowest'.

  `flops_per_second` are those of a chip at an assumed utilisation; `fsdp` chips share a state; `batch` is the number of
  clips in a micro-batch on all chips, None for that of `work`.
  """
  clips, parts = batch or work.batch, work.accumulate
  grown = clips / work.batch
  pairs = Exchange(work.pairs.bytes * grown, work.pairs.runs * parts)
  statistics = Exchange(work.statistics.bytes * parts, work.statistics.runs * parts)
  result = {
    "compute": (work.clip_flops * clips / chips + work.weight_flops) / flops_per_second,
    "gradients": network.seconds(work.gradients, chips, passes=2, chips=chips),
    "parameters": network.seconds(work.parameters[fsdp], fsdp, passes=1, chips=chips),
    "statistics": network.seconds(statistics, chips, passes=2, chips=chips),
    "pairs": network.seconds(pairs, chips, passes=2, chips=chips),
    # Optimizers and averages read and write the state; this does not shrink with more chips unless they share it.
    "state": 2 * work.state[fsdp] / network.memory_rate,
  }
  fixed = result["statistics"] + result["pairs"] + result["state"]
  moved = result["gradients"] + result["parameters"]
  return result | {"fastest": fixed + max(result["compute"], moved), "slowest": fixed + result["compute"] + moved}


def predict(
  config: ExperimentConfig, counts: Sequence[int], *, device_kind: str, mfu: float, first_step: int = 0
) -> Report:
  """Step times on numbers of chips with the state split over each of `SHARDS`; the first number is the reference.

  Raises UserError if a number of chips is below 1, the accelerator unknown, `mfu` out of range, or the config invalid.
  """
  if not counts or min(counts) < 1:
    raise UserError(f"--scaling={','.join(map(str, counts))}: give numbers of chips from 1, such as 8,64,512")
  peak, network = accelerator(device_kind, mfu), NETWORKS[device_kind]
  work = measure_work(config, collectives.cpu_devices(max(SHARDS)), backend=peak.backend, first_step=first_step)
  # Some chips are several devices, each of which holds a share of the state.
  work = replace(work, state={shards: peak.devices * held for shards, held in work.state.items()})

  def row(chips: int, fsdp: int) -> dict[str, float]:
    # Every device has at least one clip of each part.
    unit = chips * peak.devices * work.accumulate
    batch = -(-work.batch // unit) * unit
    times = step_time(work, network, mfu * peak.chip, chips=chips, fsdp=fsdp, batch=batch)
    milliseconds = {f"{name} ms": 1e3 * seconds for name, seconds in times.items()}
    shape = {"chips": chips, "fsdp": fsdp, "batch": batch, "clips/chip": batch / chips}
    return shape | milliseconds | {"state GB": work.state[fsdp] / 1e9}

  def compared(row: dict[str, float]) -> dict[str, float]:
    # Ratio of clips per chip and second.
    ratios = ((way, row["clips/chip"] / reference["clips/chip"] * reference[way] / row[way]) for way in bounds)
    return row | {f"efficiency {way.removesuffix(' ms')} %": 100 * ratio for way, ratio in ratios}

  reference, bounds = row(counts[0], 1), ("fastest ms", "slowest ms")
  rows = [compared(row(chips, fsdp)) for chips in counts for fsdp in work.state if chips % fsdp == 0]
  most = work.batch // (peak.devices * work.accumulate)
  doubled = itertools.takewhile(lambda chips: chips <= most, (counts[0] << i for i in itertools.count()))
  model = {"kind": "a model, not measured", "device_kind": device_kind, "mfu": mfu, "link_share": LINK_SHARE}
  head = {"experiment": config.name, "jax": jax.__version__, **model}
  assumed = (
    f"A model, not measured: {100 * mfu:g} % of {peak.chip / 1e12:g} TFLOP/s, {100 * LINK_SHARE:g} % of "
    f"{network.rate / 1e9:g} GB/s per chip among {network.pod:,} chips and of {network.far_rate / 1e9:g} GB/s beyond, "
    f"{1e6 * network.hop:g} and {1e6 * network.far_hop:g} us per hop.\nFastest: gradients and parameters move during "
    f"the computation; slowest: nothing overlaps. HBM of a chip: {network.memory / 1e9:.1f} GB, also for activations.\n"
  )
  notes = [f"batch {work.batch:,}: at most {most:,} chips have a clip each per device"]
  raised = {row["chips"]: row["batch"] for row in rows if row["batch"] != work.batch}
  if raised:
    batches = ", ".join(f"{batch:,} on {chips:,} chips" for chips, batch in raised.items())
    notes.append(f"NOT the batch of this config: raised to {batches}; `train` needs --config.train.batch_size for that")
  notes += _limits([compared(row(chips, 1)) for chips in doubled])
  for first in (row for row in rows if row["fsdp"] == 1):
    repeated = first["statistics ms"] + first["pairs ms"] + 1e3 * work.weight_flops / (mfu * peak.chip)
    more = significant(repeated / work.accumulate)
    notes.append(f"each further part of step.accumulate on {first['chips']:,} chips: at most {more} ms more")
  return Report(head=head, rows=rows, text="\n".join([assumed, _table(rows), *notes, ""]))


def _limits(rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
  """Where the batch stops scaling, from rows of doubled numbers of chips up to one clip per device."""
  for way in ("slowest", "fastest"):
    below = next((row for row in rows if row[f"efficiency {way} %"] < 50), None)
    if below:
      yield f"{way}: efficiency falls below 50 % at {below['chips']:,} chips ({below['clips/chip']:g} clips per chip)"
    elif rows:
      yield f"{way}: efficiency stays above 50 % up to {rows[-1]['chips']:,} chips"


def _table(rows: Sequence[Mapping[str, float]]) -> str:
  lines = [[name.replace("efficiency", "eff.") for name in rows[0]]]
  lines += [[significant(x) if isinstance(x, float) else f"{x:,}" for x in row.values()] for row in rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "".join("  ".join(f"{x:>{n}}" for x, n in zip(line, widths, strict=True)) + "\n" for line in lines)
