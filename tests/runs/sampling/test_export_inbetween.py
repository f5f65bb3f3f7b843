"""The export of a model conditioned on the first and the last frame."""

import json

import jax
import numpy as np
import pytest

from vidgen_jax import cli
from vidgen_jax.runs import generation, workdir
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.sampling import export
from vidgen_jax.runs.sampling.exported import load_export

pytest_plugins = ("tests.trained_runs",)


@pytest.fixture(scope="module")
def folder(inbetween_folder, tmp_path_factory):
  out = tmp_path_factory.mktemp("exports") / "between"
  assert cli.dispatch(["export", f"--workdir={inbetween_folder}", f"--out={out}"]) == 0
  return out


@pytest.fixture(scope="module")
def generator(folder):
  return load_export(folder)


@pytest.fixture(scope="module")
def inputs():
  random = np.random.default_rng(0)
  return {
    "conditioning": random.integers(256, size=(8, 2, 16, 16, 3), dtype=np.uint8),
    "latent": random.standard_normal((8, 4)).astype(np.float32),
    "label": np.zeros(8, np.int32),
  }


def test_the_export_generates_the_images_of_the_run_for_any_batch_size(inbetween_folder, generator, inputs):
  trained = workdir.load_trained(str(inbetween_folder))
  config, options = trained.experiment.config, trained.experiment.options()
  nets = generation.prepare_nets(trained.experiment, trained.nets, options=options, num_batches=2)
  nets = jax.device_get(nets)
  weights = export.flatten_nets(nets)
  assert weights.keys() == generator.weights.keys()
  for name, value in weights.items():
    np.testing.assert_array_equal(generator.weights[name], value, err_msg=name)
  # On one device like the export, since matrix products of one clip and of eight differ by rounding.
  experiment = build_experiment(config, devices=jax.devices()[:1])
  key = jax.random.key(7)
  inputs = inputs | {"latent": np.asarray(experiment.algorithm.latent(key, 8))}
  batch = experiment.put_batch({name: inputs[name] for name in ("conditioning", "label")}, microbatches=False)
  expected = np.asarray(experiment.sample(nets, batch, key, options=options))
  assert expected[:, 1:-1].std() > 1
  for count in (8, 3):
    found = generator(**{name: value[:count] for name, value in inputs.items()})
    # Two programs differ by rounding, and so by one level in a few pixels.
    difference = np.abs(found.astype(int) - expected[:count])
    assert difference.max() <= 1
    assert np.mean(difference) < 1e-3


def test_both_conditioning_frames_keep_their_positions_and_influence_the_others(generator, inputs):
  assert generator.signature["conditioning_indices"] == [0, 7]
  found = generator(**inputs)
  assert (found.shape, found.dtype) == ((8, 8, 16, 16, 3), np.uint8)
  np.testing.assert_array_equal(found[:, [0, 7]], inputs["conditioning"])
  first, last = inputs["conditioning"].copy(), inputs["conditioning"].copy()
  first[:, 0], last[:, 1] = 255 - first[:, 0], 255 - last[:, 1]
  for name, value in (("conditioning", first), ("conditioning", last), ("latent", -inputs["latent"])):
    assert not np.array_equal(generator(**inputs | {name: value})[:, 1:-1], found[:, 1:-1])


def test_the_program_is_portable_with_a_symbolic_batch_size(generator):
  program = generator.program
  assert set(program.platforms) == {"cpu", "cuda", "tpu"}
  assert [str(aval.shape[0]) for aval in program.in_avals[-3:]] == ["b", "b", "b"]
  assert [str(length) for length in program.out_avals[0].shape] == ["b", "8", "16", "16", "3"]
  # One loop, though the two levels have one and two blocks.
  assert program.mlir_module().count("stablehlo.while") == 1


def test_signature_and_readme_name_the_conditioning_frames(folder):
  signature = json.loads((folder / "signature.json").read_text())
  assert (signature["algorithm"], signature["conditioning_indices"], signature["num_frames"]) == (
    "inbetween",
    [0, 7],
    8,
  )
  assert signature["inputs"]["conditioning"]["shape"] == ["b", 2, 16, 16, 3]
  assert signature["inputs"]["label"]["range"] == [0, 0]
  text = (folder / "README.md").read_text()
  assert "Generates clips of 8 frames. Conditioning frames, counted from 0: 0, 7." in text
  assert "The model has no classes: `label` is 0." in text
