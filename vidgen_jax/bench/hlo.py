"""Reading compiled programs: which arrays collectives move, and how often."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
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
"""Instructions by which devices exchange arrays; `recv` is the other end of `send`. Forms with -start count once."""

_GATHERS = ("all-gather", "collective-broadcast")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .+ \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_CALLS = re.compile(r"\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_CALL_LISTS = re.compile(r"\b(?:calls|called_computations|branch_computations)=\{([^}]*)\}")
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_BITS = re.compile(r"\d+")
# How many instructions without a name lie at most between a collective and what it serves.
_NEAR = 4


@dataclass(frozen=True, kw_only=True)
class Array:
  """Type and shape of an array in a compiled program, as one device holds it."""

  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Bytes."""
    bits = 8 if self.dtype == "pred" else int(_BITS.search(self.dtype).group())
    return math.prod(self.shape) * bits // 8


@dataclass(frozen=True, kw_only=True)
class Payload:
  """One array that a collective moves.

  Attributes:
    kind: one of `KINDS`.
    array: as large as it is whole: the operand, and of an all-gather the result.
    times: how often the program runs the instruction.
    group: how many devices take part; None where the program does not tell.
    scope: the operation that made the array, as JAX named it: 'jit(train_step)/jvp(Generator)/...'; where XLA forgot
      that, all that are fused in it or just before it; '' if none is near.
    wanted_by: likewise the operations that use the array next.
    serves: the operation that the collective was made for; of several collectives put together, one of them.
    is_first: whether it is its collective's first; one collective may move many arrays.
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
    """Bytes of all runs. What a link carries depends on the algorithm; a ring's all-reduce sends twice as much."""
    return self.times * self.array.size


@dataclass(frozen=True)
class _Instruction:
  name: str
  type: str
  opcode: str
  operands: tuple[str, ...]
  arguments: str
  attributes: str
  is_root: bool

  @property
  def scope(self) -> str:
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found.group(1) if found else ""

  @property
  def arrays(self) -> list[Array]:
    return _arrays(self.type)


_Computation = Mapping[str, _Instruction]
_Users = Mapping[str, list[_Instruction]]


def payloads(text: str) -> list[Payload]:
  """The arrays that a compiled program's collectives move, on every device.

  Loops count as often as they run, branches as if all were taken. Collectives among one device are left out.

  Args:
    text: of the optimised program, `compiled.as_text()`.

  Returns:
    One for each operand of each collective, in the order of the program.

  Raises:
    ValueError: if the text is no program, or a loop with a collective inside runs nobody knows how often.
  """
  computations, entry = _read(text)
  if entry is None:
    raise ValueError("this text has no ENTRY computation; give `compiled.as_text()`")
  return list(_walk(computations, entry, 1))


def _read(text: str) -> tuple[dict[str, _Computation], str | None]:
  computations, entry, current = {}, None, {}
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations[header.group(2)] = {}
      entry = header.group(2) if header.group(1) else entry
    elif found := _INSTRUCTION.match(line):
      current[found.group(2)] = _instruction(found.group(2), found.group(3), is_root=bool(found.group(1)))
  return computations, entry


def _instruction(name: str, text: str, *, is_root: bool) -> _Instruction:
  text = re.sub(r"/\*.*?\*/", "", text)
  end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
  rest = text[end:].lstrip()
  start = rest.index("(")
  stop = _closing(rest, start)
  arguments = rest[start + 1 : stop]
  operands = tuple(re.findall(r"%([\w.\-]+)", arguments)) or tuple(
    word.split()[-1] for word in arguments.split(", ") if word
  )
  return _Instruction(name, text[:end], rest[:start], operands, arguments, rest[stop + 1 :], is_root)


def _closing(text: str, start: int) -> int:
  """Where the bracket that opens at `start` closes."""
  depth = 0
  for place in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[place], 0)
    if depth == 0:
      return place
  raise ValueError(f"a bracket is not closed: {text[:80]}")


def _arrays(text: str) -> list[Array]:
  return [
    Array(dtype=dtype, shape=tuple(int(length) for length in shape.split(",") if length))
    for dtype, shape in _ARRAY.findall(text)
  ]


def _walk(computations: Mapping[str, _Computation], name: str, times: int) -> Iterator[Payload]:
  computation, users = computations[name], None
  for instruction in computation.values():
    kind = instruction.opcode.removesuffix("-start")
    if kind in KINDS:
      group = _group(instruction.attributes)
      if group != 1:
        users = users or _users(computation)
        yield from _moved(computations, computation, instruction, kind, users, times, group)
    if instruction.opcode.endswith(("-done", "-update")):
      continue
    for called in _called(instruction):
      inside = list(_walk(computations, called, 1)) if called in computations else []
      runs = times * _trips(computations, computation, instruction) if inside else times
      for payload in inside:
        yield dataclasses.replace(payload, times=payload.times * runs)


def _called(instruction: _Instruction) -> list[str]:
  """The computations that an instruction runs; conditions of loops move nothing."""
  lists = (name for found in _CALL_LISTS.findall(instruction.attributes) for name in found.split(","))
  names = [*_CALLS.findall(instruction.attributes), *(name.strip().lstrip("%") for name in lists)]
  return list(dict.fromkeys(name for name in names if name))


def _trips(computations: Mapping[str, _Computation], computation: _Computation, instruction: _Instruction) -> int:
  """How often a loop runs: told by XLA, or read off a condition `i < constant`; 1 for anything but a loop."""
  if instruction.opcode != "while":
    return 1
  if known := _KNOWN_TRIPS.search(instruction.attributes):
    return int(known.group(1))
  condition = computations[re.search(r"condition=%?([\w.\-]+)", instruction.attributes).group(1)]
  test = next(inside for inside in condition.values() if inside.is_root)
  limits = [condition[name] for name in test.operands if condition[name].opcode == "constant"]
  if test.opcode == "compare" and "direction=LT" in test.attributes and len(limits) == 1:
    counter = next(condition[name] for name in test.operands if condition[name].opcode != "constant")
    if _start(computation, instruction, counter) == 0:
      return int(limits[0].arguments)
  raise ValueError(f"the loop {instruction.name} holds collectives, and how often it runs is not known")


def _start(computation: _Computation, loop: _Instruction, counter: _Instruction) -> int | None:
  """The first value of a loop's counter, an element of the tuple that the loop is given."""
  index, conditioning = _index(counter), computation[loop.operands[0]]
  if index is None or conditioning.opcode != "tuple":
    return None
  first = computation[conditioning.operands[index]]
  while first.opcode == "copy":
    first = computation[first.operands[0]]
  return int(first.arguments) if first.opcode == "constant" else None


def _moved(
  computations: Mapping[str, _Computation],
  computation: _Computation,
  instruction: _Instruction,
  kind: str,
  users: _Users,
  times: int,
  group: int | None,
) -> Iterator[Payload]:
  operands = [computation.get(name) for name in instruction.operands]
  results = instruction.arrays
  if kind in _GATHERS:
    # The asynchronous form gives operands and results.
    arrays = results[-len(operands) :]
  else:
    arrays = [found.arrays[0] for found in operands if found is not None]
  for i, (operand, array) in enumerate(zip(operands, arrays, strict=False)):
    yield Payload(
      kind=kind,
      array=array,
      times=times,
      group=group,
      scope=_origin(computations, computation, operand) if operand is not None else "",
      wanted_by=_use(computations, instruction, users, i),
      serves=instruction.scope,
      is_first=i == 0,
    )


def _origin(computations: Mapping[str, _Computation], computation: _Computation, made: _Instruction) -> str:
  """The scope of an instruction, of what is fused in it, or of the nearest before it; '' if none is near."""
  found = [made]
  for _ in range(_NEAR):
    if scopes := _scopes(computations, found):
      return scopes
    found = [computation[name] for instruction in found for name in instruction.operands if name in computation]
  return ""


def _use(computations: Mapping[str, _Computation], instruction: _Instruction, users: _Users, index: int) -> str:
  """The scopes of the first instructions with any that use the array at `index` of a result; '' if none is near."""
  found = users[instruction.name]
  if instruction.type.startswith("("):
    found = [part for part in found if part.opcode != "get-tuple-element" or _index(part) == index]
  for _ in range(_NEAR):
    if scopes := _scopes(computations, found):
      return scopes
    found = [user for instruction in found for user in users[instruction.name]]
  return ""


def _users(computation: _Computation) -> _Users:
  """The instructions that take each result of a computation, by its name."""
  users = collections.defaultdict(list)
  for instruction in computation.values():
    for name in instruction.operands:
      users[name].append(instruction)
  return users


def _scopes(computations: Mapping[str, _Computation], instructions: Sequence[_Instruction]) -> str:
  """All scopes of some instructions and of what is fused in them, one after the other."""
  scopes = [instruction.scope for instruction in instructions]
  for instruction in instructions:
    for called in _called(instruction) if instruction.opcode == "fusion" else ():
      scopes += [fused.scope for fused in computations.get(called, {}).values()]
  return " ".join(dict.fromkeys(scope for scope in scopes if scope))


def _index(instruction: _Instruction) -> int | None:
  """Which element of a tuple an instruction takes."""
  found = re.search(r"\bindex=(\d+)", instruction.attributes)
  return int(found.group(1)) if found else None


def _group(attributes: str) -> int | None:
  """Devices in a group of a collective, in any of XLA's forms of writing groups; None where all take part."""
  if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
    return len(found.group(1).split(","))
  if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
    return int(found.group(1))
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
    sizes = dict(re.findall(r"('\w+')=(\d+)", found.group(1)))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'\w+'", found.group(2)))
  return None
