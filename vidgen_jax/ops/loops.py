"""A scan that counts of operations can look through."""

import contextlib
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_unrolled = contextvars.ContextVar("unrolled", default=False)


@contextlib.contextmanager
def unrolled() -> Generator[None]:
  """A context in which `scan` traces straight-line code, each of whose operations XLA's cost analysis counts."""
  token = _unrolled.set(True)
  try:
    yield
  finally:
    _unrolled.reset(token)


def scan(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, *, length: int) -> tuple[Any, Any]:
  """`jax.lax.scan` over `length` steps, at least one; straight-line code for a single step."""
  if length > 1 and not _unrolled.get():
    return lax.scan(body, carry, inputs, length=length)
  # `lax.scan(unroll=length)` would still emit a loop of one iteration.
  outputs = []
  for i in range(length):
    carry, output = body(carry, jax.tree.map(lambda x, i=i: x[i], inputs))
    outputs.append(output)
  return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
