"""A scan that can be written out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def scan(
  body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, *, length: int, unroll: bool
) -> tuple[Any, Any]:
  """`jax.lax.scan`, or the same as straight-line code.

  XLA's CPU compiler brings convolutions into a fast form only in the entry computation: inside a loop or a called
  function a weight gradient was 20 times slower. `lax.scan(unroll=length)` still emits a loop of one trip; this
  function emits none, nor does it for a single step.

  Args:
    body: (carry, input) -> (carry, output).
    carry: initial carry.
    inputs: pytree with a leading axis of `length`, or None.
    length: number of steps, at least 1.
    unroll: write the steps out.

  Returns:
    (carry, outputs stacked on a leading axis).
  """
  if not unroll and length > 1:
    return lax.scan(body, carry, inputs, length=length)
  outputs = []
  for i in range(length):
    carry, output = body(carry, jax.tree.map(lambda x, i=i: x[i], inputs))
    outputs.append(output)
  return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
