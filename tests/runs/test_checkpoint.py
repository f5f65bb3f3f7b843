"""Checkpoints of small states: retention, damage, failed saves."""

import resource
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.runs.checkpoint import Checkpointer


def _save(folder, steps, **options):
  with Checkpointer(str(folder), **options) as checkpointer:
    for step in steps:
      checkpointer.save(step, {"x": jnp.full((2,), float(step))}, {"next_index": 10 * step}, {"name": "run"})
      checkpointer.wait()
    return checkpointer.steps()


@pytest.mark.parametrize(
  ("options", "left"),
  [
    ({}, [1, 2, 3, 4, 5, 6, 7]),
    ({"keep": 2}, [6, 7]),
    ({"keep": 1, "keep_every": 3}, [3, 6, 7]),
    ({"keep": 2, "keep_every": 2}, [2, 4, 6, 7]),
    ({"keep": 1, "keep_steps": [3]}, [3, 7]),
  ],
)
def test_the_latest_and_every_nth_checkpoint_are_kept(tmp_path, options, left):
  assert _save(tmp_path, range(1, 8), **options) == left


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": -1}, {"keep": 1, "keep_every": -1}])
def test_every_checkpoint_of_a_run_cannot_be_deleted(tmp_path, options):
  _save(tmp_path, [1])
  with pytest.raises(UserError, match="must be at least"):
    _save(tmp_path, [2], **options)
  assert _save(tmp_path, []) == [1]


def test_additional_steps_are_due(tmp_path):
  with Checkpointer(str(tmp_path), every=4, keep_every=6, keep_steps=[3]) as checkpointer:
    assert [step for step in range(1, 9) if checkpointer.due(step)] == [3, 4, 6, 8]


def test_state_data_state_and_meta_are_restored(tmp_path):
  _save(tmp_path, [1, 2])
  with Checkpointer(str(tmp_path), read_only=True) as checkpointer:
    restored = checkpointer.restore({"x": jnp.zeros((2,))})
    assert (restored.step, restored.meta["name"], restored.data_state) == (2, "run", {"next_index": 20})
    np.testing.assert_array_equal(restored.state["x"], [2.0, 2.0])
    restored = checkpointer.restore({"x": jnp.zeros((2,))}, step=1)
    assert (restored.step, restored.data_state) == (1, {"next_index": 10})
    with pytest.raises(UserError, match=r"has no checkpoint of step 3; it has \[1, 2\]"):
      checkpointer.restore({"x": jnp.zeros((2,))}, step=3)


def test_a_checkpoint_with_damaged_data_state_is_skipped(tmp_path):
  _save(tmp_path, [1, 2])
  damaged = tmp_path / "checkpoints" / "step_2" / "data" / "metadata"
  damaged.write_bytes(damaged.read_bytes()[:5])
  with Checkpointer(str(tmp_path)) as checkpointer:
    restored = checkpointer.restore({"x": jnp.zeros((2,))})
  assert (restored.step, restored.data_state) == (1, {"next_index": 10})


def _values(step):
  """Enough values to be stored in a file of their own, for which orbax keeps no checksum."""
  return {"x": jax.random.normal(jax.random.key(step), (64, 64))}


def _save_values(folder, steps):
  with Checkpointer(str(folder)) as checkpointer:
    for step in steps:
      checkpointer.save(step, _values(step), {"next_index": 10 * step}, {"name": "run"})


def _restored_step(folder):
  """Step of the restored checkpoint, whose contents must be those that were saved."""
  with Checkpointer(str(folder), read_only=True) as checkpointer:
    restored = checkpointer.restore({"x": jnp.zeros((64, 64))})
  np.testing.assert_array_equal(restored.state["x"], _values(restored.step)["x"])
  assert restored.data_state == {"next_index": 10 * restored.step}
  return restored.step


def test_a_checkpoint_with_one_flipped_bit_is_skipped(tmp_path, caplog):
  _save_values(tmp_path, [1, 2])
  assert _restored_step(tmp_path) == 2
  files = [path for path in (tmp_path / "checkpoints" / "step_2" / "state").rglob("*") if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 4
  largest.write_bytes(data)
  assert _restored_step(tmp_path) == 1
  assert "1 checksums differ, the first one in ['x']" in caplog.text


@pytest.mark.parametrize(
  ("item", "old", "new", "what"), [("data", "20", "21", "data iterator state"), ("meta", "run", "ran", "meta data")]
)
def test_a_checkpoint_with_changed_data_state_or_meta_is_skipped(item, old, new, what, tmp_path, caplog):
  _save_values(tmp_path, [1, 2])
  path = tmp_path / "checkpoints" / "step_2" / item / "metadata"
  assert old in path.read_text()
  path.write_text(path.read_text().replace(old, new))
  assert _restored_step(tmp_path) == 1
  assert f"the first one in {what}" in caplog.text


@pytest.mark.parametrize("removed", ["checkpoints", "checkpoints/step_2", "."])
def test_a_folder_removed_during_a_run_is_created_again_by_the_next_save(removed, tmp_path):
  folder = tmp_path / "run"
  with Checkpointer(str(folder), keep=2) as checkpointer:
    for step in range(1, 5):
      if step == 3:
        checkpointer.wait()
        shutil.rmtree(folder / removed)
      checkpointer.save(step, _values(step), {"next_index": 10 * step}, {})
  assert _restored_step(folder) == 4


@pytest.fixture
def full_disk():
  """A function that fills the disk: no file of this process can grow beyond 4 KiB."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("method", ["due", "save", "wait", "exit"])
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(method, tmp_path, full_disk):
  checkpointer = Checkpointer(str(tmp_path))
  checkpointer.save(1, _values(1), {"next_index": 10}, {})
  checkpointer.wait()
  full_disk()
  checkpointer.save(2, _values(2), {"next_index": 20}, {})
  message = r"a checkpoint cannot be written to .*checkpoints: File too large; free space .* resumes from step 1"
  with pytest.raises(UserError, match=message):
    _call_until_error(checkpointer, method)
  assert _restored_step(tmp_path) == 1


def _call_until_error(checkpointer, method):
  if method == "wait":
    checkpointer.wait()
  elif method == "exit":
    with checkpointer:
      pass
  elif method == "save":
    checkpointer.save(3, _values(3), {"next_index": 30}, {})
  else:
    while True:  # Saving runs in the background; `due` raises as soon as it has failed.
      time.sleep(0.01)
      checkpointer.due(3)
