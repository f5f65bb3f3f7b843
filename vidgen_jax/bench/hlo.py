"""Parses the text of compiled programs: the arrays that collectives move, and how often."""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
  "send",
)
"""Instructions that exchange arrays between devices; `recv` is the other end of `send`."""

_GATHERS = ("all-gather", "collective-broadcast")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .+ \{$")
# Name, type, opcode, arguments and attributes.
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\((.*?)\)((?:, [\w\-]+=.*)?)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
# The condition of a loop is left out: it contains no collectives.
_CALLS = re.compile(r"\b(?:calls|to_apply|body|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# Maximal number of unnamed instructions between a collective and the instruction that names it.
_MAX_DISTANCE = 4


@dataclass(frozen=True, kw_only=True)
class Array:
  """Type and per-device shape of an array in a compiled program."""

  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Size in bytes."""
    bits = 8 if self.dtype == "pred" else int("".join(re.findall(r"\d+", self.dtype)[:1]))
    return math.prod(self.shape) * bits // 8


@dataclass(frozen=True, kw_only=True)
class Payload:
  """One array that a collective moves.

  Attributes:
    kind: one of `KINDS`.
    array: whole array: the operand, or the result of an all-gather.
    times: how often the program runs the instruction.
    group: number of participating devices; None if the program does not state it.
    scope: operation that made the array, as JAX named it: 'jit(train_step)/jvp(Generator)/...'. If XLA dropped the
      name, all operations fused in it or right before it; '' if there are none.
    wanted_by: operations that use the array next, found in the same way.
    serves: operation that the collective was created for; one of them if XLA combined several collectives.
    is_first: whether it is its collective's first array; one collective may move many.
  """

  kind: str
  array: Array
  times: int
  group: int | None
  scope: str
  wanted_by: str
  serves: str
  is_first: bool = True

  @property
  def bytes(self) -> int:
    """Bytes of all runs. A link may carry more, depending on the algorithm: a ring all-reduce sends twice as much."""
    return self.times * self.array.size


@dataclass(frozen=True)
class _Instruction:
  is_root: bool
  name: str
  type: str
  opcode: str
  arguments: str
  attributes: str

  @property
  def operands(self) -> list[str]:
    named = re.findall(r"%([\w.\-]+)", self.arguments)
    return named or [word.split()[-1] for word in self.arguments.split(", ") if word]

  @property
  def scope(self) -> str:
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found.group(1) if found else ""

  @property
  def arrays(self) -> list[Array]:
    return [
      Array(dtype=dtype, shape=tuple(int(length) for length in shape.split(",") if length))
      for dtype, shape in _ARRAY.findall(self.type)
    ]

  @property
  def called(self) -> list[str]:
    names = re.findall(r"[\w.\-]+", " ".join(_CALLS.findall(self.attributes)))
    return list(dict.fromkeys(names))

  @property
  def index(self) -> int | None:
    found = re.search(r"\bindex=(\d+)", self.attributes)
    return int(found.group(1)) if found else None


_Computation = dict[str, _Instruction]


def payloads(text: str) -> list[Payload]:
  """The arrays that a compiled program's collectives move, on every device, in program order.

  Loops count by their number of iterations, conditionals as if all branches ran. Collectives of one device are skipped.
  `text` is the optimised program, `compiled.as_text()`.

  Raises:
    ValueError: if the text is not a program, or the number of iterations of a loop with collectives is unknown.
  """
  program = _Program(text)
  if not program.entry:
    raise ValueError("this text has no ENTRY computation; give `compiled.as_text()`")
  return list(program.payloads(program.entry))


def scopes(text: str) -> dict[str, tuple[str, str]]:
  """(opcode, scope) of each instruction of a compiled program, by its name; of several scopes the first."""
  return {name: (opcode, scope.partition(" ")[0]) for name, opcode, scope in _Program(text).scopes()}


class _Program:
  def __init__(self, text: str) -> None:
    self.entry = ""
    self._computations: dict[str, _Computation] = {}
    current: _Computation = {}
    for line in text.splitlines():
      if header := _COMPUTATION.match(line):
        current = self._computations[header.group(2)] = {}
        self.entry = header.group(2) if header.group(1) else self.entry
      elif found := _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line)):
        current[found.group(2)] = _Instruction(bool(found.group(1)), *found.groups()[1:])

  def scopes(self) -> Iterator[tuple[str, str, str]]:
    """(name, opcode, scopes) of each instruction of all computations."""
    for computation in self._computations.values():
      for name, instruction in computation.items():
        operands = functools.partial(_operands, computation)
        yield name, instruction.opcode, self._nearest_scopes([instruction], operands)

  def payloads(self, name: str) -> Iterator[Payload]:
    """The payloads of one run of a computation."""
    computation = self._computations.get(name, {})
    users = collections.defaultdict(list)
    for user in computation.values():
      for operand in user.operands:
        users[operand].append(user)
    for instruction in computation.values():
      if instruction.opcode.removesuffix("-start") in KINDS and _group(instruction.attributes) != 1:
        yield from self._moved(computation, instruction, users)
      if instruction.opcode.endswith(("-done", "-update")):
        continue
      for called in instruction.called:
        inside = list(self.payloads(called))
        trips = self._trips(computation, instruction) if inside else 1
        yield from (dataclasses.replace(payload, times=payload.times * trips) for payload in inside)

  def _moved(
    self, computation: _Computation, instruction: _Instruction, users: Mapping[str, list[_Instruction]]
  ) -> Iterator[Payload]:
    kind = instruction.opcode.removesuffix("-start")
    operands = [computation.get(name) for name in instruction.operands]
    if kind in _GATHERS:
      # The result of the asynchronous form is (operands, results).
      arrays = instruction.arrays[-len(operands) :]
    else:
      arrays = [operand.arrays[0] for operand in operands if operand is not None]
    for i, (operand, array) in enumerate(zip(operands, arrays, strict=False)):
      using = users[instruction.name]
      if instruction.type.startswith("("):
        using = [user for user in using if user.opcode != "get-tuple-element" or user.index == i]
      making = [operand] if operand is not None else []
      yield Payload(
        kind=kind,
        array=array,
        times=1,
        group=_group(instruction.attributes),
        scope=self._nearest_scopes(making, functools.partial(_operands, computation)),
        wanted_by=self._nearest_scopes(using, lambda x: users[x.name]),
        serves=instruction.scope,
        is_first=i == 0,
      )

  def _nearest_scopes(self, found: list[_Instruction], neighbours: Callable[[_Instruction], list[_Instruction]]) -> str:
    """The scopes of instructions and of their fused instructions, or of the nearest neighbours that have one; or ''."""
    for _ in range(_MAX_DISTANCE):
      scopes = [instruction.scope for instruction in found]
      for instruction in found:
        for called in instruction.called if instruction.opcode == "fusion" else ():
          scopes += [fused.scope for fused in self._computations.get(called, {}).values()]
      if any(scopes):
        return " ".join(dict.fromkeys(scope for scope in scopes if scope))
      found = [neighbour for instruction in found for neighbour in neighbours(instruction)]
    return ""

  def _trips(self, computation: _Computation, instruction: _Instruction) -> int:
    """Iterations of a loop: as stated by XLA, or from a condition `i < constant`; 1 for any other instruction."""
    if instruction.opcode != "while":
      return 1
    if known := _KNOWN_TRIPS.search(instruction.attributes):
      return int(known.group(1))
    (name,) = re.findall(r"condition=%?([\w.\-]+)", instruction.attributes)
    condition = self._computations[name]
    test = next(inside for inside in condition.values() if inside.is_root)
    limits = [condition[name] for name in test.operands if condition[name].opcode == "constant"]
    if test.opcode == "compare" and "direction=LT" in test.attributes and len(limits) == 1:
      counter = next(condition[name] for name in test.operands if condition[name].opcode != "constant")
      if _start(computation, instruction, counter) == 0:
        return int(limits[0].arguments)
    raise ValueError(f"the loop {instruction.name} contains collectives, but its number of iterations is unknown")


def _operands(computation: _Computation, instruction: _Instruction) -> list[_Instruction]:
  return [computation[name] for name in instruction.operands if name in computation]


def _start(computation: _Computation, loop: _Instruction, counter: _Instruction) -> int | None:
  """The first value of a loop's counter, an element of the loop's operand."""
  initial = computation[loop.operands[0]]
  if counter.index is None or initial.opcode != "tuple":
    return None
  first = computation[initial.operands[counter.index]]
  while first.opcode == "copy":
    first = computation[first.operands[0]]
  return int(first.arguments) if first.opcode == "constant" else None


def _group(attributes: str) -> int | None:
  """Number of devices in a group of a collective, in any of XLA's notations; None if all participate."""
  if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
    return len(found.group(1).split(","))
  if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
    return int(found.group(1))
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"('\w+')=(\d+)", found.group(1)))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'\w+'", found.group(2)))
  return None
