"""An interpreter of pickles that can build plain containers and nothing else.

Unpickling calls whatever a file names. Here the opcodes are taken apart by `pickletools` (which executes nothing) and
carried out for numbers, strings, tuples, lists and dictionaries; every name goes through a table that the caller gives.
"""

import pickletools
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO


class PickleContentError(ValueError):
  """A pickle that is damaged, or holds what may not be built; the message says which, in one line."""


class ForeignNameError(PickleContentError):
  """A pickle that names a function or class outside of the table.

  Attributes:
    name: dotted.
  """

  def __init__(self, name: str):
    # A name is whatever the file says, and the message must stay one short line.
    self.name = " ".join(name.split())[:80]
    super().__init__(f"it names `{self.name}`")


class PlainObject(dict):
  """What an instance of an unknown but harmless class becomes: its attributes by name."""


def load_pickle(file: BinaryIO, *, find_name: Callable[[str], Any], find_persistent: Callable[[Any], Any]) -> Any:
  """Reads one pickle, up to its end; what follows in the file is left unread.

  Args:
    file: at the start of the pickle.
    find_name: gives what stands for a dotted name: a function that the pickle may call, `PlainObject` for a class of
      which only the attributes matter, or any other constant; raises ForeignNameError.
    find_persistent: gives the object of a persistent id.

  Returns:
    The object.

  Raises:
    PickleContentError: if the pickle is damaged or holds anything else.
  """
  machine = _Machine(find_name, find_persistent)
  try:
    # A backslash in a name is a matter of warning for Python, but no writer makes one.
    with warnings.catch_warnings(action="error"):
      for opcode, argument, _ in pickletools.genops(file):
        machine.run(opcode.name, argument)
    return machine.result()
  except PickleContentError:
    raise
  except (Warning, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
    raise PickleContentError(f"it is damaged ({type(error).__name__})") from error


_MARK = object()

_VALUES = frozenset(
  {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
  }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})


class _Machine:
  """The stack and the memo of a pickle that is being read."""

  def __init__(self, find_name: Callable[[str], Any], find_persistent: Callable[[Any], Any]):
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}
    self._find_name = find_name
    self._find_persistent = find_persistent

  def result(self) -> Any:
    """What is left on the stack."""
    (value,) = self._stack
    return value

  def run(self, name: str, argument: Any) -> None:
    """Carries out one opcode, by pickletools' name of it."""
    if name in _IGNORED:
      return
    if name in _VALUES:
      self._stack.append(argument)
    elif name in _CONSTANTS:
      self._stack.append(_CONSTANTS[name])
    elif name in _TUPLES:
      self._stack.append(tuple(self._pop_many(_TUPLES[name])))
    elif name in _OPERATIONS:
      _OPERATIONS[name](self, argument)
    else:
      raise PickleContentError(f"it holds more than plain containers (opcode {name})")

  def _pop_many(self, count: int) -> list[Any]:
    if count > len(self._stack):
      raise IndexError
    values = self._stack[len(self._stack) - count :]
    del self._stack[len(self._stack) - count :]
    return values

  def _pop_to_mark(self) -> list[Any]:
    values = []
    # An empty stack ends the search with an IndexError.
    while (value := self._stack.pop()) is not _MARK:
      values.append(value)
    return values[::-1]

  def mark(self, _: None) -> None:
    self._stack.append(_MARK)

  def pop(self, _: None) -> None:
    self._stack.pop()

  def pop_mark(self, _: None) -> None:
    self._pop_to_mark()

  def duplicate(self, _: None) -> None:
    self._stack.append(self._stack[-1])

  def make_tuple(self, _: None) -> None:
    self._stack.append(tuple(self._pop_to_mark()))

  def make_list(self, _: None) -> None:
    self._stack.append(self._pop_to_mark())

  def empty_list(self, _: None) -> None:
    self._stack.append([])

  def append(self, _: None) -> None:
    self._extend(self._pop_many(1))

  def appends(self, _: None) -> None:
    self._extend(self._pop_to_mark())

  def _extend(self, values: list[Any]) -> None:
    target = self._stack[-1]
    if type(target) is not list:
      raise TypeError
    target.extend(values)

  def make_dict(self, _: None) -> None:
    values = self._pop_to_mark()
    self._stack.append({})
    self._update(values)

  def empty_dict(self, _: None) -> None:
    self._stack.append({})

  def set_item(self, _: None) -> None:
    self._update(self._pop_many(2))

  def set_items(self, _: None) -> None:
    self._update(self._pop_to_mark())

  def _update(self, values: list[Any]) -> None:
    target = self._stack[-1]
    if not isinstance(target, dict):
      raise TypeError
    for name, value in zip(values[::2], values[1::2], strict=True):
      # The hash of nested tuples can take for ever.
      if not isinstance(name, str | int | float | bytes | None):
        raise PickleContentError("a key is neither a string nor a number")
      target[name] = value

  def put(self, index: int) -> None:
    self._memo[index] = self._stack[-1]

  def memoize(self, _: None) -> None:
    self._memo[len(self._memo)] = self._stack[-1]

  def get(self, index: int) -> None:
    self._stack.append(self._memo[index])

  def name(self, argument: str) -> None:
    self._stack.append(self._find_name(argument.replace(" ", ".")))

  def stack_name(self, _: None) -> None:
    self._stack.append(self._find_name(".".join(self._pop_many(2))))

  def persistent(self, _: None) -> None:
    self._stack.append(self._find_persistent(self._stack.pop()))

  def call(self, _: None) -> None:
    function, arguments = self._pop_many(2)
    # No classes: a dictionary of nested tuples could be had by calling `PlainObject`.
    if not isinstance(function, types.FunctionType) or type(arguments) is not tuple:
      raise TypeError
    self._stack.append(function(*arguments))

  def new_object(self, _: None) -> None:
    kind, arguments = self._pop_many(2)
    if kind is not PlainObject or arguments != ():
      raise TypeError
    self._stack.append(PlainObject())

  def set_state(self, _: None) -> None:
    state = self._stack.pop()
    target = self._stack[-1]
    # The state of an ordered dictionary are attributes such as `_metadata`, the versions of a state dict's modules.
    if isinstance(target, PlainObject) and isinstance(state, Mapping):
      self._update([x for item in state.items() for x in item])
    elif not isinstance(target, dict):
      raise TypeError


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
  "MARK": _Machine.mark,
  "POP": _Machine.pop,
  "POP_MARK": _Machine.pop_mark,
  "DUP": _Machine.duplicate,
  "TUPLE": _Machine.make_tuple,
  "LIST": _Machine.make_list,
  "EMPTY_LIST": _Machine.empty_list,
  "APPEND": _Machine.append,
  "APPENDS": _Machine.appends,
  "DICT": _Machine.make_dict,
  "EMPTY_DICT": _Machine.empty_dict,
  "SETITEM": _Machine.set_item,
  "SETITEMS": _Machine.set_items,
  "PUT": _Machine.put,
  "BINPUT": _Machine.put,
  "LONG_BINPUT": _Machine.put,
  "MEMOIZE": _Machine.memoize,
  "GET": _Machine.get,
  "BINGET": _Machine.get,
  "LONG_BINGET": _Machine.get,
  "GLOBAL": _Machine.name,
  "STACK_GLOBAL": _Machine.stack_name,
  "BINPERSID": _Machine.persistent,
  "REDUCE": _Machine.call,
  "NEWOBJ": _Machine.new_object,
  "BUILD": _Machine.set_state,
}
