"""Counts the FLOPs that a loss and its gradient need, from the shapes of its layers.

Only convolutions and matrix products count, with two FLOPs per multiply-add. Everything else (activations,
normalisation, optimizers) is left out, so the counts are lower bounds of what a program executes. Products with the
zeros of a convolution's padding do not count, as in XLA's cost analysis, which makes the two comparable.

The cost of the gradient follows from reverse mode: a product f(a, b) on the path to the loss costs its FLOPs once more
for each operand that depends on the differentiated parameters. So a discriminator update does not pay for the
generator's backward pass nor for the gradient with respect to the discriminators' input, and a generator update pays
for the gradient of the discriminators' inputs but not of their kernels. The count uses the forward program alone, not
JAX's differentiation, and can therefore verify the latter. The forward program of a loss that differentiates, such as a
gradient penalty, contains its inner backward pass, which counts like any other product. Recomputed activations
(rematerialisation) do not count: they are not needed.

Of a branch by platform (`lax.platform_dependent`), the default backend's side counts, or that of `on_backend`; of a
branch by value, the most expensive side.
"""

import collections
import contextlib
import contextvars
import enum
import functools
import math
import operator
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex_core

Jaxpr = jex_core.Jaxpr

Direction = Literal["forward", "backward"]

_STOP_GRADIENT = "stop_gradient"
# Parameters of a call that contain the called program, whose inputs are the call's inputs, in order.
_CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")

# Names of a backend's platforms in programs, if they differ from the backend's name.
_LOWERED_AS = {"gpu": {"cuda", "rocm"}}

_BACKEND: contextvars.ContextVar[str | None] = contextvars.ContextVar("backend", default=None)


@contextlib.contextmanager
def on_backend(name: str) -> Generator[None]:
  """Counts for another backend than this machine's default: 'cpu', 'gpu' or 'tpu'."""
  token = _BACKEND.set(name)
  try:
    yield
  finally:
    _BACKEND.reset(token)


@dataclass(frozen=True, kw_only=True, order=True)
class Part:
  """One kind of work in a loss and its gradient.

  Attributes:
    network: class of the outermost module; '' outside of modules.
    direction: 'forward', or 'backward' for gradients.
    on: 'clips' if it depends on the batch or the latents, otherwise 'weights': power iterations and penalties on
      weights, and the start of a gradient penalty's backward pass, which has a constant one per clip.
  """

  network: str
  direction: Direction
  on: Literal["clips", "weights"]


Parts = Mapping[Part, int]
"""FLOPs by kind of work."""


class _Depends(enum.IntFlag):
  NOTHING = 0
  PARAMS = 1
  DATA = 2


def product_flops(equation: jex_core.JaxprEqn) -> int:
  """FLOPs of one convolution or matrix product; 0 for any other equation."""
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    lhs, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
  return _convolution_flops(equation) if equation.primitive.name == "conv_general_dilated" else 0


def _shape(atom: Any) -> tuple[int, ...]:
  return atom.aval.shape


def _convolution_flops(equation: jex_core.JaxprEqn) -> int:
  p = equation.params
  lhs_spec, rhs_spec, out_spec = p["dimension_numbers"]
  lhs, rhs = map(_shape, equation.invars)
  out = _shape(equation.outvars[0])
  taps = 1
  for i in range(len(lhs) - 2):
    first = np.arange(out[out_spec[2 + i]])[:, None] * p["window_strides"][i] - p["padding"][i][0]
    index = first + np.arange(rhs[rhs_spec[2 + i]]) * p["rhs_dilation"][i]
    # Taps on padding, or on a hole of dilation, do not count.
    size, dilation = lhs[lhs_spec[2 + i]], p["lhs_dilation"][i]
    taps *= int(np.sum((index >= 0) & (index <= (size - 1) * dilation) & (index % dilation == 0)))
  # The kernel's second axis contains the input features of one group.
  return 2 * out[out_spec[0]] * out[out_spec[1]] * rhs[rhs_spec[1]] * taps


def traced_flops(jaxpr: Jaxpr) -> int:
  """FLOPs of all products in a traced program, including its gradients and all iterations of its loops.

  Raises ValueError if a while loop contains products.
  """
  total = 0
  for equation in jaxpr.eqns:
    inner = [traced_flops(sub) for sub in _subjaxprs(equation)]
    name = equation.primitive.name
    if name == "while" and any(inner):
      raise ValueError("cannot count FLOPs inside a while loop: its number of iterations is unknown; use a scan")
    total += product_flops(equation) + _trips(equation) * (max(inner, default=0) if name == "cond" else sum(inner))
  return total


def loops_over_products(jaxpr: Jaxpr) -> bool:
  """Whether a loop of several iterations contains a product; XLA's cost analysis counts one iteration."""
  return any(
    (_trips(equation) > 1 and traced_flops(sub) > 0) or loops_over_products(sub)
    for equation in jaxpr.eqns
    for sub in _subjaxprs(equation)
  )


def _trips(equation: jex_core.JaxprEqn) -> int:
  return equation.params["length"] if equation.primitive.name == "scan" else 1


def _subjaxprs(equation: jex_core.JaxprEqn) -> Iterator[Jaxpr]:
  """The programs in an equation that may run on this platform."""
  platforms = equation.params.get("branches_platforms")
  if platforms is not None:
    yield equation.params["branches"][_branch_taken(platforms)].jaxpr
    return
  for value in equation.params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(item, jex_core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, Jaxpr):
        yield item


def _branch_taken(platforms: Sequence[tuple[str, ...] | None]) -> int:
  """Index of the branch of a `lax.platform_dependent` that the backend runs; None stands for all other platforms."""
  backend = _BACKEND.get() or jax.default_backend()
  names = _LOWERED_AS.get(backend, {backend})
  return next(index for index, branch in enumerate(platforms) if branch is None or names & set(branch))


def gradient_flops(function: Callable, params: Any, constants: Any, data: Any) -> Parts:
  """FLOPs that a loss and its gradient need, by kind of work; ValueError if a while loop contains products.

  The forward pass computes all outputs, the backward pass starts at the loss alone.

  Args:
    function: (params, constants, data) -> (loss, other outputs).
    params: pytree of arrays or ShapeDtypeStructs that are differentiated.
    constants: pytree of weights that are used but not differentiated.
    data: pytree of clips, labels and random keys.
  """
  closed = jax.make_jaxpr(function)(params, constants, data)
  tags = []
  for tag, argument in ((_Depends.PARAMS, params), (_Depends.NOTHING, constants), (_Depends.DATA, data)):
    tags += [tag] * len(jax.tree.leaves(argument))
  outputs = len(closed.jaxpr.outvars)
  counts: collections.Counter[Part] = collections.Counter()
  for direction, wanted in (("forward", [True] * outputs), ("backward", [True] + [False] * (outputs - 1))):
    counter = _Counter(direction)
    counter.visit(closed.jaxpr, tags, wanted, "", 1)
    counts.update(counter.counts)
  return dict(counts)


def _needs(jaxpr: Jaxpr, wanted: Sequence[bool], direction: Direction) -> tuple[list[bool], list[list[bool]]]:
  """Inputs that the wanted outputs (backward: their gradients) depend on, and needed outputs of every equation."""
  needed = {variable for variable, want in zip(jaxpr.outvars, wanted, strict=True) if want and _is_variable(variable)}
  by_equation = []
  for equation in reversed(jaxpr.eqns):
    outputs = [variable in needed for variable in equation.outvars]
    by_equation.append(outputs)
    if any(outputs):
      inputs = zip(equation.invars, _needed_inputs(equation, outputs, direction), strict=True)
      needed.update(variable for variable, need in inputs if need and _is_variable(variable))
  return [variable in needed for variable in jaxpr.invars], by_equation[::-1]


def _needed_inputs(equation: jex_core.JaxprEqn, outputs: Sequence[bool], direction: Direction) -> list[bool]:
  kind = _kind(equation)
  if kind == "call":
    return _needs(next(_subjaxprs(equation)), outputs, direction)[0]
  if kind == "branches":
    branches = [_needs(sub, outputs, direction)[0] for sub in _subjaxprs(equation)]
    return [True, *(any(needs) for needs in zip(*branches, strict=True))]
  if kind == "scan":
    return _needs(next(_subjaxprs(equation)), _wanted_of_body(equation, outputs, direction), direction)[0]
  stops = direction == "backward" and equation.primitive.name == _STOP_GRADIENT
  return [not stops] * len(equation.invars)


def _wanted_of_body(scan: jex_core.JaxprEqn, outputs: Sequence[bool], direction: Direction) -> list[bool]:
  """Needed outputs of a loop's body; a carry may be needed by the next iteration only."""
  consts, carry = _constants_and_carry(scan)
  wanted, before = list(outputs), None
  while wanted != before:
    before = list(wanted)
    inputs = _needs(next(_subjaxprs(scan)), wanted, direction)[0]
    wanted[:carry] = [a or b for a, b in zip(wanted[:carry], inputs[consts : consts + carry], strict=True)]
  return wanted


def _constants_and_carry(scan: jex_core.JaxprEqn) -> tuple[int, int]:
  """Numbers of constant inputs and of carries of a scan."""
  # JAX's parameters for these numbers differ between versions, so ranks are compared: scanned inputs and collected
  # outputs have one axis more outside of the body.
  body = next(_subjaxprs(scan))

  def num_stacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    return sum(out.aval.ndim > within.aval.ndim for out, within in zip(outside, inside, strict=True))

  carry = len(scan.outvars) - num_stacked(scan.outvars, body.outvars)
  return len(scan.invars) - num_stacked(scan.invars, body.invars) - carry, carry


class _Counter:
  """Propagates the dependences of values, and counts the needed products in one direction."""

  def __init__(self, direction: Direction) -> None:
    self._direction = direction
    self.counts: collections.Counter[Part] = collections.Counter()

  def visit(
    self, jaxpr: Jaxpr, tags: Sequence[_Depends], wanted: Sequence[bool], network: str, trips: int
  ) -> list[_Depends]:
    """Counts a program that `network` calls ('' outside of modules) and that runs `trips` times.

    `tags` are the dependences of its inputs, `wanted` says whether each output is needed. Returns the dependences of
    its outputs; 0 trips only propagate them.
    """
    known = dict(zip(jaxpr.invars, tags, strict=True))

    def of(variable: Any) -> _Depends:
      return known.get(variable, _Depends.NOTHING) if _is_variable(variable) else _Depends.NOTHING

    for equation, outputs in zip(jaxpr.eqns, _needs(jaxpr, wanted, self._direction)[1], strict=True):
      inputs = [of(variable) for variable in equation.invars]
      inside, runs = network or _outermost_scope(equation), trips if any(outputs) else 0
      self._count(equation, inputs, inside, runs)
      known.update(zip(equation.outvars, self._through(equation, inputs, outputs, inside, runs), strict=True))
    return [of(variable) for variable in jaxpr.outvars]

  def _count(self, equation: jex_core.JaxprEqn, inputs: list[_Depends], network: str, trips: int) -> None:
    flops = trips * product_flops(equation)
    if self._direction == "backward":
      flops *= sum(bool(tag & _Depends.PARAMS) for tag in inputs)
    if flops:
      on = "clips" if any(tag & _Depends.DATA for tag in inputs) else "weights"
      self.counts[Part(network=network, direction=self._direction, on=on)] += flops

  def _through(
    self, equation: jex_core.JaxprEqn, inputs: list[_Depends], outputs: list[bool], network: str, trips: int
  ) -> list[_Depends]:
    kind = _kind(equation)
    if kind == "call":
      return self.visit(next(_subjaxprs(equation)), inputs, outputs, network, trips)
    if kind == "branches":
      return self._through_branches(equation, inputs, outputs, network, trips)
    if kind == "scan":
      return self._through_scan(equation, inputs, outputs, network, trips)
    union = _union(inputs)
    if equation.primitive.name == _STOP_GRADIENT:
      union &= ~_Depends.PARAMS
    avals: list[Any] = [variable.aval for variable in equation.outvars]
    return [union if jnp.issubdtype(aval.dtype, jnp.inexact) else union & ~_Depends.PARAMS for aval in avals]

  def _through_branches(
    self, equation: jex_core.JaxprEqn, inputs: list[_Depends], outputs: list[bool], network: str, trips: int
  ) -> list[_Depends]:
    """Counts the most expensive branch."""
    counters, tags = [], []
    for sub in _subjaxprs(equation):
      counters.append(_Counter(self._direction))
      tags.append(counters[-1].visit(sub, inputs[1:], outputs, network, trips))
    self.counts.update(max((counter.counts for counter in counters), key=lambda counts: sum(counts.values())))
    return [inputs[0] | _union(of_branches) for of_branches in zip(*tags, strict=True)]

  def _through_scan(
    self, equation: jex_core.JaxprEqn, inputs: list[_Depends], outputs: list[bool], network: str, trips: int
  ) -> list[_Depends]:
    body, (consts, carry) = next(_subjaxprs(equation)), _constants_and_carry(equation)
    wanted, tags, before = _wanted_of_body(equation, outputs, self._direction), list(inputs), None
    while tags != before:
      before = list(tags)
      results = self.visit(body, tags, wanted, network, 0)
      tags[consts : consts + carry] = [
        a | b for a, b in zip(tags[consts : consts + carry], results[:carry], strict=True)
      ]
    return self.visit(body, tags, wanted, network, trips * equation.params["length"])


def _kind(equation: jex_core.JaxprEqn) -> Literal["scan", "branches", "call", "opaque"]:
  name = equation.primitive.name
  if name == "scan":
    return "scan"
  if name == "cond":
    return "branches"
  subs = list(_subjaxprs(equation))
  fits = len(subs) == 1 and any(key in equation.params for key in _CALLED)
  if fits and (len(subs[0].invars), len(subs[0].outvars)) == (len(equation.invars), len(equation.outvars)):
    return "call"
  if any(traced_flops(sub) for sub in subs):
    raise ValueError(f"cannot count FLOPs inside {name!r}: its parameters do not show which inputs its products use")
  return "opaque"


def _union(tags: Sequence[_Depends]) -> _Depends:
  return functools.reduce(operator.or_, tags, _Depends.NOTHING)


def _is_variable(atom: Any) -> bool:
  return not isinstance(atom, jex_core.Literal)


def _outermost_scope(equation: jex_core.JaxprEqn) -> str:
  # Linen adds module classes to the name stack; JAX wraps them: 'jvp(Generator)/...'.
  first = str(equation.source_info.name_stack).split("/")[0]
  found = re.search(r"\w+(?=\)*$)", first)
  return found.group() if found else ""
