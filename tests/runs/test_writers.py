"""Writers: what stands in the file afterwards, also after a kill and a resume."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.runs import writers


def _lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def without_tensorboard(monkeypatch):
  monkeypatch.setattr(writers, "tensorboard_is_installed", lambda: False)


def test_lines_can_be_read_while_the_run_goes_on(tmp_path):
  path = tmp_path / "new" / "metrics.jsonl"
  writer = writers.JsonlWriter(path)
  writer.write_scalars(10, {"disc/loss": np.float32(1.5), "gen/loss": math.nan})
  (line,) = _lines(path)
  assert (line["step"], line["disc/loss"], line["gen/loss"]) == (10, 1.5, None)
  assert 1.6e9 < line["time"] < 1e11
  writer.close()


def test_truncate_after_leaves_no_duplicates(tmp_path):
  path = tmp_path / "metrics.jsonl"
  writer = writers.JsonlWriter(path)
  for step in (10, 20, 30):
    writer.write_scalars(step, {"loss": step})
  writer.write_scalars(20, {"eval/psnr": 1.0})
  writer.truncate_after(20)
  writer.write_scalars(30, {"loss": -1})
  writer.close()
  assert [(line["step"], line.get("loss")) for line in _lines(path)] == [(10, 10), (20, 20), (20, None), (30, -1)]
  assert list(tmp_path.iterdir()) == [path]


def test_a_line_cut_by_a_kill_is_dropped(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "time": 0}\nnoise\n{"step": 2, "ti')
  writer = writers.JsonlWriter(path)
  writer.truncate_after(5)
  writer.write_scalars(2, {"loss": 3.0})
  writer.close()
  assert [line["step"] for line in _lines(path)] == [1, 2]


def test_reserved_names_and_unwritable_places(tmp_path):
  writer = writers.JsonlWriter(tmp_path / "metrics.jsonl")
  with pytest.raises(ValueError, match="'time'"):
    writer.write_scalars(1, {"time": 2.0})
  writer.close()
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written"):
    writers.JsonlWriter(tmp_path / "file" / "metrics.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")  # noqa: PTH110
def test_a_full_disk_is_one_line():
  writer = writers.JsonlWriter("/dev/full")
  with pytest.raises(UserError, match="/dev/full cannot be written: No space left on device"):
    writer.write_scalars(1, {"loss": 1.0})
  with pytest.raises(UserError, match="No space"):
    writer.close()


def test_multi_writer_passes_on_and_closes_all():
  calls = []

  class Recorder(writers.NullWriter):
    def __init__(self, name, fails=False):
      self.name, self.fails = name, fails

    def write_scalars(self, step, scalars):
      calls.append((self.name, step, dict(scalars)))

    def write_images(self, step, images):
      calls.append((self.name, step, sorted(images)))

    def flush(self):
      calls.append((self.name, "flush"))

    def close(self):
      calls.append((self.name, "close"))
      if self.fails:
        raise UserError("disk")

  writer = writers.MultiWriter([Recorder("a", fails=True), Recorder("b")])
  writer.write_scalars(1, {"x": 2.0})
  writer.write_images(1, {"sheet": np.zeros((2, 2, 3), np.uint8)})
  writer.flush()
  with pytest.raises(UserError, match="disk"):
    writer.close()
  expected = [(1, {"x": 2.0}), (1, ["sheet"]), ("flush",), ("close",)]
  assert calls == [(name, *call) for call in expected for name in ("a", "b")]


def test_create_writer_for_a_new_and_a_resumed_run(tmp_path, without_tensorboard):
  for resumed, expected in ((None, [1, 2]), (1, [1, 2]), (None, [1, 2])):
    writer = writers.create_writer(tmp_path, is_lead=True, resumed_step=resumed)
    for step in (1, 2) if resumed is None else (2,):
      writer.write_scalars(step, {"loss": 0.0})
    writer.close()
    assert [line["step"] for line in _lines(tmp_path / writers.METRICS_FILE)] == expected


def test_other_processes_write_nothing(tmp_path):
  writer = writers.create_writer(tmp_path / "run", is_lead=False, resumed_step=None)
  writer.write_scalars(1, {"loss": 1.0})
  writer.write_images(1, {"sheet": np.zeros((2, 2, 3), np.uint8)})
  writer.flush()
  writer.close()
  assert not (tmp_path / "run").exists()


def test_a_broken_tensorboard_does_not_stop_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, "tensorboard_is_installed", lambda: True)
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  writer = writers.create_writer(tmp_path, is_lead=True, resumed_step=None)
  assert isinstance(writer, writers.JsonlWriter)
  writer.close()


_TENSORBOARD_RUN = """
import sys
import numpy as np
import vidgen_jax.media.curves, vidgen_jax.runs.parameters, vidgen_jax.media.images
import vidgen_jax.runs.progress, vidgen_jax.runs.writers
assert "tensorflow" not in sys.modules and "clu.metric_writers" not in sys.modules
writer = vidgen_jax.runs.writers.create_writer(sys.argv[1], is_lead=True, resumed_step=None)
writer.write_scalars(7, {"disc/loss": 1.25})
writer.write_images(7, {"sheet": np.full((4, 5, 3), 9, np.uint8)})
writer.close()
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf
events = EventAccumulator(sys.argv[1] + "/tensorboard", size_guidance={"tensors": 0})
events.Reload()
(loss,), (sheet,) = events.Tensors("disc/loss"), events.Tensors("sheet")
assert (loss.step, float(tf.make_ndarray(loss.tensor_proto))) == (7, 1.25)
image = tf.io.decode_png(tf.make_ndarray(sheet.tensor_proto)[2]).numpy()
assert image.shape == (4, 5, 3) and (image == 9).all()
assert not tf.config.get_visible_devices("GPU")
"""


@pytest.mark.skipif(not writers.tensorboard_is_installed(), reason="the extra [tensorboard] is not installed")
def test_tensorboard_holds_what_was_written(tmp_path):
  # In a process of its own: TensorFlow must not be imported into the tests' process.
  done = subprocess.run(
    [sys.executable, "-c", _TENSORBOARD_RUN, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / writers.METRICS_FILE).is_file()
