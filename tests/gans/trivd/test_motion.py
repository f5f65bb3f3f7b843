"""Motion that recurrent units and the generator's stages report."""

import functools

import jax
import jax.numpy as jnp
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.gans.trivd.generator import Generator
from vidgen_jax.gans.trivd.motion import check_moves, moving_units, stage_kernels
from vidgen_jax.nn.recurrent import MOTION, RECURRENT_UNITS


@pytest.mark.parametrize("name", RECURRENT_UNITS)
def test_moving_units_are_the_units_that_write_kernels(name):
  x, state = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 3, 4, 4, 4), (1, 4, 4, 4)))
  init = functools.partial(RECURRENT_UNITS[name](4).init, num_steps=3, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x, state)
  assert (MOTION in variables) == (name in moving_units())
  if MOTION in variables:
    assert variables[MOTION]["kernels"].shape == (1, 3, 4, 4, 9)
    check_moves(name)
    return
  with pytest.raises(UserError, match=f"algorithm.recurrent_unit='{name}' moves no content") as error:
    check_moves(name)
  assert str(error.value).endswith(f"units that do: {', '.join(moving_units())}")


def test_every_stage_writes_kernels_of_its_resolution():
  generator = Generator((4, 2), (2, 2), recurrent_unit="tsru_p", blocks_per_stage=1, class_features=2)
  conditioning, latent = jnp.zeros((2, 1, 16, 16, 3)), jnp.zeros((2, 3))
  init = functools.partial(generator.init, num_frames=5, train=False)
  motion = jax.eval_shape(init, jax.random.key(0), conditioning, latent, jnp.zeros(2, jnp.int32))[MOTION]
  assert [stage_kernels(motion, stage).shape for stage in range(2)] == [(2, 5, 4, 4, 9), (2, 5, 8, 8, 9)]
  assert len(motion) == 2
