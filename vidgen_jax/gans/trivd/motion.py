"""Motion that the generator's recurrent units report."""

from collections.abc import Mapping
from typing import Any

import jax

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


def check_moves(recurrent_unit: str) -> None:
  """Checks that a recurrent unit moves its state with kernels, from which motion can be read.

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
  """Warping kernels [B, T, h, w, k*k] of one stage, 0 for the coarsest, from a `Generator`'s collection `MOTION`."""
  return motion[f"stage_{stage}_unit"]["kernels"]
