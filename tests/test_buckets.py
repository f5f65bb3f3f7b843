"""Which paths accept URLs; files in a bucket, through gcsfs and a local fake server."""

import contextlib
import importlib.util
import json
import logging
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from etils import epath

from experiments import trivd_shape_motion
from vidgen_jax import buckets, cli, files
from vidgen_jax.errors import UserError
from vidgen_jax.media.images import save_png
from vidgen_jax.runs import config as configs
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs import writers
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.writers import create_writer

pytest_plugins = ["tests.trained_runs", "tests.fake_storage"]
pytestmark = pytest.mark.usefixtures("nothing_local")

ROOT = Path(__file__).parents[1]


def test_local_paths_are_unchanged():
  for text in ("runs/a", "/runs/a:b", "~/runs", "a:/b", "./gs:/x"):
    assert buckets.user_path(text) == Path(text)
    assert not buckets.is_bucket(text)


@pytest.mark.parametrize(
  "text",
  ["s3://bucket/run", "az://bucket/run", "gs:/bucket/run", "gs:///run", "https://storage/run", "file:///tmp/run"],
)
def test_other_urls_and_malformed_urls_raise(text):
  with pytest.raises(UserError, match="is not supported; use a local path or gs://BUCKET/NAME"):
    buckets.user_path(text)
  with pytest.raises(UserError, match=r"--out=.* must be a local path"):
    buckets.local_path(text, "--out")


def test_epath_and_this_package_use_the_same_client(bucket):
  path = buckets.user_path(f"{bucket}/run") / "config.json"
  assert isinstance(path, epath.Path)
  assert str(path) == f"{bucket}/run/config.json"
  path.write_text("{}")
  assert buckets.read_text(path) == path.read_text() == "{}"


def test_clients_that_others_create_first_keep_no_listings():
  code = "import vidgen_jax.buckets, fsspec.config; print(fsspec.config.conf['gcs']['use_listings_cache'])"
  environment = {name: value for name, value in os.environ.items() if name != "FSSPEC_GCS"}
  assert subprocess.check_output([sys.executable, "-c", code], env=environment, cwd=ROOT, text=True) == "False\n"


def test_a_missing_client_is_named(monkeypatch):
  found = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gcsfs" else found(name))
  with pytest.raises(UserError, match=r"gs://bucket/run needs gcsfs: install vidgen_jax with the extra \[gcs\]"):
    workdirs.load_config("gs://bucket/run")


def _text_flags(command) -> list[str]:
  """Flags whose value is a text, or several."""
  values, kinds = flags.FlagValues(), ("string", "comma separated list of strings")
  importlib.import_module(cli.COMMANDS[command].module).define_flags(values)
  return [name for name in values if values[name].flag_type() in kinds or values[name].parser.flag_type() in kinds]


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_flag_of_every_command_accepts_or_rejects_buckets(command, bucket, vidgen):
  known = getattr(importlib.import_module(cli.COMMANDS[command].module), "BUCKET_FLAGS", ())
  assert set(known) <= {"workdir", "out"}
  required = {name: f"--{name}=x" for name in _text_flags(command)}
  checked = [name for name in required if name not in known]
  assert checked or command == "train"
  for name in checked:
    words = [word for other, word in required.items() if other != name] + [f"--{name}={bucket}/x"]
    if command in ("train", "bench"):
      words.insert(0, f"--config={ROOT}/experiments/trivd_shape_motion.py:smoke")
    elif command == "weights":
      words.insert(0, "show")
    assert f"--{name}={bucket}/x must be a local path" in vidgen(command, *words)


def test_config_fields_and_arguments_reject_urls(bucket, vidgen, repository, tmp_path):
  file = tmp_path / "experiment.py"
  lines = ["from ml_collections import ConfigDict", "def get_config(variant):"]
  file.write_text("\n".join([*lines, "  return ConfigDict({'part': {'paths': ('a', variant)}})"]))
  message = vidgen("train", f"--config={file}:{bucket}/x", "--workdir=run")
  assert message.startswith(f"--config.part.paths={bucket}/x must be a local path")
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  words = ["train", config, f"--workdir={bucket}/run"]
  message = f"--config.data.data_dir={bucket}/data must be a local path; only runs can be in a bucket"
  assert message in vidgen(*words, f"--config.data.data_dir={bucket}/data")
  assert vidgen("data", "build", f"{bucket}/data").startswith(f"{bucket}/data must be a local path")


def test_a_missing_bucket_is_reported(storage, vidgen, tmp_path):
  path = "gs://no-such-bucket/run"
  with pytest.raises(UserError, match=r"no-such-bucket/run/config.json cannot be written: the bucket does not exist"):
    workdirs.claim(path, _config())
  message = vidgen("export", f"--workdir={path}", f"--out={tmp_path / 'out'}")
  assert message == f"--workdir={path} has no config.json: no run was started there"


def _config() -> configs.ExperimentConfig:
  return configs.from_config_dict(trivd_shape_motion.get_config("smoke"))


def test_a_forbidden_bucket_is_reported(storage, bucket):
  storage.fault = lambda request: 403
  with pytest.raises(UserError, match=r"config.json cannot be read: Forbidden: .*; check its name and permissions"):
    workdirs.claim(f"{bucket}/run", _config())


def _objects(storage, bucket) -> dict[str, bytes]:
  return storage.buckets[bucket.removeprefix("gs://")]


def test_files_are_written_atomically(storage, bucket):
  save_png(f"{bucket}/run/a.png", np.zeros((4, 4, 3), np.uint8))
  assert _objects(storage, bucket)["run/a.png"].startswith(b"\x89PNG")
  with pytest.raises(ZeroDivisionError), files.atomic_write(f"{bucket}/run/b.txt") as temporary:
    temporary.write_text("half")
    raise ZeroDivisionError
  large = np.random.default_rng(0).bytes(60 << 20)  # goes up in parts
  with files.atomic_write(f"{bucket}/run/c.bin") as temporary:
    temporary.write_bytes(large)
    assert "run/c.bin" not in _objects(storage, bucket)
  assert set(_objects(storage, bucket)) == {"run/a.png", "run/c.bin"}
  assert _objects(storage, bucket)["run/c.bin"] == large


def _write_folder(url, text, **options):
  with files.atomic_write_dir(url, marker="index.json", **options) as folder:
    (folder / "index.json").write_text(text)
    (folder / "z").mkdir()
    (folder / "z" / "part").write_text(text)


def test_a_folder_is_uploaded_marker_last_and_replaced_only_with_overwrite(storage, bucket):
  url = f"{bucket}/out"
  storage.requests.clear()
  _write_folder(url, "first", overwrite=False)
  assert [request.name for request in storage.requests if request.action == "write"] == ["out/z/part", "out/index.json"]
  with pytest.raises(UserError, match="out exists; choose another folder or replace it with --overwrite"):
    _write_folder(url, "second", overwrite=False)
  storage.put(bucket.removeprefix("gs://"), "out/old", b"")
  _write_folder(url, "second", overwrite=True)
  assert _objects(storage, bucket) == {"out/index.json": b"second", "out/z/part": b"second"}
  storage.put(bucket.removeprefix("gs://"), "other/file", b"")
  with pytest.raises(UserError, match="this command did not write it"):
    _write_folder(f"{bucket}/other", "third", overwrite=True)


def test_text_is_appended(storage, bucket, tmp_path):
  for path in (f"{bucket}/run/scores.jsonl", tmp_path / "run" / "scores.jsonl"):
    files.append_text(path, "a\n")
    files.append_text(path, "b\n")
    assert buckets.read_text(buckets.user_path(path)) == "a\nb\n"


def test_a_second_training_is_warned_about_the_first(storage, bucket, caplog):
  url, name = f"{bucket}/run", "run/.lock"
  with workdirs.exclusive(url):
    first = _objects(storage, bucket)[name]
    with caplog.at_level(logging.WARNING), workdirs.exclusive(url):
      assert "does not lock" in caplog.text
      assert f"{first.decode()} started, and is running or was killed" in caplog.text
      _objects(storage, bucket)[name] = b"a third one"
    assert _objects(storage, bucket)[name] == b"a third one"
    _objects(storage, bucket)[name] = first
  assert name not in _objects(storage, bucket)
  caplog.clear()
  with workdirs.exclusive(url):
    assert caplog.text.count("does not lock") == 1
    assert "was killed" not in caplog.text


def test_checkpoints_of_other_processes_are_visible_at_once(storage, bucket):
  """gcsfs would remember what it has listed."""
  with Checkpointer(f"{bucket}/run") as training:
    for step in (1, 2):
      training.save(step, {"x": jnp.ones(2)}, {}, {})
      training.wait()
      with Checkpointer(f"{bucket}/run", read_only=True) as following:
        assert following.steps()[-1] == step
  objects = _objects(storage, bucket)
  for name in list(objects):  # by another machine
    objects[name.replace("step_2", "step_3")] = objects[name]
    storage.generations[bucket.removeprefix("gs://"), name.replace("step_2", "step_3")] = 1
  with Checkpointer(f"{bucket}/run", read_only=True) as following:
    assert following.steps() == [1, 2, 3]
  for name in [name for name in objects if name.endswith("step_3/commit_success.txt")]:
    del objects[name]
  with Checkpointer(f"{bucket}/run", read_only=True) as following:
    assert following.steps() == [1, 2], "a checkpoint that was cut off is none"


def _lines(storage, bucket) -> list[int]:
  return [json.loads(line)["step"] for line in _objects(storage, bucket)["run/metrics.jsonl"].splitlines()]


def _uploading(bucket, every) -> writers.UploadingWriter:
  folder = buckets.user_path(f"{bucket}/run")
  return writers.UploadingWriter(folder, lambda local: writers.JsonlWriter(local / "metrics.jsonl"), every=every)


def test_metrics_are_uploaded_when_flushed_and_closed(storage, bucket):
  with contextlib.closing(_uploading(bucket, math.inf)) as writer:
    assert _lines(storage, bucket) == []
    writer.write_scalars(1, {"loss": 1.0})
    assert _lines(storage, bucket) == []
    writer.flush()
    assert _lines(storage, bucket) == [1]
    storage.requests.clear()
    writer.flush()
    assert storage.requests == []
    writer.write_scalars(2, {"loss": 1.0})
  assert _lines(storage, bucket) == [1, 2]


def _wait_until(condition) -> None:
  deadline = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.005)


def test_metrics_are_uploaded_in_the_background_and_retried_after_a_failure(storage, bucket, caplog):
  with contextlib.closing(_uploading(bucket, 0.0)) as writer:
    writer.write_scalars(1, {"loss": 1.0})
    _wait_until(lambda: _lines(storage, bucket) == [1])
    storage.fault = lambda request: 403
    _wait_until(lambda: writer.write_scalars(2, {"loss": 1.0}) or "Forbidden" in caplog.text)
    with pytest.raises(UserError, match=r"metrics.jsonl cannot be written: Forbidden"):
      writer.flush()
    storage.fault = lambda request: None
    writer.write_scalars(3, {"loss": 1.0})
    _wait_until(lambda: _lines(storage, bucket)[-1] == 3)


def test_metrics_of_repeated_steps_are_dropped_from_the_bucket(storage, bucket, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
  storage.put(bucket.removeprefix("gs://"), "run/metrics.jsonl", b'{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
  with contextlib.closing(create_writer(f"{bucket}/run", resumed_step=2)):
    assert _lines(storage, bucket) == [1, 2]
