"""Counts the FLOPs that a loss and its gradient need, from the shapes of its layers.

Only convolutions and matrix products count, with two FLOPs per multiply-add. Everything else (activations,
normalisation, optimizers) is left out, so the counts are lower bounds of what a program executes. Products with the
zeros of a convolution's padding do not count, as in XLA's cost analysis, which makes the two comparable.

The cost of the gradient is that of the loss's directional derivative: a product f(a, b) on the path to the loss costs
its FLOPs once more for each operand that depends on the differentiated parameters, f(da, b) and f(a, db). So a
discriminator update does not pay for the generator's backward pass nor for the gradient with respect to the
discriminators' input, and a generator update pays for the gradient of the discriminators' inputs but not of their
kernels. The count uses forward mode alone, and can therefore verify the backward pass. The loss's program contains the
backward pass inside of a gradient penalty, which counts like any other product. Recomputed activations
(rematerialisation) do not count: they are not needed.

Of a branch by platform (`lax.platform_dependent`), one backend's side counts; of a branch by value, the most expensive
side.
"""

import collections
import enum
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax import lax
from jax.extend import core as jex_core
from jax.interpreters import partial_eval

from vidgen_jax.ops.convolution2d import convolution_p

Jaxpr = jex_core.Jaxpr

# Names of a backend's platforms in programs, if they differ from the backend's name.
_LOWERED_AS = {"gpu": {"cuda", "rocm"}}


@dataclass(frozen=True, kw_only=True, order=True)
class Part:
  """One kind of work in a loss and its gradient.

  Attributes:
    network: class of the outermost module; '' outside of modules.
    direction: 'forward', or 'backward' for gradients.
    on: 'clips' if it depends on the batch or the latents, otherwise 'weights': power iterations and penalties on
      weights, the gradients of offsets that are the same for all clips, and the start of a gradient penalty's backward
      pass, which has a constant one per clip.
  """

  network: str
  direction: Literal["forward", "backward"]
  on: Literal["clips", "weights"]


Parts = Mapping[Part, int]
"""FLOPs by kind of work."""


class _Depends(enum.IntFlag):
  NOTHING = 0
  TANGENTS = 1
  DATA = 2


def product_flops(equation: jex_core.JaxprEqn) -> int:
  """FLOPs of one convolution or matrix product; 0 for any other equation."""
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    lhs, out = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)
  convolutions = ("conv_general_dilated", convolution_p.name)
  return _convolution_flops(equation) if equation.primitive.name in convolutions else 0


def _shape(atom: Any) -> tuple[int, ...]:
  return atom.aval.shape


def _convolution_flops(equation: jex_core.JaxprEqn) -> int:
  p = equation.params
  lhs, rhs = map(_shape, equation.invars)
  lhs_spec, rhs_spec, out_spec = lax.conv_dimension_numbers(lhs, rhs, p["dimension_numbers"])
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


def traced_flops(jaxpr: Jaxpr, *, backend: str | None = None) -> int:
  """FLOPs of all products in a traced program, including its gradients and all iterations of its loops.

  Raises ValueError if a while loop contains products. `backend`: see `gradient_flops`.
  """
  counter = _Counter(backend)
  counter.visit(jaxpr, [_Depends.NOTHING] * len(jaxpr.invars))
  return counter.counts.total()


def loops_over_products(jaxpr: Jaxpr) -> bool:
  """Whether a loop of several iterations contains a product; XLA's cost analysis counts one iteration."""
  return any(
    (equation.primitive.name == "scan" and equation.params["length"] > 1 and traced_flops(sub) > 0)
    or loops_over_products(sub)
    for equation in jaxpr.eqns
    for sub in _subjaxprs(equation, jax.default_backend())
  )


def _subjaxprs(equation: jex_core.JaxprEqn, backend: str) -> list[Jaxpr]:
  """The programs in an equation that may run on the backend."""
  platforms = equation.params.get("branches_platforms")
  if platforms is None:
    return list(jex_core.jaxprs_in_params(equation.params))
  names = _LOWERED_AS.get(backend, {backend})
  # None stands for all other platforms.
  taken = next(index for index, branch in enumerate(platforms) if branch is None or names & set(branch))
  return [equation.params["branches"][taken].jaxpr]


def gradient_flops(function: Callable, params: Any, constants: Any, data: Any, *, backend: str | None = None) -> Parts:
  """FLOPs that a loss and its gradient need, by kind of work; ValueError if a while loop contains products.

  The forward pass computes all outputs, the backward pass starts at the loss alone.

  Args:
    function: (params, constants, data) -> (loss, other outputs).
    params: pytree of arrays or ShapeDtypeStructs that are differentiated.
    constants: pytree of weights that are used but not differentiated.
    data: pytree of clips, labels and random keys.
    backend: 'cpu', 'gpu' or 'tpu', which runs the program; None for this machine's default.
  """

  def with_derivative(params: Any, tangents: Any, constants: Any, data: Any) -> Any:
    return jax.jvp(lambda params: function(params, constants, data), (params,), (tangents,), has_aux=True)

  arguments = (params, params, constants, data)
  depends = (_Depends.NOTHING, _Depends.TANGENTS, _Depends.NOTHING, _Depends.DATA)
  tags = [tag for tag, argument in zip(depends, arguments, strict=True) for _ in jax.tree.leaves(argument)]
  # Without the derivatives of other outputs.
  jaxpr, _ = partial_eval.dce_jaxpr(jax.make_jaxpr(with_derivative)(*arguments).jaxpr, True, instantiate=True)
  counter = _Counter(backend)
  counter.visit(jaxpr, tags)
  return dict(counter.counts)


class _Counter:
  """Propagates the dependences of values, and counts products; those with a tangent are of the backward pass."""

  def __init__(self, backend: str | None) -> None:
    self._backend = backend or jax.default_backend()
    self.counts: collections.Counter[Part] = collections.Counter()

  def visit(self, jaxpr: Jaxpr, tags: Sequence[_Depends], *, network: str = "", trips: int = 1) -> list[_Depends]:
    """Counts a program that `network` calls ('' outside of modules) and that runs `trips` times.

    `tags` are the dependences of its inputs. Returns those of its outputs; 0 trips only propagate them.
    """
    known = dict(zip(jaxpr.invars, tags, strict=True))

    def of(atom: Any) -> _Depends:
      return _Depends.NOTHING if isinstance(atom, jex_core.Literal) else known.get(atom, _Depends.NOTHING)

    for equation in jaxpr.eqns:
      inputs = [of(atom) for atom in equation.invars]
      outputs = self._through(equation, inputs, network or _outermost_scope(equation), trips)
      known.update(zip(equation.outvars, outputs, strict=True))
    return [of(atom) for atom in jaxpr.outvars]

  def _through(
    self, equation: jex_core.JaxprEqn, inputs: list[_Depends], network: str, trips: int
  ) -> Sequence[_Depends]:
    name, subs = equation.primitive.name, _subjaxprs(equation, self._backend)
    if name == "scan":
      return self._through_scan(equation, subs[0], inputs, network, trips)
    if name == "cond":
      return self._through_branches(subs, inputs, network, trips)
    if name == "shard_map":  # Every device runs the body, with its shapes.
      trips *= equation.params["mesh"].size
    if len(subs) == 1 and [len(subs[0].invars), len(subs[0].outvars)] == [len(inputs), len(equation.outvars)]:
      return self.visit(subs[0], inputs, network=network, trips=trips)
    if any(traced_flops(sub, backend=self._backend) for sub in subs):
      raise ValueError(f"cannot count FLOPs inside {name!r}: its iterations or the use of its inputs are unknown")
    tag = _union(inputs)
    if flops := trips * product_flops(equation):
      direction = "backward" if tag & _Depends.TANGENTS else "forward"
      on = "clips" if tag & _Depends.DATA else "weights"
      self.counts[Part(network=network, direction=direction, on=on)] += flops
    return [tag] * len(equation.outvars)

  def _through_branches(
    self, branches: Sequence[Jaxpr], inputs: list[_Depends], network: str, trips: int
  ) -> Sequence[_Depends]:
    """Counts the most expensive branch."""
    counters = [_Counter(self._backend) for _ in branches]
    tags = [
      counter.visit(branch, inputs[1:], network=network, trips=trips)
      for counter, branch in zip(counters, branches, strict=True)
    ]
    self.counts.update(max((counter.counts for counter in counters), key=collections.Counter.total))
    return [inputs[0] | _union(of_branches) for of_branches in zip(*tags, strict=True)]

  def _through_scan(
    self, scan: jex_core.JaxprEqn, body: Jaxpr, inputs: list[_Depends], network: str, trips: int
  ) -> Sequence[_Depends]:
    carry = _num_unstacked(scan.outvars, body.outvars)
    consts = _num_unstacked(scan.invars, body.invars) - carry
    tags, before = list(inputs), None
    while tags != before:
      before = list(tags)
      for i, tag in enumerate(self.visit(body, tags, network=network, trips=0)[:carry], start=consts):
        tags[i] |= tag
    return self.visit(body, tags, network=network, trips=trips * scan.params["length"])


def _num_unstacked(outside: Sequence[Any], inside: Sequence[Any]) -> int:
  """Number of a scan's values that have no axis of iterations: constants and carries."""
  # JAX's parameters for these numbers differ between versions.
  return sum(out.aval.ndim == within.aval.ndim for out, within in zip(outside, inside, strict=True))


def _union(tags: Iterable[_Depends]) -> _Depends:
  return functools.reduce(operator.or_, tags, _Depends.NOTHING)


def _outermost_scope(equation: jex_core.JaxprEqn) -> str:
  # Linen adds module classes to the name stack; JAX wraps them: 'jvp(Generator)/...'.
  first = str(equation.source_info.name_stack).split("/")[0]
  found = re.search(r"\w+(?=\)*$)", first)
  return found.group() if found else ""
