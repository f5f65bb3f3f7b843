"""Motion that the generator's recurrent units report."""

from collections.abc import Mapping
from typing import Any

import jax

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


def check_moves(recurrent_unit: str) -> None:
  """Checks that a unit moves its state with kernels, from which motion can be read.

  Args:
    recurrent_unit: a name in `RECURRENT_UNITS`.

  Raises:
    UserError: if it does not; the message names the units that do.
  """
  if recurrent_unit not in moving_units():
    raise UserError(
      f"algorithm.recurrent_unit={recurrent_unit!r} moves no content, so the model shows no motion; "
      f"units that do: {', '.join(moving_units())}"
    )


def moving_units() -> tuple[str, ...]:
  """Names of the units that write kernels to the collection `MOTION`."""
  return tuple(name for name, unit in RECURRENT_UNITS.items() if unit.moves)


def stage_kernels(motion: Mapping[str, Any], stage: int) -> jax.Array:
  """Warping kernels of one stage's unit, [B, T, h, w, k*k].

  Args:
    motion: the collection `MOTION` of a `Generator` with warping units.
    stage: 0 for the coarsest.
  """
  return motion[f"stage_{stage}_unit"]["kernels"]
