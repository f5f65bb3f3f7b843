"""Traffic between devices in a train step and memory per device, from the compiled step. Runs nothing.

Bytes are of whole payloads on one device: the operand of an all-reduce or a reduce-scatter, the result of an
all-gather. The traffic of a link is up to twice that, depending on the algorithm.
"""

import contextlib
import math
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from vidgen_jax.bench.compilation import own_compilation_cache, trace_step
from vidgen_jax.bench.hlo import Payload, payloads
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.core.algorithm import num_microbatches
from vidgen_jax.core.step import EXCHANGE_SCOPE
from vidgen_jax.errors import UserError
from vidgen_jax.nn.norm import BATCH_NORM_SCOPE, BATCH_STATS
from vidgen_jax.ops.losses import PAIRS_SCOPE
from vidgen_jax.parallel.mesh import quick_options
from vidgen_jax.runs.experiment import GATHER_SCOPE, Experiment, report_lack_of_memory
from vidgen_jax.types import BATCH_AXES

GRADIENTS, PARAMETERS, STATISTICS = "gradients", "parameters", "batch statistics"
PAIRS, SCALARS, OTHER = "pairs of clips", "scalars", "other"
PURPOSES = (GRADIENTS, PARAMETERS, STATISTICS, PAIRS, SCALARS, OTHER)
"""Reasons for exchanging an array: split parameters are gathered; the mixed projection head and the motion constraint
use pairs of clips, which may be on different devices; scalars are losses and norms."""

# JAX's name of the backward pass of a linen module; the backward pass of a loss has no module's name.
_IN_NETWORK = re.compile(r"transpose\(jvp\(\w")
_REDUCTIONS = ("all-reduce", "reduce-scatter")
_MB = 1e6

_Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Traffic:
  """Data that a step's collectives move for one purpose, on each device.

  Attributes:
    bytes: bytes of all payloads.
    runs: number of executed collectives; one that moves arrays for several purposes counts for its first array.
    largest: payload with most bytes; None if there is none.
  """

  bytes: int
  runs: int
  largest: Payload | None


def compile_step(experiment: Experiment, phase: str) -> Any:
  """Compiles the train step for the devices of the experiment's mesh, which need not exist.

  The program is that of `vidgen train`, on CPUs without XLA's optimisations. Raises UserError if it needs more memory
  than the devices have.
  """
  lowered = trace_step(experiment, phase).lower()
  # XLA partitions the program before the optimisations that are left out. A cached program would have the operation
  # names of the time when it was cached.
  with own_compilation_cache(), report_lack_of_memory(experiment.mesh):
    return lowered.compile(compiler_options=quick_options(experiment.mesh))


def gradient_bytes(experiment: Experiment, phase: str) -> int:
  """Bytes of the gradients of all repeats of all updates of a step."""
  nets = experiment.abstract_state.nets
  updates = experiment.algorithm.updates(phase)
  return sum(update.repeats * tree_bytes([nets[name].params for name in update.trains]) for update in updates)


def tree_bytes(tree: Any) -> int:
  """Bytes of whole arrays, split or not."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def split_leaves(experiment: Experiment) -> list[jax.ShapeDtypeStruct]:
  """The arrays of the nets that `mesh.fsdp` splits."""
  leaves = jax.tree.leaves(experiment.abstract_state.nets)
  return [leaf for leaf in leaves if leaf.sharding.shard_shape(leaf.shape) != leaf.shape]


def traffic(experiment: Experiment, phase: str, text: str) -> dict[str, Traffic]:
  """Traffic of a compiled step (`text` is `compiled.as_text()`) by purpose, one of `PURPOSES`; see `by_purpose`."""
  return {
    purpose: Traffic(
      bytes=sum(payload.bytes for payload in found),
      runs=sum(payload.times for payload in found if payload.is_first),
      largest=max(found, key=operator.attrgetter("bytes"), default=None),
    )
    for purpose, found in by_purpose(experiment, phase, text).items()
  }


def by_purpose(experiment: Experiment, phase: str, text: str) -> dict[str, list[Payload]]:
  """The arrays that a compiled step exchanges, by purpose.

  A reduction in a network's backward pass without another purpose counts as one of gradients; an unexpected reduction
  therefore shows as too many bytes of gradients.
  """
  nets = experiment.abstract_state.nets
  trained = {name for update in experiment.algorithm.updates(phase) for name in update.trains}
  parameters = _shapes({name: nets[name].params for name in trained})
  statistics = _shapes({name: net.variables.get(BATCH_STATS, {}) for name, net in nets.items()})
  # Stacked layers have one axis more than each of them.
  statistics |= {stacked[1:] for stacked in statistics}
  gathered = {shape for leaf in split_leaves(experiment) for shape in _gathered_shapes(leaf)}
  found: dict[str, list[Payload]] = {purpose: [] for purpose in PURPOSES}
  for payload in payloads(text):
    found[_purpose(payload, parameters, gathered, statistics)].append(payload)
  return found


def _purpose(payload: Payload, parameters: set[_Shape], gathered: set[_Shape], statistics: set[_Shape]) -> str:
  shape = _ordered(payload.array.shape)
  in_network = bool(_IN_NETWORK.search(payload.scope or payload.serves))
  if _is_of_pairs(payload, in_network=in_network, is_parameter=shape in parameters):
    return PAIRS
  if payload.kind not in _REDUCTIONS:
    wanted = GATHER_SCOPE in payload.scope + payload.serves or shape in gathered
    return PARAMETERS if payload.kind == "all-gather" and wanted else OTHER
  if shape == ():
    return SCALARS
  if EXCHANGE_SCOPE in payload.serves and BATCH_NORM_SCOPE not in payload.serves:
    return GRADIENTS
  around = "" if payload.scope or shape not in statistics else payload.wanted_by + payload.serves
  of_batch_norm = BATCH_NORM_SCOPE in payload.scope + around
  if shape in statistics - parameters or (of_batch_norm and shape not in parameters - statistics):
    return STATISTICS
  return GRADIENTS if (shape in parameters or in_network) and "f" in payload.array.dtype else OTHER


def _is_of_pairs(payload: Payload, *, in_network: bool, is_parameter: bool) -> bool:
  names = [payload.scope]
  if payload.kind not in _REDUCTIONS or not is_parameter:
    names.append(payload.wanted_by)
  # XLA combines reductions and keeps one of their names.
  if payload.kind not in _REDUCTIONS or not (is_parameter or in_network):
    names.append(payload.serves)
  return any(PAIRS_SCOPE in name for name in names)


def _gathered_shapes(leaf: jax.ShapeDtypeStruct) -> Iterator[_Shape]:
  """The shape of a gathered array, and the one whose first axis counts the parts."""
  yield _ordered(leaf.shape)
  part = leaf.sharding.shard_shape(leaf.shape)
  yield _ordered((math.prod(leaf.shape) // math.prod(part), *part))


def _shapes(tree: Any) -> set[_Shape]:
  return {_ordered(leaf.shape) for leaf in jax.tree.leaves(tree)}


def _ordered(shape: _Shape) -> _Shape:
  # Compilers transpose axes, and add and remove those of length 1.
  return tuple(sorted(length for length in shape if length != 1))


def state_bytes(experiment: Experiment) -> dict[str, int]:
  """Bytes of the train state on one device: 'parameters', 'optimizer', 'averages', 'variables'."""
  state = experiment.abstract_state
  parts = {
    "parameters": {name: net.params for name, net in state.nets.items()},
    "variables": {name: net.variables for name, net in state.nets.items()},
    "optimizer": state.opt_states,
    "averages": state.ema,
  }
  return {
    name: sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(part))
    for name, part in parts.items()
  }


def fake_devices(names: Sequence[str]) -> dict[str, Sequence[Any]]:
  """Devices to compile for, by name: a number of CPU devices, or libtpu's name of a TPU topology such as 'v5p:4x4x4'.

  Raises UserError if a name is neither, libtpu is missing or does not know a topology, or JAX already runs with fewer
  devices.
  """
  counts = [int(name) for name in names if name.isdigit()]
  if counts:
    available = cpu_devices(max(1, *counts))
    if not 0 < min(counts) <= max(counts) <= len(available):
      raise UserError(f"--collectives={','.join(names)}: give numbers from 1 to {len(available)}")
  return {name: available[: int(name)] if name.isdigit() else _topology(name) for name in names}


def cpu_devices(count: int) -> list[Any]:
  """A number of fake CPU devices; all that exist if JAX already runs."""
  with contextlib.suppress(RuntimeError):  # Raised if JAX already runs.
    jax.config.update("jax_num_cpu_devices", count)
  return jax.devices("cpu")


def _topology(name: str) -> Sequence[Any]:
  if not re.fullmatch(r"v\w+:\d+(x\d+)+", name):
    raise UserError(f"--collectives: {name!r} is neither a number of devices nor a topology such as v5p:4x4x4")
  # No TPU is used: libtpu must not query the metadata server of a cloud, which it repeats without end, and other
  # processes may use libtpu as well.
  for setting in ("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
    os.environ.setdefault(setting, "1")
  try:
    return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f"--collectives={name} needs libtpu (pip install libtpu), which reports: {str(error).splitlines()[0]}"
    ) from error


def describe_step(experiment: Experiment, devices: str) -> dict[str, Any]:
  """The head of a report about the step for `devices`: how they share a micro-batch of `config.train.batch_size`."""
  config, sharing = experiment.config, math.prod(experiment.mesh.shape[axis] for axis in BATCH_AXES)
  remat = getattr(config.algorithm, "remat", False)
  return {
    "devices": devices,
    "batch": config.train.batch_size,
    "accumulate": config.step.accumulate,
    "clips at once per device": config.train.batch_size // config.step.accumulate // sharing,
    "devices that repeat clips": experiment.mesh.size - sharing,
    "fsdp": config.mesh.fsdp,
    "remat": remat,
  }


def measure(experiment: Experiment, phase: str) -> list[Measurement]:
  """Compiles the train step of a phase and reports its traffic and memory, in megabytes of 1e6 bytes.

  Raises:
    ValueError: if the number of iterations of a loop with collectives is unknown.
  """
  compiled = compile_step(experiment, phase)
  needed = gradient_bytes(experiment, phase)
  moved = traffic(experiment, phase, compiled.as_text())
  # Every repeat of an update gathers the split parameters once.
  split = tree_bytes(split_leaves(experiment)) * num_microbatches(experiment.algorithm.updates(phase))
  memory = {f"{name} on a device": (size, "") for name, size in state_bytes(experiment).items()}
  planned = compiled.memory_analysis()
  memory["arguments"] = planned.argument_size_in_bytes, "state and batch"
  quick = " for CPUs, without optimisations" if quick_options(experiment.mesh) else ""
  memory["temporaries"] = planned.temp_size_in_bytes, f"as planned by XLA{quick}"
  return [
    *_traffic_figures(needed, split, moved),
    *(Measurement(name=name, value=size / _MB, unit="MB", note=note) for name, (size, note) in memory.items()),
  ]


def _traffic_figures(needed: int, split: int, moved: Mapping[str, Traffic]) -> Iterator[Measurement]:
  yield Measurement(name="gradients of the step", value=needed / _MB, unit="MB", note="float32, updates x repeats")
  total = sum(part.bytes for part in moved.values())
  yield Measurement(name="moved by collectives", value=total / _MB, unit="MB", note="payloads, on each device")
  for purpose, part in moved.items():
    largest = part.largest
    note = f"{part.runs} collectives"
    if purpose == OTHER and largest:
      note += f"; largest: {largest.kind} of {largest.array.dtype}{list(largest.array.shape)} in {largest.scope}"
    goal = 0.0 if purpose == OTHER else None
    yield Measurement(name=f"  {purpose}", value=part.bytes / _MB, unit="MB", at_most=goal, note=note)
  yield Measurement(name="moved / needed gradients", value=moved[GRADIENTS].bytes / needed, at_most=1.05)
  if split:
    ratio = moved[PARAMETERS].bytes / split
    yield Measurement(name="gathered / split parameters", value=ratio, at_most=1.05, note="once per update")
