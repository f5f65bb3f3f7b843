"""What the recurrent units of a generator tell about motion."""

from collections.abc import Mapping
from typing import Any

import jax

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent import RECURRENT_UNITS, WarpingUnit


def check_moves(recurrent_unit: str) -> None:
  """Checks that a unit moves its state by kernels, from which motion can be read.

  Args:
    recurrent_unit: a name in `RECURRENT_UNITS`.

  Raises:
    UserError: if it does not, naming the units that do.
  """
  if recurrent_unit not in moving_units():
    raise UserError(
      f"algorithm.recurrent_unit={recurrent_unit!r} moves no content, so the model shows no motion; "
      f"units that do: {', '.join(moving_units())}"
    )


def moving_units() -> tuple[str, ...]:
  """The names of the units that leave kernels in the collection `MOTION`."""
  return tuple(name for name, unit in RECURRENT_UNITS.items() if issubclass(unit, WarpingUnit))


def stage_kernels(motion: Mapping[str, Any], stage: int) -> jax.Array:
  """The kernels of a stage's unit, [B, T, h, w, k*k].

  Args:
    motion: the collection `MOTION` that a `Generator` with warping units has left.
    stage: 0 for the coarsest.
  """
  return motion[f"stage_{stage}_unit"]["kernels"]
