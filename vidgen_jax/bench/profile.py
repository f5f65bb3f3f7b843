"""Where the time of a train step goes: a trace of the device, summed over the operations of each module."""

import collections
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

from vidgen_jax.bench import hlo
from vidgen_jax.bench.measurements import Measurement
from vidgen_jax.errors import UserError

# Their time is that of the instructions inside of them, which a trace lists as well.
_CONTAINERS = frozenset({"while", "call", "conditional"})
# Parts of scopes that JAX adds for its own transformations and control flow.
_NOT_MODULES = re.compile(
  r"jit\(.*|pjit|remat|checkpoint|rematted_computation|custom_[jv]vp_call|while|body|cond|closed_call|shard_map|"
  r"eval_jaxpr|branch_\d+_fun"
)


@dataclass(frozen=True, kw_only=True)
class ScopeTime:
  """Time of the operations of one module in one direction.

  Attributes:
    scope: path of the module, 'Generator/stage_0_unit'; '' for operations outside of modules.
    direction: 'forward' or 'backward'.
    seconds: seconds per run and device; operations that overlap count in full.
    opcodes: runs of the instructions per run of the program and device, by opcode, the longest first.
  """

  scope: str
  direction: str
  seconds: float
  opcodes: Mapping[str, float]


def scope_times(run: Callable[[], object], program: str, *, runs: int, devices: int) -> list[ScopeTime]:
  """Traces a function and sums the time of a program's operations by module and direction, the longest first.

  `run` runs the program `runs` times on `devices` devices of this process, and waits for its results; `program` is the
  text of the compiled program.

  Raises:
    UserError: if the backend's trace does not name operations.
  """
  known = hlo.scopes(program)
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  spent: dict[tuple[str, str], dict[str, list[float]]] = collections.defaultdict(lambda: collections.defaultdict(list))
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      run()
    for name, duration in _operations(Path(folder)):
      opcode, scope = known.get(name, ("", ""))
      if opcode and opcode not in _CONTAINERS:
        spent[module_of(scope)][opcode].append(duration)
  if not spent:
    raise UserError(f"the trace of the backend {jax.default_backend()!r} names no operations")
  times = []
  for (scope, direction), durations in spent.items():
    longest = sorted(durations, key=lambda opcode: -sum(durations[opcode]))
    opcodes = {opcode: len(durations[opcode]) / (runs * devices) for opcode in longest}
    seconds = sum(map(sum, durations.values())) / (runs * devices)
    times.append(ScopeTime(scope=scope, direction=direction, seconds=seconds, opcodes=opcodes))
  return sorted(times, key=lambda time: -time.seconds)


def module_of(scope: str) -> tuple[str, str]:
  """(module path, direction) of an operation's scope: 'jit(f)/transpose(jvp(Net))/conv_0/add' is in Net/conv_0."""
  names, backward = [], "transpose(" in scope
  for part in scope.split("/")[:-1]:  # The last part is the primitive.
    inner = re.sub(r"^(?:(?:transpose|jvp|vmap)\()+|\)+$", "", part)
    # Flax names a method after its module: 'Net.decode', 'unit_0.step'.
    name = inner.partition(".")[0]
    if name and name not in names[-1:] and not _NOT_MODULES.fullmatch(name):
      names.append(name)
  return "/".join(names), "backward" if backward else "forward"


def _operations(folder: Path) -> Iterable[tuple[str, float]]:
  """(instruction, seconds) of everything that the devices ran."""
  for path in folder.rglob("*.xplane.pb"):
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
      for line in plane.lines:
        for event in line.events:
          stats = dict(event.stats)
          if "hlo_op" in stats:
            yield str(stats["hlo_op"]), event.duration_ns / 1e9


def profile_figures(times: list[ScopeTime], *, count: int) -> list[Measurement]:
  """The `count` longest times in ms with their share of all, and the others together."""
  total = sum(time.seconds for time in times)
  figures = []
  for time in times[:count]:
    opcodes = ", ".join(f"{runs:.3g} {opcode}" for opcode, runs in list(time.opcodes.items())[:3])
    # Operations outside of modules: losses, metrics, optimizers, the EMA.
    name = f"{time.scope or 'outside of modules'}, {time.direction}"
    figures.append(
      Measurement(name=name, value=1e3 * time.seconds, unit="ms", note=_share(time.seconds, total, opcodes))
    )
  rest = total - sum(time.seconds for time in times[:count])
  if len(times) > count:
    note = _share(rest, total, f"{len(times) - count} modules and directions")
    figures.append(Measurement(name="all others", value=1e3 * rest, unit="ms", note=note))
  return figures


def _share(seconds: float, total: float, text: str) -> str:
  return f"{100 * seconds / total:.1f} %: {text}"
