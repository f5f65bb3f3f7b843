"""Contents of the files that the writers leave, also after a kill and a resume."""

import contextlib
import io
import json
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.errors import UserError
from vidgen_jax.runs import writers


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_can_be_read_during_the_run(tmp_path):
  path = tmp_path / "new" / "metrics.jsonl"
  writer = writers.JsonlWriter(path)
  writer.write_scalars(10, {"disc/loss": np.float32(1.5), "gen/loss": math.nan})
  (line,) = _lines(path)
  assert (line["step"], line["disc/loss"], line["gen/loss"]) == (10, 1.5, None)
  assert 1.6e9 < line["time"] < 1e11
  writer.close()


def test_a_resumed_run_has_no_duplicate_lines(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with contextlib.closing(writers.JsonlWriter(path)) as writer:
    for step in (10, 20, 30):
      writer.write_scalars(step, {"loss": step})
    writer.write_scalars(20, {"eval/psnr": 1.0})
  with contextlib.closing(writers.create_writer(tmp_path, resumed_step=20)) as writer:
    writer.write_scalars(30, {"loss": -1})
  assert [(line["step"], line.get("loss")) for line in _lines(path)] == [(10, 10), (20, 20), (20, None), (30, -1)]
  assert {file.name for file in tmp_path.iterdir()} <= {"metrics.jsonl", "tensorboard"}


def test_a_line_that_a_kill_cut_short_is_removed(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "time": 0}\nnoise\n{"step": 2, "ti')
  with contextlib.closing(writers.create_writer(tmp_path, resumed_step=5)) as writer:
    writer.write_scalars(2, {"loss": 3.0})
  assert [line["step"] for line in _lines(path)] == [1, 2]


def test_an_unwritable_path_is_an_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written"):
    writers.JsonlWriter(tmp_path / "file" / "metrics.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")  # noqa: PTH110
def test_a_full_disk_is_one_line():
  writer = writers.JsonlWriter(Path("/dev/full"))
  with pytest.raises(UserError, match="/dev/full cannot be written: No space left on device"):
    writer.write_scalars(1, {"loss": 1.0})
  with pytest.raises(UserError, match="No space"):
    writer.close()


def test_a_writer_of_writers_forwards_everything_and_closes_all():
  calls = []

  class Recorder(writers.MetricWriter):
    def __init__(self, name, fails=False):
      self.name, self.fails = name, fails

    def write_scalars(self, step, scalars):
      calls.append((self.name, step, dict(scalars)))

    def write_image(self, step, name, image):
      calls.append((self.name, step, name))

    def flush(self):
      calls.append((self.name, "flush"))

    def close(self):
      calls.append((self.name, "close"))
      if self.fails:
        raise UserError("disk")

  writer = writers.MetricWriter(Recorder("a", fails=True), Recorder("b"))
  writer.write_scalars(1, {"x": 2.0})
  writer.write_image(1, "sheet", np.zeros((2, 2, 3), np.uint8))
  writer.flush()
  with pytest.raises(UserError, match="disk"):
    writer.close()
  expected = [(1, {"x": 2.0}), (1, "sheet"), ("flush",), ("close",)]
  assert calls == [(name, *call) for call in expected for name in ("a", "b")]


def test_a_new_run_starts_with_an_empty_file_and_a_resumed_one_continues_it(tmp_path):
  for resumed, expected in ((None, [1, 2]), (1, [1, 2]), (None, [1, 2])):
    writer = writers.create_writer(tmp_path, resumed_step=resumed)
    for step in (1, 2) if resumed is None else (2,):
      writer.write_scalars(step, {"loss": 0.0})
    writer.close()
    assert [line["step"] for line in _lines(tmp_path / writers.METRICS_FILE)] == expected


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(writers.jax, "process_index", lambda: 1)
  writer = writers.create_writer(tmp_path / "run", resumed_step=None)
  writer.write_scalars(1, {"loss": 1.0})
  writer.write_image(1, "sheet", np.zeros((2, 2, 3), np.uint8))
  writer.flush()
  writer.close()
  assert not (tmp_path / "run").exists()


def test_a_broken_tensorboard_does_not_stop_the_run(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
  writer = writers.create_writer(tmp_path, resumed_step=None)
  assert isinstance(writer, writers.JsonlWriter)
  writer.close()


@pytest.fixture
def read_events(monkeypatch):
  """A function that reads a folder of event files with TensorBoard's own reader, which then imports no TensorFlow."""
  monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
  accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  before = "tensorflow" in sys.modules  # Another test may have imported it.

  def read(folder):
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    assert ("tensorflow" in sys.modules) == before
    return events

  return read


def _points(events, name: str) -> list[tuple[int, float]]:
  return [(event.step, event.value) for event in events.Scalars(name)]


def test_event_files_hold_scalars_and_images(tmp_path, read_events):
  image = np.random.default_rng(0).integers(256, size=(4, 5, 3), dtype=np.uint8)
  writer = writers.create_writer(tmp_path, resumed_step=None)
  writer.write_scalars(7, {"disc/loss": 1.25, "gen/loss": -2.0})
  writer.write_scalars(8, {"disc/loss": 0.5})
  writer.write_image(8, "sheet", image)
  events = read_events(tmp_path / writers.TENSORBOARD_FOLDER)  # While the run continues.
  writer.close()
  assert _points(events, "disc/loss") == [(7, 1.25), (8, 0.5)]
  assert _points(events, "gen/loss") == [(7, -2.0)]
  (sheet,) = events.Images("sheet")
  assert (sheet.step, sheet.width, sheet.height) == (8, 5, 4)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sheet.encoded_image_string))), image)


def test_a_resumed_run_replaces_the_events_of_later_steps(tmp_path, read_events):
  for resumed, steps, loss in ((None, (1, 2, 3), 1.0), (1, (2,), 5.0)):
    writer = writers.create_writer(tmp_path, resumed_step=resumed)
    for step in steps:
      writer.write_scalars(step, {"loss": loss})
    writer.close()
  assert _points(read_events(tmp_path / writers.TENSORBOARD_FOLDER), "loss") == [(1, 1.0), (2, 5.0)]
