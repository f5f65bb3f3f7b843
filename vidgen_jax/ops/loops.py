"""A scan that can be unrolled into straight-line code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def scan(
  body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, *, length: int, unroll: bool
) -> tuple[Any, Any]:
  """`jax.lax.scan` over `length` steps, at least one; straight-line code for a single step or with `unroll`."""
  if not unroll and length > 1:
    return lax.scan(body, carry, inputs, length=length)
  # XLA's CPU compiler uses fast convolutions only in the entry computation: a weight gradient inside a loop or a called
  # function took 20 times as long. `lax.scan(unroll=length)` would still emit a loop of one iteration.
  outputs = []
  for i in range(length):
    carry, output = body(carry, jax.tree.map(lambda x, i=i: x[i], inputs))
    outputs.append(output)
  return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
