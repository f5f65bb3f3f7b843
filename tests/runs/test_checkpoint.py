"""Which checkpoints stay, and what they hold; with states of one number."""

import json
import resource
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.runs.checkpoint import Checkpointer
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


def _values(step):
  """Enough of them to be stored in a file of their own, which has no checksum of orbax's."""
  return {"x": jax.random.normal(jax.random.key(step), (64, 64))}


def _save_values(folder, steps):
  with Checkpointer(str(folder)) as checkpointer:
    for step in steps:
      checkpointer.save(step, _values(step), Place(10 * step), {"name": "run"})


def _restored_step(folder):
  """Of the checkpoint that is taken, whose values must be those that were saved."""
  place = Place()
  with Checkpointer(str(folder), read_only=True) as checkpointer:
    restored = checkpointer.restore({"x": jnp.zeros((64, 64))}, iterator=place)
  np.testing.assert_array_equal(restored.state["x"], _values(restored.step)["x"])
  assert place.clips == 10 * restored.step
  return restored.step


def test_one_flipped_bit_of_the_values_is_noticed(tmp_path, caplog):
  _save_values(tmp_path, [1, 2])
  assert _restored_step(tmp_path) == 2
  files = [path for path in (tmp_path / "checkpoints" / "step_2" / "state").rglob("*") if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 4
  largest.write_bytes(data)
  assert _restored_step(tmp_path) == 1
  assert "1 values differ from what was saved, ['x'] the first" in caplog.text


@pytest.mark.parametrize(
  ("item", "old", "new", "what"),
  [("data", "20", "21", "the place of the data"), ("meta", "run", "ran", "the config")],
)
def test_another_place_or_config_than_was_saved_is_noticed(item, old, new, what, tmp_path, caplog):
  _save_values(tmp_path, [1, 2])
  path = tmp_path / "checkpoints" / "step_2" / item / "metadata"
  assert old in path.read_text()
  path.write_text(path.read_text().replace(old, new))
  assert _restored_step(tmp_path) == 1
  assert f"{what} the first" in caplog.text


def test_checkpoints_of_before_checksums_are_read(tmp_path):
  _save_values(tmp_path, [1])
  path = tmp_path / "checkpoints" / "step_1" / "meta" / "metadata"
  meta = json.loads(path.read_text())
  assert set(meta.pop("checksums")) == {"arrays", "meta", "place"}
  path.write_text(json.dumps(meta))
  assert _restored_step(tmp_path) == 1


@pytest.mark.parametrize("removed", ["checkpoints", "checkpoints/step_2", "."])
def test_a_folder_that_is_removed_under_a_run_is_made_again_by_the_next_save(removed, tmp_path):
  folder = tmp_path / "run"
  with Checkpointer(str(folder), keep=2) as checkpointer:
    for step in range(1, 5):
      if step == 3:
        checkpointer.wait()
        shutil.rmtree(folder / removed)
      checkpointer.save(step, _values(step), Place(10 * step), {})
  assert _restored_step(folder) == 4


@pytest.fixture
def full_disk():
  """Fills the disk: no file of this process grows beyond 4 KiB."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("noticed", ["due", "save", "wait", "close"])
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(noticed, tmp_path, full_disk):
  checkpointer = Checkpointer(str(tmp_path))
  checkpointer.save(1, _values(1), Place(10), {})
  checkpointer.wait()
  full_disk()
  checkpointer.save(2, _values(2), Place(20), {})
  message = r"a checkpoint cannot be written to .*checkpoints: File too large; free space .* continues after step 1"
  with pytest.raises(UserError, match=message):
    _until_noticed(checkpointer, noticed)
  assert _restored_step(tmp_path) == 1


def _until_noticed(checkpointer, by):
  """Saving goes on in the background: `due` tells of it as soon as it is known."""
  if by in ("wait", "close"):
    getattr(checkpointer, by)()
  elif by == "save":
    checkpointer.save(3, _values(3), Place(30), {})
  else:
    while True:
      time.sleep(0.01)
      checkpointer.due(3)
