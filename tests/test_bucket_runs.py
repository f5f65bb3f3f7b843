"""Runs in a bucket, through the real clients and a local server: trained, resumed, damaged, sampled."""

import dataclasses
import importlib.util
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import trivd_shape_motion
from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.commands.train import train
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import from_config_dict
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.workdir import load_config

pytest_plugins = ["tests.trained_runs", "tests.fake_storage"]


pytestmark = pytest.mark.usefixtures("nothing_local")


def _with_train(config, **fields):
  return dataclasses.replace(config, train=dataclasses.replace(config.train, **fields))


def _saved(workdir, step, config) -> dict[str, np.ndarray]:
  """Every array of a checkpoint, by path."""
  with Checkpointer(str(workdir), read_only=True) as checkpointer:
    state = checkpointer.restore(build_experiment(config).abstract_state, step=step).state
  state = state.replace(key=jax.random.key_data(state.key))
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def _assert_bitwise_equal(first, second):
  assert first.keys() == second.keys()
  for name, value in first.items():
    np.testing.assert_array_equal(second[name], value, err_msg=name)


def _objects(storage, url) -> dict[str, bytes]:
  """Contents of a folder in a bucket, by name."""
  bucket, _, prefix = url.removeprefix("gs://").partition("/")
  found = storage.buckets[bucket]
  return {name.removeprefix(prefix + "/"): found[name] for name in sorted(found) if name.startswith(prefix + "/")}


def _upload(storage, folder: Path, url: str) -> None:
  """Copies a folder as `gcloud storage cp --recursive` does."""
  bucket, _, prefix = url.removeprefix("gs://").partition("/")
  for path in folder.rglob("*"):
    if path.is_file():
      storage.put(bucket, f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def _download(storage, url: str, folder: Path) -> None:
  for name, content in _objects(storage, url).items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _steps(text: bytes | str) -> list[int]:
  """Steps whose losses a metrics file holds."""
  return [line["step"] for line in map(json.loads, text.splitlines()) if "disc/loss" in line]


@pytest.fixture(scope="module")
def tiny_config(run_config):
  """The tiny experiment with four steps."""
  config = trivd_shape_motion.get_config("smoke")
  changes = {"data.data_dir": run_config.data.data_dir, "train.image_every": 0, "train.evaluate_every": 0}
  config.update_from_flattened_dict(TINY | changes | {"data.resolution": 16})  # the minimum for SSIM
  return from_config_dict(config)


@pytest.fixture(scope="module")
def local_run(tiny_config, tmp_path_factory) -> Path:
  """An uninterrupted run on the local disk, with checkpoints of steps 2 and 4."""
  folder = tmp_path_factory.mktemp("local")
  train(tiny_config, str(folder))
  return folder


@pytest.fixture(scope="module")
def run_url(storage, tiny_config, nothing_local):
  """A run in a bucket that was trained for two steps and resumed to the fourth."""
  storage.buckets["runs-of-all"] = {}
  url = "gs://runs-of-all/deep/run"
  train(_with_train(tiny_config, num_steps=2), url, profile=True)
  train(tiny_config, url)
  return url


def test_a_run_in_a_bucket_resumes_bitwise_as_a_local_one(storage, run_url, local_run, tiny_config, tmp_path):
  expected = _saved(local_run, 4, tiny_config)
  _assert_bitwise_equal(expected, _saved(run_url, 4, tiny_config))
  objects = _objects(storage, run_url)
  assert _steps(objects["metrics.jsonl"]) == [1, 2, 3, 4]
  assert objects["config.json"] == (local_run / "config.json").read_bytes()
  assert any(name.startswith("profile/") and name.endswith(".xplane.pb") for name in objects)
  assert ".lock" not in objects
  assert any(name.startswith("tensorboard/") for name in objects) == (
    importlib.util.find_spec("tensorboard") is not None
  )
  # A copy of the bucket is a run on the local disk.
  _download(storage, run_url, tmp_path / "copy")
  _assert_bitwise_equal(expected, _saved(tmp_path / "copy", 4, tiny_config))
  assert load_config(str(tmp_path / "copy")) == load_config(run_url)


@pytest.mark.slow
def test_a_copied_run_resumes_in_a_bucket_with_transient_errors(storage, bucket, local_run, tiny_config, caplog):
  url = f"{bucket}/run"
  _upload(storage, local_run, url)
  name = bucket.removeprefix("gs://")
  for damaged in [name for name in storage.buckets[name] if "/step_4/state/" in name and "/d/" in name]:
    storage.buckets[name][damaged] = storage.buckets[name][damaged][:-50]
  failed, seen = set(), {}

  def fault(request):
    """Each kind of request of each client fails once; a complete checkpoint must have its metrics."""
    if request.name.endswith("step_4/commit_success.txt") and request.action == "write":
      seen["steps"] = _steps(storage.buckets[name]["run/metrics.jsonl"])
    kind = (request.client, request.action)
    if kind in failed:
      return None
    failed.add(kind)
    return 503

  storage.fault = fault
  with caplog.at_level("WARNING"):
    train(tiny_config, url)
  assert failed >= {(client, action) for client in ("gcsfs", "tensorstore") for action in ("read", "write")}
  assert failed >= {*(("gcsfs", action) for action in ("metadata", "list", "begin", "delete")), ("other", "bucket")}
  assert "checkpoint of step 4 cannot be read and is skipped" in caplog.text
  assert seen["steps"] == [1, 2, 3, 4]
  _assert_bitwise_equal(_saved(local_run, 4, tiny_config), _saved(url, 4, tiny_config))
  assert _steps(_objects(storage, url)["metrics.jsonl"]) == [1, 2, 3, 4]


def test_a_run_in_a_bucket_is_followed_and_sampled_from(storage, run_url, capfd):
  follow = ["evaluate", f"--workdir={run_url}", "--follow", "--best_metric=psnr", "--num_clips=8", "--patience=0"]
  assert cli.dispatch(follow) == 0
  objects = _objects(storage, run_url)
  rows = [json.loads(line) for line in objects["scores.jsonl"].splitlines()]
  psnr = {row["step"]: row["value"] for row in rows if (row["subject"], row["metric"]) == ("model", "psnr")}
  assert list(psnr) == [2, 4]
  best = json.loads(objects["best/best.json"])["step"]
  assert psnr[best] == max(psnr.values())
  assert any(name.startswith("evaluation/contact_sheet_") for name in objects)
  assert not [name for name in objects if name.startswith(".following")]
  # Another follower has nothing left to score.
  assert cli.dispatch(follow) == 0
  assert _objects(storage, run_url)["scores.jsonl"] == objects["scores.jsonl"]
  out = f"{run_url}/samples"
  words = ["sample", f"--workdir={run_url}/best", "--num_clips=2", f"--out={out}", "--formats=mp4"]
  assert cli.dispatch(words) == 0
  samples = np.load(io.BytesIO(_objects(storage, out)["samples.npz"]))["samples"]
  assert samples.shape[:2] == (2, 1)
  assert {"contact_sheet.png", "samples.gif", "clips/clip_000_sample_00.mp4"} <= set(_objects(storage, out))
  assert cli.dispatch(words) == 2
  assert f"{out} exists; choose another folder or replace it with --overwrite" in capfd.readouterr().err
