"""An export generates the images of its run, without this package; it is written atomically."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.gans import SampleOptions
from vidgen_jax.ops.video import to_model_range
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.sampling import export, exported
from vidgen_jax.runs.sampling.exported import load_export

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture(scope="module")
def generator(export_folder):
  return load_export(export_folder)


def inputs_for(generator, count, *, seed=0):
  random = np.random.default_rng(seed)
  shapes = {name: (count, *value["shape"][1:]) for name, value in generator.signature["inputs"].items()}
  return {
    "conditioning": random.integers(256, size=shapes["conditioning"], dtype=np.uint8),
    "latent": random.standard_normal(shapes["latent"]).astype(np.float32),
    "label": random.integers(2, size=shapes["label"]).astype(np.int32),
  }


def test_export_generates_the_images_of_the_run_for_any_batch_size(run_folder, generator):
  trained = workdir.load_trained(str(run_folder))
  experiment = trained.experiment
  options = experiment.options()
  nets = generation.prepare_nets(experiment, trained.nets, options=options, num_batches=2)
  inputs = inputs_for(generator, 8)
  sample_key = jax.random.key(7)
  inputs["latent"] = np.asarray(experiment.algorithm.latent(sample_key, 8))
  batch = experiment.put_batch({"conditioning": inputs["conditioning"], "label": inputs["label"]}, microbatches=False)
  expected = np.asarray(experiment.sample(nets, batch, sample_key, options=options))
  found = generator(**inputs)
  assert found.dtype == np.uint8
  assert found.shape == (8, 5, 16, 16, 3)
  assert generator.signature["conditioning_indices"] == [0, 1]
  np.testing.assert_array_equal(found[:, :2], inputs["conditioning"])
  np.testing.assert_array_equal(expected[:, :2], inputs["conditioning"])
  assert expected[:, 2:].std() > 1
  np.testing.assert_allclose(found.astype(int), expected, atol=1)
  assert np.mean(found != expected) < 0.01
  few = generator(**{name: value[:3] for name, value in inputs.items()})
  np.testing.assert_allclose(few.astype(int), expected[:3], atol=1)


def test_export_contains_the_averaged_weights(run_folder, generator):
  live, ema = (workdir.load_trained(str(run_folder), weights=weights) for weights in ("raw", "ema"))
  name = "generator/params/output/kernel"
  stored = np.asarray(generator.weights[name])
  np.testing.assert_array_equal(stored, export.flatten_nets(ema.nets)[name])
  assert not np.array_equal(stored, export.flatten_nets(live.nets)[name])


def test_clips_depend_on_latents_classes_and_conditioning_frames(generator):
  inputs = inputs_for(generator, 4)
  first = generator(**inputs)
  for name, changed in {
    "latent": -inputs["latent"],
    "label": 1 - inputs["label"],
    "conditioning": 255 - inputs["conditioning"],
  }.items():
    assert not np.array_equal(generator(**inputs | {name: changed})[:, 2:], first[:, 2:]), name


ALONE = """
import importlib.machinery as machinery
import sys
ALLOWED = {"jax", "jaxlib", "numpy", "flatbuffers", "scipy", "opt_einsum", "ml_dtypes"} | set(sys.stdlib_module_names)
class OnlyJaxAndNumpy(machinery.PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    first = name.split(".")[0]
    return super().find_spec(name, path, target) if first in ALLOWED or first.startswith("_sysconfigdata") else None
sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, OnlyJaxAndNumpy]
"""


def test_the_example_in_the_readme_needs_only_jax_and_numpy(export_folder, generator, tmp_path):
  (example,) = re.findall(r"```python\n(.*?)```", (export_folder / "README.md").read_text(), re.DOTALL)
  assert len([line for line in example.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
  check = f"\nnp.save({str(tmp_path / 'video.npy')!r}, video)\n"
  check += "assert not {'vidgen_jax', 'flax', 'absl', 'PIL'} & set(sys.modules)\n"
  environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XLA_FLAGS")}
  result = subprocess.run(
    [sys.executable, "-c", ALONE + example + check],
    cwd=export_folder,
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  forbidden = subprocess.run(
    [sys.executable, "-c", ALONE + "import absl"], capture_output=True, text=True, timeout=60, check=False
  )
  assert "No module named 'absl'" in forbidden.stderr
  expected = generator(
    np.zeros((2, 2, 16, 16, 3), np.uint8),
    np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32),
    np.zeros(2, np.int32),
  )
  np.testing.assert_allclose(np.load(tmp_path / "video.npy").astype(int), expected, atol=1)


def test_the_program_is_small_and_portable_with_a_symbolic_batch_size(generator, export_folder):
  program = generator.program
  assert set(program.platforms) == {"cpu", "cuda", "tpu"}
  assert [str(aval.shape[0]) for aval in program.in_avals[-3:]] == ["b", "b", "b"]
  assert [str(length) for length in program.out_avals[0].shape] == ["b", "5", "16", "16", "3"]
  # One loop per stage.
  assert program.mlir_module().count("stablehlo.while") == 2
  assert (export_folder / "generator.jaxexport").stat().st_size < 300_000


def test_the_signature_describes_inputs_and_origin(export_folder):
  signature = json.loads((export_folder / "signature.json").read_text())
  inputs = signature["inputs"]
  assert {name: (value["shape"], value["dtype"]) for name, value in inputs.items()} == {
    "conditioning": (["b", 2, 16, 16, 3], "uint8"),
    "latent": (["b", 4], "float32"),
    "label": (["b"], "int32"),
  }
  assert inputs["conditioning"]["range"] == [0, 255]
  assert inputs["label"]["range"] == [0, 1]
  assert signature["outputs"]["video"]["shape"] == ["b", 5, 16, 16, 3]
  assert (signature["format"], signature["conditioning_indices"]) == (3, [0, 1])
  assert (signature["step"], signature["weights"], signature["num_frames"]) == (4, "ema", 5)
  assert signature["class_names"] == ["up", "left"]
  statistics = signature["standing_statistics"]
  assert (statistics["batches"], statistics["batch_size"], statistics["num_frames"]) == (2, 8, 5)
  assert signature["versions"]["jax"] == jax.__version__


def test_weights_are_plain_arrays_that_unflatten_into_nets(export_folder):
  with np.load(export_folder / "weights.npz", allow_pickle=False) as stored:
    weights = {name: stored[name] for name in stored.files}
  assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
  assert {name.split("/")[1] for name in weights} == {"params", "batch_stats", "spectral_stats"}
  assert weights["generator/batch_stats/output_norm/mean"].shape == (3, 4)  # one row for each generated frame
  back = export.flatten_nets(export.unflatten_nets(weights))
  assert back.keys() == weights.keys()


@pytest.mark.parametrize(
  ("unit", "num_classes", "channels", "num_frames"), [("tsru_p", 1, 3, 5), ("conv_gru", 2, 1, 9)]
)
def test_every_unit_and_length_can_be_exported(unit, num_classes, channels, num_frames, run_config):
  algorithm = dataclasses.replace(run_config.algorithm, recurrent_unit=unit, num_classes=num_classes, channels=channels)
  data = dataclasses.replace(run_config.data, channels=channels)
  config = dataclasses.replace(run_config, algorithm=algorithm, data=data)
  experiment = build_experiment(config, devices=jax.devices()[:1])
  batch = {
    "conditioning": jax.ShapeDtypeStruct((2, 2, 16, 16, channels), jnp.uint8),
    "label": jax.ShapeDtypeStruct((2,), jnp.int32),
  }
  nets = experiment.abstract_state.ema
  moments = jax.eval_shape(
    lambda nets, batch, key: experiment.algorithm.batch_moments(
      nets, batch, key, options=SampleOptions(num_frames=num_frames)
    ),
    nets,
    batch,
    jax.random.key(0),
  )
  program = export.generator_program(config, export.flatten_nets(moments), num_frames=num_frames)
  assert [str(n) for n in program.out_avals[0].shape] == ["b", str(num_frames), "16", "16", str(channels)]
  assert len(program.serialize()) < 400_000


@dataclasses.dataclass(frozen=True)
class FakeConfig:
  conditioning: tuple[int, ...]
  sampling_means: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class FakeGan:
  """A fake algorithm: all frames except conditioning frames have the brightness of the latent."""

  config: FakeConfig

  def conditioning_indices(self, num_frames):
    return tuple(frame % num_frames for frame in self.config.conditioning)

  def latent(self, key, batch_size, *, truncation=None):
    random = jax.random.normal(key, (batch_size, 1)) if truncation is None else jnp.full((batch_size, 1), truncation)
    return random + sum(self.config.sampling_means)

  def predict(self, nets, batch, latent, *, num_frames):
    shape = (latent.shape[0], num_frames, *batch["conditioning"].shape[2:])
    video = jnp.broadcast_to((latent * nets["fake"].params["gain"]).reshape(-1, 1, 1, 1, 1), shape)
    return video.at[:, jnp.array(self.conditioning_indices(num_frames), int)].set(to_model_range(batch["conditioning"]))


@pytest.fixture
def export_fake(run_config, monkeypatch):
  """A function from the fake algorithm's config to its export."""
  monkeypatch.setitem(export.GANS, "fake", (FakeConfig, FakeGan))
  settings = {name: getattr(run_config, name) for name in ("name", "data", "evaluation")}
  settings["standing_data"] = dataclasses.replace(run_config.data, name="others")
  return lambda algorithm: exported_fake(SimpleNamespace(**settings, algorithm_name="fake", algorithm=algorithm))


def exported_fake(config):
  weights = {"fake/params/gain": np.ones((1, 1), np.float32)}
  program = export.generator_program(config, weights, num_frames=4)
  experiment = SimpleNamespace(config=config, algorithm=FakeGan(config.algorithm))
  trained = SimpleNamespace(experiment=experiment, step=7, weights="ema", class_names=(), is_conditional=False)
  signature = export.make_signature(trained, program, weights, num_frames=4)
  return exported.ExportedGenerator(signature=signature, weights=weights, program=program)


@pytest.mark.parametrize(
  ("conditioning", "frames", "listed"),
  [((0,), [0], "0"), ((0, -1), [0, 3], "0, 3"), ((0, 1, 3), [0, 1, 3], "0, 1, 3"), ((), [], "none")],
)
def test_conditioning_frames_keep_their_positions(conditioning, frames, listed, export_fake):
  generator = export_fake(FakeConfig(conditioning))
  assert generator.signature["conditioning_indices"] == frames
  assert generator.signature["standing_statistics"]["data"] == "others"
  assert f"clips of 4 frames. Conditioning frames, counted from 0: {listed}." in export.readme(generator.signature)
  latent, label = np.array([[-1], [0.2], [1]], np.float32), np.zeros(3, np.int32)
  shown = inputs_for(generator, 3)["conditioning"]
  found = generator(shown, latent, label)
  np.testing.assert_array_equal(found[:, frames], shown)
  others = [frame for frame in range(4) if frame not in frames]
  # (0.2 + 1) 127.5 = 153.
  np.testing.assert_array_equal(found[:, others, 5, 5, 1], [[value] * len(others) for value in (0, 153, 255)])


def test_the_program_adds_the_means_of_the_latents(export_fake):
  generator = export_fake(FakeConfig((), sampling_means=(0.2, 0.0)))
  shown = np.zeros((3, 0, 16, 16, 3), np.uint8)
  found = generator(shown, np.array([[-1.2], [0], [0.4]], np.float32), np.zeros(3, np.int32))
  # (0.6 + 1) 127.5 = 204.
  np.testing.assert_array_equal(found[:, 0, 5, 5, 1], [0, 153, 204])
  added = "the program adds algorithm.sampling_means=(0.2, 0.0)"
  signature = generator.signature
  assert signature["inputs"]["latent"]["meaning"].endswith(added)
  assert signature["standing_statistics"]["latent"] == f"standard normal, not truncated; {added}"


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("conditioning", np.zeros((2, 3, 16, 16, 3), np.uint8), r"Shape mismatch for args\[1\]"),
    ("conditioning", np.zeros((2, 2, 16, 16, 3), np.float32), r"Dtype mismatch for args\[1\]"),
    ("label", np.array([0, 2], np.int32), r"label must be in \[0, 1\], got 0 to 2"),
    ("label", np.array([-1, 1], np.int32), r"label must be in \[0, 1\], got -1 to 1"),
  ],
)
def test_errors_name_the_wrong_input(name, value, message, generator):
  with pytest.raises(ValueError, match=message):
    generator(**inputs_for(generator, 2) | {name: value})


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda folder: (folder / "signature.json").unlink(), "is not an export, signature.json is missing"),
    (lambda folder: cut(folder / "signature.json"), "signature.json cannot be read: "),
    (lambda folder: (folder / "weights.npz").unlink(), "is damaged: .*No such file"),
    (lambda folder: cut(folder / "weights.npz"), "is damaged: "),
    (lambda folder: cut(folder / "generator.jaxexport"), "cannot be read by jax"),
    (lambda folder: alter(folder / "signature.json", format=4), "has format 4, this version reads 3; update"),
    (lambda folder: alter(folder / "signature.json", format=2), "has format 2, .* reads 3; export the run again"),
    (lambda folder: alter(folder / "signature.json", platforms=["tpu"]), "runs on tpu, not on cpu"),
  ],
)
def test_a_damaged_export_is_one_line_of_error(damage, message, export_folder, tmp_path):
  folder = tmp_path / "copy"
  shutil.copytree(export_folder, folder)
  damage(folder)
  with pytest.raises(UserError, match=message):
    load_export(folder)


def test_only_exports_are_overwritten(run_folder, vidgen, tmp_path):
  out = tmp_path / "there"
  out.mkdir()
  (out / "precious.txt").write_text("mine")
  words = ("export", f"--workdir={run_folder}", f"--out={out}")
  assert "exists without signature.json, so this command did not write it" in vidgen(*words, "--overwrite")
  (out / exported.SIGNATURE_FILE).write_text("{}")
  assert vidgen(*words).endswith("exists; choose another folder or replace it with --overwrite")
  assert sorted(path.name for path in tmp_path.rglob("*")) == ["precious.txt", "signature.json", "there"]


def test_a_failed_export_leaves_the_old_one_unchanged(export_folder, run_folder, vidgen, tmp_path, monkeypatch):
  old = tmp_path / "old"
  shutil.copytree(export_folder, old)
  before = {path.name: path.read_bytes() for path in old.iterdir()}

  def full_disk(signature):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(export, "readme", full_disk)
  words = ("export", f"--workdir={run_folder}", f"--out={old}", "--overwrite")
  assert "old cannot be written: No space left on device" in vidgen(*words)
  assert {path.name: path.read_bytes() for path in old.iterdir()} == before
  assert [path.name for path in tmp_path.iterdir()] == ["old"]
  monkeypatch.undo()
  cut(old / "weights.npz")
  assert cli.dispatch(list(words)) == 0
  assert (old / "weights.npz").stat().st_size == len(before["weights.npz"])
  assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (("--step=3",), "has no checkpoint of step 3; it has [2, 4]"),
    (("--num_frames=2",), "num_frames=2 leaves nothing to predict after the 2 conditioning frames"),
    (("--data_dir=/nowhere",), "data set 'shape_motion' is not in /nowhere; build it with: "),
  ],
)
def test_errors_are_one_line(words, message, run_folder, vidgen, tmp_path):
  assert message in vidgen("export", f"--workdir={run_folder}", f"--out={tmp_path / 'out'}", *words)
  assert list(tmp_path.iterdir()) == []
