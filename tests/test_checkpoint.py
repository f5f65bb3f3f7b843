"""Which checkpoints stay, and what they hold; with states of one number."""

import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.checkpoint import Checkpointer
from vidgen_jax.errors import UserError


class Place:
  """An iterator's place, as of a training stream."""

  def __init__(self, clips=0):
    self.clips = clips

  def get_state(self):
    return {"next_index": self.clips}

  def set_state(self, state):
    self.clips = state["next_index"]


def _save(folder, steps, **options):
  with Checkpointer(str(folder), **options) as checkpointer:
    for step in steps:
      checkpointer.save(step, {"x": jnp.full((2,), float(step))}, Place(10 * step), {"name": "run"})
      checkpointer.wait()
    return checkpointer.steps()


@pytest.mark.parametrize(
  ("options", "left"),
  [
    ({}, [1, 2, 3, 4, 5, 6, 7]),
    ({"keep": 2}, [6, 7]),
    ({"keep": 1, "keep_every": 3}, [3, 6, 7]),
    ({"keep": 2, "keep_every": 2}, [2, 4, 6, 7]),
  ],
)
def test_the_latest_stay_and_every_so_many_th(tmp_path, options, left):
  assert _save(tmp_path, range(1, 8), **options) == left


def test_state_place_and_meta_come_back(tmp_path):
  _save(tmp_path, [1, 2])
  place = Place()
  with Checkpointer(str(tmp_path), read_only=True) as checkpointer:
    restored = checkpointer.restore({"x": jnp.zeros((2,))}, iterator=place)
    assert (restored.step, restored.meta["name"], place.clips) == (2, "run", 20)
    np.testing.assert_array_equal(restored.state["x"], [2.0, 2.0])
    assert checkpointer.restore({"x": jnp.zeros((2,))}, step=1, iterator=place).step == 1
    assert place.clips == 10
    with pytest.raises(UserError, match=r"has no checkpoint of step 3; it has \[1, 2\]"):
      checkpointer.restore({"x": jnp.zeros((2,))}, step=3)


def test_a_damaged_place_is_passed_over_like_damaged_arrays(tmp_path):
  _save(tmp_path, [1, 2])
  damaged = tmp_path / "checkpoints" / "step_2" / "data" / "metadata"
  damaged.write_bytes(damaged.read_bytes()[:5])
  place = Place()
  with Checkpointer(str(tmp_path)) as checkpointer:
    assert checkpointer.restore({"x": jnp.zeros((2,))}, iterator=place).step == 1
  assert place.clips == 10
