"""Training and evaluation batches: content, order, seeds, resuming, processes, threads and workers."""

import functools
import gc
import json
import subprocess
import sys
import threading
import time
from collections import Counter

import grain
import numpy as np
import pytest

from vidgen_jax.data import pipeline, records, transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets import shape_motion
from vidgen_jax.errors import UserError

# Clips of `marked_dataset` with more than 4 frames: all except 3 and 14.
TRAIN = {0, 1, 2, 4, 5, 6, 7, 8, 9, 10}
TEST = {11, 12, 13, 15, 16}


@pytest.fixture(scope="module")
def config(marked_dataset):
  return DataConfig(name="marked", data_dir=str(marked_dataset), num_frames=5, resolution=4)


def with_changes(config, **changes):
  return DataConfig(**{name: getattr(config, name) for name in config.__dataclass_fields__} | changes)


def clips(batch):
  """Number of the clip of each video, flattened."""
  return batch["video"][..., 0, 0, 0, 0].ravel().tolist()


def starts(batch):
  """First frame of each window, flattened."""
  return batch["video"][..., 0, 0, 0, 1].ravel().tolist()


def assert_equal(first, second):
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name])


def test_shapes_and_types_of_training_batches(config):
  batch = next(pipeline.train_batches(config, batch_size=2, microbatches=3, seed=0))
  assert (batch["video"].shape, batch["video"].dtype) == ((3, 2, 5, 4, 4, 3), np.uint8)
  assert (batch["label"].shape, batch["label"].dtype) == ((3, 2), np.int32)
  # The label of a clip is its number modulo 2, and the frames of a window are consecutive.
  np.testing.assert_array_equal(batch["label"].ravel(), np.array(clips(batch)) % 2)
  greens = batch["video"][..., 0, 0, 1].reshape(6, 5).astype(int)
  np.testing.assert_array_equal(np.diff(greens, axis=1), 1)


def test_every_epoch_contains_each_clip_once_in_another_order(config):
  batches = pipeline.train_batches(config, batch_size=5, microbatches=1, seed=0)
  epochs = [clips(next(batches)) + clips(next(batches)) for _ in range(4)]
  assert all(Counter(epoch) == Counter(TRAIN) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("shares", [[(0, 1, 2), (3, 4, 5)], [(0,), (1, 3), (2, 4, 5)], [(5,), (0, 1, 2, 3, 4)]])
def test_batches_of_all_processes_equal_those_of_one(config, shares):
  make = lambda **options: pipeline.train_batches(config, batch_size=6, microbatches=2, seed=0, **options)
  whole, parts = make(), [make(batch_indices=share) for share in shares]
  for _ in range(4):  # 48 clips, of a data set of 10.
    batch, found = next(whole), [next(part) for part in parts]
    for share, part in zip(shares, found, strict=True):
      assert_equal(part, {name: value[:, list(share)] for name, value in batch.items()})
  # The state counts the clips of all processes, so any number of processes can resume from it.
  assert {part.get_state()["next_index"] for part in [whole, *parts]} == {48}
  part = make(batch_indices=shares[0])
  part.set_state(whole.get_state())
  assert_equal(next(part), {name: value[:, list(shares[0])] for name, value in next(whole).items()})


def test_windows_of_one_clip_differ_from_epoch_to_epoch(config):
  batches = pipeline.train_batches(config, batch_size=10, microbatches=1, seed=0)
  drawn = Counter()
  for _ in range(12):
    batch = next(batches)
    drawn[dict(zip(clips(batch), starts(batch), strict=True))[7]] += 1
  assert set(drawn) <= set(range(8))
  assert len(drawn) >= 4


def test_the_seed_decides_order_and_windows(config):
  first = next(pipeline.train_batches(config, batch_size=10, microbatches=1, seed=1))
  assert_equal(first, next(pipeline.train_batches(config, batch_size=10, microbatches=1, seed=1)))
  other = next(pipeline.train_batches(config, batch_size=10, microbatches=1, seed=2))
  assert clips(first) != clips(other)


def test_the_number_of_threads_does_not_change_batches(config):
  batches = [
    pipeline.train_batches(with_changes(config, num_threads=n), batch_size=4, microbatches=1, seed=0) for n in (1, 4)
  ]
  for _ in range(6):
    assert_equal(*(next(iterator) for iterator in batches))


@pytest.mark.parametrize("consumed", [0, 1, 3, 7])
def test_resumed_batches_are_equal_within_an_epoch_and_beyond(config, consumed):
  # 3 clips per batch and 10 per epoch: only the tenth batch ends with an epoch.
  make = lambda: pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0)
  batches = make()
  for _ in range(consumed):
    next(batches)
  state = json.loads(json.dumps(batches.get_state()))
  expected = [next(batches) for _ in range(5)]
  resumed = make()
  resumed.set_state(state)
  for batch in expected:
    assert_equal(next(resumed), batch)


def test_the_iterator_can_be_saved_by_grain(config):
  assert isinstance(pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0), grain.DatasetIterator)


def test_microbatches_are_consecutive_clips(config):
  make = lambda microbatches, batch_size: pipeline.train_batches(
    config, batch_size=batch_size, microbatches=microbatches, seed=0
  )
  stacked, flat = make(3, 2), make(1, 6)
  for _ in range(2):
    assert clips(next(stacked)) == clips(next(flat))


def test_batches_equal_those_of_grains_own_batching(config):
  # An independent implementation: Grain's iterator in one thread, batched by Grain.
  source = records.open_clips(config, "train")
  window_seed = int(np.random.SeedSequence([7, 0]).generate_state(1)[0])
  stream = grain.MapDataset.source(source).seed(7).shuffle().repeat()
  stream = stream.random_map(functools.partial(transforms.random_window, config=config), seed=window_seed)
  expected = iter(stream.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)).batch(6))
  batches = pipeline.train_batches(with_changes(config, num_threads=3), batch_size=3, microbatches=2, seed=7)
  for _ in range(4):
    batch = next(batches)
    assert_equal({name: value.reshape(6, *value.shape[2:]) for name, value in batch.items()}, next(expected))


def test_the_state_is_the_number_of_delivered_clips(config):
  batches = pipeline.train_batches(config, batch_size=2, microbatches=2, seed=0)
  states = [batches.get_state()]
  for _ in range(2):
    next(batches)
    states.append(batches.get_state())
  assert states == [{"next_index": 0}, {"next_index": 4}, {"next_index": 8}]


def test_a_running_stream_can_seek(config):
  batches = pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0)
  delivered = [next(batches) for _ in range(4)]
  for index in (1, 3, 0):
    batches.set_state({"next_index": 3 * index})
    assert_equal(next(batches), delivered[index])


@pytest.mark.parametrize("state", [{}, {"next_index": -1}, {"next_index": 1.5}, {"next_index": 4, "exhausted": [0]}])
def test_invalid_states_are_refused(config, state):
  batches = pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0)
  with pytest.raises(ValueError, match="next_index"):
    batches.set_state(state)


def test_no_more_than_prefetch_is_read_ahead(config, monkeypatch):
  read = []
  original = records.ClipSource.__getitem__
  monkeypatch.setattr(records.ClipSource, "__getitem__", lambda self, i: (read.append(i), original(self, i))[1])
  batches = pipeline.train_batches(
    with_changes(config, num_threads=4, prefetch=2), batch_size=3, microbatches=1, seed=0
  )
  assert read == []
  for _ in range(5):
    next(batches)
  time.sleep(0.3)
  # Five delivered batches and two that are ready: 7 x 3 clips.
  assert len(read) == 21


def test_a_closed_stream_cannot_be_read(config):
  batches = pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0)
  next(batches)
  batches.close()
  with pytest.raises(ValueError, match="closed"):
    next(batches)


def test_a_stream_is_garbage_collected_without_deadlock(config):
  streams = [pipeline.train_batches(config, batch_size=2, microbatches=1, seed=0)]
  next(streams[0])
  pool = streams[0]._opened[0]._pool

  def collect():
    with pool._shutdown_lock:  # As if the garbage collector ran within the pool's code.
      streams.clear()
      gc.collect()

  thread = threading.Thread(target=collect, daemon=True)
  thread.start()
  thread.join(timeout=20)
  assert not thread.is_alive()
  deadline = time.monotonic() + 20
  while not pool._shutdown and time.monotonic() < deadline:
    time.sleep(0.01)
  assert pool._shutdown


def test_errors_in_threads_are_raised(config, monkeypatch):
  def fail(self, index):
    raise OSError("the disk is gone")

  monkeypatch.setattr(records.ClipSource, "__getitem__", fail)
  batches = pipeline.train_batches(config, batch_size=3, microbatches=1, seed=0)
  with pytest.raises(OSError, match="the disk is gone"):
    next(batches)


def test_seeking_does_not_read(config, monkeypatch):
  batches = pipeline.train_batches(config, batch_size=2, microbatches=2, seed=0)
  monkeypatch.setattr(records.ClipSource, "__getitem__", None)
  batches.set_state({"next_index": 4 * 10**9})
  assert batches.get_state() == {"next_index": 4 * 10**9}


def test_a_data_set_smaller_than_a_batch_repeats(config):
  batch = next(pipeline.train_batches(config, batch_size=16, microbatches=2, seed=0))
  counts = Counter(clips(batch))
  # 32 clips of 10: three epochs, and two clips of the fourth.
  assert sorted(counts.values()) == [3] * 8 + [4] * 2


def test_strides_and_channels(config):
  strided = with_changes(config, num_frames=4, frame_stride=3, channels=1)
  batch = next(pipeline.eval_batches(strided, "test", batch_size=9, num_clips=None))
  # The window spans 10 of 12 frames, so the centre window begins at frame 1: 1, 4, 7, 10.
  assert batch["video"].shape == (5, 4, 4, 4, 1)
  clip = np.array(sorted(TEST))
  luma = 0.299 * clip[:, None] + 0.587 * np.array([1, 4, 7, 10]) + 0.114 * 200
  found = np.sort(batch["video"][:, :, 0, 0, 0], axis=0)
  np.testing.assert_allclose(found, luma, atol=1)


def test_short_clips_are_skipped_and_counted(config, caplog):
  pipeline.train_batches(config, batch_size=2, microbatches=1, seed=0)
  messages = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
  assert messages == ["marked/train: skipped 1 of 11 clips, which have fewer than 5 frames; the shortest has 4"]
  assert len(records.open_clips(config, "test")) == 5
  assert len(records.open_clips(with_changes(config, num_frames=4), "test")) == 6


def test_evaluation_reads_every_clip_once_and_is_repeatable(config):
  first = list(pipeline.eval_batches(config, "test", batch_size=2, num_clips=None))
  assert [len(batch["label"]) for batch in first] == [2, 2, 1]
  assert {clip for batch in first for clip in clips(batch)} == TEST
  # 12 frames and windows of 5: the centre one begins at (12 - 5) // 2 = 3.
  assert {start for batch in first for start in starts(batch)} == {3}
  for batch, again in zip(first, pipeline.eval_batches(config, "test", batch_size=2, num_clips=None), strict=True):
    assert_equal(batch, again)


def test_random_evaluation_windows_are_fixed(config):
  scattered = with_changes(config, eval_window="random")
  (batch,) = pipeline.eval_batches(scattered, "test", batch_size=9, num_clips=None)
  (again,) = pipeline.eval_batches(scattered, "test", batch_size=9, num_clips=None)
  assert_equal(batch, again)
  assert len(set(starts(batch))) > 1
  # The window of a clip does not depend on the number of clips.
  (part,) = pipeline.eval_batches(scattered, "test", batch_size=9, num_clips=2)
  assert starts(part) == starts(batch)[:2]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_frames": 13}, "has no clip of 13 frames in split 'train' .*12.*data.num_frames"),
    ({"train_split": "validation"}, "no split 'validation', only test, train"),
    ({"name": "missing"}, "vidgen data build video_folder --source=FOLDER --name=missing"),
    ({"name": "shape_motion"}, "vidgen data build shape_motion --name=shape_motion"),
  ],
)
def test_errors_name_a_remedy(config, changes, message):
  with pytest.raises(UserError, match=message):
    pipeline.train_batches(with_changes(config, **changes), batch_size=2, microbatches=1, seed=0)


def test_all_windows_of_all_clips(config):
  every = with_changes(config, eval_window="all", eval_window_stride=7)
  (batch,) = pipeline.eval_batches(every, "test", batch_size=99, num_clips=None)
  # Windows of 5 in 12 frames begin at 0 to 7.
  found = list(zip(clips(batch), starts(batch), strict=True))
  assert sorted(found) == [(clip, start) for clip in sorted(TEST) for start in (0, 7)]
  assert found != sorted(found)
  (part,) = pipeline.eval_batches(every, "test", batch_size=99, num_clips=7)
  assert_equal(part, {name: value[:7] for name, value in batch.items()})


def test_frames_smaller_than_the_crop_are_found_when_opening(config):
  with pytest.raises(UserError, match=r"data\.resolution=9 out of frames of 8x8"):
    pipeline.train_batches(with_changes(config, resize="none", resolution=9), batch_size=2, microbatches=1, seed=0)


def test_zero_evaluation_clips_are_refused(config):
  with pytest.raises(UserError, match="at least 1"):
    pipeline.eval_batches(config, "test", batch_size=2, num_clips=0)


# Both run in a fresh process: other tests may have loaded TensorFlow here, and workers import the main program.
READ_ONE_BATCH = """
import sys
from vidgen_jax.data import config, pipeline

if __name__ == "__main__":
  data = config.DataConfig(name="shapes", data_dir=sys.argv[1], num_frames=4, resolution=16)
  batches = pipeline.train_batches(data, batch_size=2, microbatches=1, seed=0)
  assert next(batches)["video"].any()
  assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"], "TensorFlow was imported"
"""

# Four clips per batch, eight per epoch. The state moves from one number of workers to the next.
READ_WITH_WORKERS = """
import sys
import numpy as np
from vidgen_jax.data import config, pipeline

def stream(workers, threads, state=None):
  data = config.DataConfig(
    name="shapes", data_dir=sys.argv[1], num_frames=4, resolution=16, workers=workers, num_threads=threads
  )
  batches = pipeline.train_batches(data, batch_size=2, microbatches=2, seed=3)
  if state is not None:
    batches.set_state(state)
  return batches

def check(batches, expected):
  for batch in expected:
    found = next(batches)
    assert found.keys() == batch.keys()
    assert all((found[name] == batch[name]).all() for name in batch)
  return batches.get_state()

if __name__ == "__main__":
  alone = stream(0, 1)
  expected = [next(alone) for _ in range(11)]
  assert len({batch["video"].tobytes() for batch in expected}) == 11
  state = check(stream(2, 1), expected[:5])
  left_open = stream(1, 2, state)
  state = check(left_open, expected[5:9])
  state = check(stream(0, 3, state), expected[9:])
  assert state == {"next_index": 44}
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("shapes")
  shape_motion.build_shape_motion(shape_motion.ShapeMotionOptions(name="shapes", data_dir=str(data_dir), num_clips=10))
  return data_dir


@pytest.mark.parametrize("program", [READ_ONE_BATCH, READ_WITH_WORKERS], ids=["without TensorFlow", "with workers"])
def test_in_a_fresh_process(program, tmp_path, repository, shapes):
  (tmp_path / "read.py").write_text(program)
  done = subprocess.run(
    [sys.executable, str(tmp_path / "read.py"), str(shapes)],
    cwd=repository,
    env={"PYTHONPATH": str(repository), "JAX_PLATFORMS": "cpu", "PATH": ""},
    capture_output=True,
    text=True,
    timeout=200,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, "")
