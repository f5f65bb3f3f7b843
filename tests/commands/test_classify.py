"""`vidgen classify`: one classifier, S3 of synthetic clips, refusals, texts."""

import contextlib
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from absl import flags

from tests.classifiers import NUM_TEST, SIZE
from vidgen_jax.commands import classify
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs import classifier as trainings
from vidgen_jax.scores.classifier.evaluation import Accuracy, accuracy
from vidgen_jax.scores.metrics.classifier_scores import s3_score
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

pytest_plugins = ["tests.classifier_fixtures"]


@pytest.fixture
def command(brightness_data, tiny_network, capsys):
  """A function that runs the command with a tiny training and returns its output."""
  del tiny_network
  tiny = {"width": 4, "num_frames": 3, "resolution": SIZE, "batch_size": 8, "learning_rate": 0.05, "epochs": 2}

  def run(**words: object) -> str:
    flag_values = flags.FlagValues()
    classify.define_flags(flag_values)
    words = {"data": "real", "data_dir": brightness_data} | tiny | words
    flag_values(["classify", *(f"--{name}={value}" for name, value in words.items())])
    classify.run(flag_values, [])
    return capsys.readouterr().out

  return run


@pytest.fixture
def make_config(brightness_data):
  """A function from the command's flags to the config of the real classifier."""
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])

  def config(*words):
    flag_values = flags.FlagValues()
    classify.define_flags(flag_values)
    window = ["--num_frames=3", f"--resolution={SIZE}", f"--data_dir={brightness_data}"]
    flag_values(["classify", "--data=real", "--out=unused", *window, *words])
    return classify.make_config(flag_values, "real", mesh)

  return config


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Folder of the runs that several tests share."""
  return tmp_path_factory.mktemp("runs")


def _scores(folder) -> dict[str, dict]:
  return {score["metric"]: score for score in map(json.loads, (folder / classify.SCORES_FILE).read_text().splitlines())}


def test_without_synthetic_clips_the_accuracy_is_the_only_score(command, tmp_path):
  text = command(out=tmp_path, random_flip=True)
  assert (tmp_path / "classifier.safetensors").exists() and not (tmp_path / "synthetic").exists()
  (score,) = _scores(tmp_path).values()
  assert score["metric"] == "accuracy" and score["subject"] == "real" and score["num_clips"] == 2 * NUM_TEST
  assert "accuracy, r3d18 width 4, 3 frames, 6x6, seed 0, best epoch on the test split" in text
  training = read_weight_file(tmp_path / "classifier.safetensors").details["training"]
  assert (training["dropout"], training["batch_size"], training["optimizer"]) == (0.6, 8, "sgd")


@pytest.fixture
def scored(command, folders):
  """Folder of a run with both classifiers and S3."""
  folder = folders / "s3"
  if not folder.exists():
    command(out=folder, synthetic="synthetic")
  return folder


def test_s3_is_computed_from_three_accuracies(scored, classifier_config):
  scores = _scores(scored)
  assert list(scores) == ["s3_rer", "s3_res", "s3_ser", "s3", "s3_chance"]
  # With two classes, guessing is right half of the time on both sides.
  assert scores["s3_chance"]["value"] == pytest.approx(0.5 / scores["s3_rer"]["value"])
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  real, synthetic = (
    read_weight_file(scored / folder / "classifier.safetensors") for folder in (".", classify.SYNTHETIC_FOLDER)
  )
  data = classifier_config.data
  other = dataclasses.replace(data, name="synthetic")
  expected = {
    "s3_rer": accuracy(real, data, "test", mesh).top1,
    "s3_res": accuracy(real, other, "test", mesh).top1,
    "s3_ser": accuracy(synthetic, data, "test", mesh).top1,
  }
  assert {name: scores[name]["value"] for name in expected} == expected
  rer, res, ser = expected.values()
  assert scores["s3"]["value"] == s3_score(ser=ser, res=res, rer=rer)
  # The synthetic classifier was trained on synthetic clips and tested on real ones.
  assert (synthetic.details["data"], synthetic.details["tested_on"]) == ("synthetic", "real")
  assert synthetic.hash != real.hash and synthetic.settings == real.settings
  assert scores["s3"]["extractor_hash"] == f"{real.short_hash}+{synthetic.short_hash}"
  assert scores["s3_ser"]["extractor_hash"] == synthetic.short_hash
  assert scores["s3"]["subject"] == scores["s3_res"]["subject"] == "synthetic" != scores["s3_rer"]["subject"]
  assert scores["s3"]["protocol"] == "s3, r3d18 width 4, 3 frames, 6x6, seed 0, best epoch on the test split"
  assert (scores["s3"]["num_clips"], scores["s3"]["num_generated"]) == (2 * NUM_TEST, 2 * NUM_TEST)
  assert (scores["s3_res"]["num_clips"], scores["s3_res"]["num_generated"]) == (0, 2 * NUM_TEST)


def test_the_real_classifier_classifies_the_synthetic_clips(scored, command, tmp_path, monkeypatch):
  shown = []

  def record(weights, data, split, mesh, **options):
    shown.append((weights.hash, data.name, split))
    return accuracy(weights, data, split, mesh, **options)

  monkeypatch.setattr(classify, "accuracy", record)
  folder = shutil.copytree(scored, tmp_path / "copy")
  command(out=folder, synthetic="synthetic")  # Both classifiers are complete.
  assert shown == [(read_weight_file(folder / "classifier.safetensors").hash, "synthetic", "test")]


def test_a_trained_classifier_can_be_reused(scored, command, tmp_path):
  text = command(out=tmp_path, classifier=scored / "classifier.safetensors")
  assert not (tmp_path / "classifier.safetensors").exists()
  assert _scores(tmp_path)["accuracy"]["value"] == _scores(scored)["s3_rer"]["value"]
  assert "accuracy" in text


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ({"width": 8}, "has width=4, not 8; pass --width=4"),
    ({"resolution": 5}, "has resolution=6, not 5; pass --resolution=6"),
    ({"seed": 1}, "has seed=0, not 1; pass --seed=0"),
    ({"data": "synthetic"}, "has data='real', not 'synthetic'; pass --data=real"),
    ({"resize": "squash"}, "has framing='smallest side 6, .*; pass the --resize and --resize_to of its training"),
    ({"init": "itself"}, "has init='', not '[0-9a-f]{12}'; pass the --init of its training"),
  ],
)
def test_a_classifier_of_other_settings_is_refused(words, message, scored, command, tmp_path):
  file = scored / "classifier.safetensors"
  with pytest.raises(UserError, match=message):
    command(out=tmp_path, classifier=file, **{name: file if word == "itself" else word for name, word in words.items()})


def stored_weights(file, network, *, settings=None, preprocessing=None, **fields):
  """Writes a weight file without layers."""
  texts, variables = {"source": "", "source_hash": ""}, {"params": {"w": np.zeros(1)}}
  found = {"settings": settings or {}, "preprocessing": preprocessing or {}}
  write_weight_file(file, WeightFile(network=network, variables=variables, **texts, **found, **fields))


@pytest.mark.parametrize(
  ("network", "stored", "words", "message"),
  [
    ("tsn", {"segments": 16}, [], "has segments=16, not 3; pass --segments=16"),
    ("tsn", {}, ["--segments=16"], "has segments=3, not 16; pass --segments=3"),
    ("tsn", {}, ["--segments=3"], None),
    ("r3d18", {"stem": "hara"}, [], "has stem='hara', not 'torchvision'; pass --stem=hara"),
    ("r3d18", {}, ["--stem=torchvision"], None),
    ("tsn", None, [], "has data=None, not 'real'; pass one that `vidgen classify` trained"),
  ],
)
def test_a_setting_that_is_left_out_is_its_default(network, stored, words, message, make_config, tmp_path):
  config, file = make_config(f"--network={network}", *words), tmp_path / "w.safetensors"
  base = {name: value for name, value in config.algorithm.settings.items() if name not in ("segments", "stem")}
  window = {**classify.window_of(config.data), "framing": config.data.framing}
  details = {} if stored is None else {"data": "real", "seed": 0}
  stored_weights(file, network, settings=base | (stored or {}), preprocessing=window, details=details)
  with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
    classify._read_classifier(str(file), config)


def test_an_imported_c3d_is_no_start(make_config, tmp_path):
  file = tmp_path / "c3d.safetensors"
  stored_weights(file, "c3d")
  with pytest.raises(UserError, match=r"imported C3D, whose input is BGR minus a mean clip.* leave out --init"):
    make_config("--network=c3d", f"--init={file}")
  stored_weights(file, "c3d", preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3, "resolution": SIZE})
  assert make_config("--network=c3d", f"--init={file}").algorithm.init


@pytest.mark.parametrize("preprocessing", [{}, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "resolution": SIZE}])
def test_initial_weights_choose_the_input(preprocessing, make_config, tmp_path):
  file = tmp_path / "resnet.safetensors"
  stored_weights(file, "tsn", preprocessing=preprocessing)
  found = make_config("--network=tsn", f"--init={file}").algorithm
  expected = {"mean": [0.5] * 3, "std": [0.5] * 3} | preprocessing
  assert (list(found.mean), list(found.std)) == (expected["mean"], expected["std"])
  assert found.init == read_weight_file(file).short_hash
  assert make_config("--network=tsn").algorithm.mean == (0.5,) * 3


def test_weights_of_another_network_and_segments_of_other_networks_are_refused(command, tmp_path):
  file = tmp_path / "tsn.safetensors"
  stored_weights(file, "tsn")
  with pytest.raises(UserError, match="holds weights of tsn, not of r3d18; pass --network=tsn"):
    command(out=tmp_path / "run", init=file)
  with pytest.raises(UserError, match="--segments applies to tsn, not to r3d18"):
    command(out=tmp_path / "run", segments=16)
  assert not (tmp_path / "run").exists()


def test_other_classes_are_refused_before_anything_is_trained(command, tmp_path):
  with pytest.raises(UserError, match="'others' has the classes light, medium, but data set 'real' has dark, light"):
    command(out=tmp_path / "run", synthetic="others")
  assert not (tmp_path / "run").exists()


def test_a_missing_data_set_names_the_command_that_builds_it(command, tmp_path):
  with pytest.raises(UserError, match=r"vidgen data build video_folder .* --name=absent"):
    command(out=tmp_path / "run", data="absent")
  with pytest.raises(UserError, match=r"vidgen data build video_folder .* --name=absent"):
    command(out=tmp_path / "run", synthetic="absent")
  assert not (tmp_path / "run").exists()


def test_published_settings_are_the_defaults(make_config):
  config = make_config
  r3d18, tsn = config(), config("--network=tsn", "--width=8")
  assert tsn.algorithm.settings | r3d18.algorithm.settings == {"num_classes": 2, "width": 64, "dropout": 0.6}
  assert config("--network=tsn", "--segments=16").algorithm.settings["segments"] == 16
  assert config("--stem=hara").algorithm.settings["stem"] == "hara"
  settings = r3d18.algorithm
  assert (r3d18.train.batch_size, settings.learning_rate, settings.dropout, settings.width) == (32, 1e-3, 0.6, 64)
  assert (settings.patience, settings.steps_per_epoch, r3d18.data.random_flip, r3d18.train.num_steps) == (
    4,
    1,
    False,
    100,
  )
  settings = tsn.algorithm
  assert (tsn.train.batch_size, settings.learning_rate, settings.dropout, settings.width) == (14, 1e-2, 0.8, 8)


def test_framing_applies_to_real_clips_only(brightness_data):
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  flag_values = flags.FlagValues()
  classify.define_flags(flag_values)
  words = ["--data=real", "--out=unused", f"--data_dir={brightness_data}", "--num_frames=3", f"--resolution={SIZE}"]
  flag_values(["classify", *words, "--resize=squash", "--resize_to=8"])
  framings = {}
  for name in ("real", "synthetic"):
    config = classify.make_config(flag_values, name, mesh)
    framings[name] = [(data.resize, data.resize_to) for data in (config.data, trainings._test_data(config))]
  squashed = ("squash", 8)
  assert framings == {"real": [squashed, squashed], "synthetic": [("smallest_side", 0), squashed]}
  config = classify.make_config(flag_values, "real", mesh)
  assert "6x6, squashed to 8x8, centre crop, seed 0" in classify.protocol(config, "s3")


def test_the_protocol_names_unusual_settings(classifier_config):
  data = dataclasses.replace(classifier_config.data, frame_stride=2, channels=1)
  algorithm = dataclasses.replace(classifier_config.algorithm, test_windows=3)
  train = dataclasses.replace(classifier_config.train, seed=7)
  config = dataclasses.replace(classifier_config, data=data, algorithm=algorithm, train=train)
  expected = "s3, r3d18 width 4, 3 frames, stride 2, 6x6, luma, 3 windows, seed 7, best epoch on the test split"
  assert classify.protocol(config, "s3") == expected


def test_windows_are_as_long_as_the_synthetic_clips(brightness_data, command, tmp_path):
  def length(*words):
    flag_values = flags.FlagValues()
    classify.define_flags(flag_values)
    flag_values(["classify", "--data=real", "--out=unused", f"--data_dir={brightness_data}", *words])
    return classify._window_length(flag_values)

  # The clips have 4 frames.
  assert [length(), length("--num_frames=3")] == [16, 3]
  assert [length("--synthetic=synthetic"), length("--synthetic=synthetic", "--frame_stride=2")] == [4, 2]
  message = r"needs clips of 5 frames, but those of --synthetic=synthetic have 4 .*; pass --num_frames=4"
  with pytest.raises(UserError, match=message):
    command(out=tmp_path / "run", synthetic="synthetic", num_frames=5)
  assert not (tmp_path / "run").exists()


def test_a_classifier_at_chance_is_reported(caplog):
  # Of 6 and 4 clips, the constant answer is right 6 times.
  constant = Accuracy(class_names=("a", "b"), confusion=np.array([[6, 0], [4, 0]]))
  assert classify._is_chance("ReR", constant)
  assert "ReR = 0.600 (6 of 10 clips) is not above chance (0.600 for the most frequent class; exact" in caplog.text
  # P(9 or more of 10 at 0.6) = 0.0464; P(8 or more) = 0.167.
  assert not classify._is_chance("ReR", Accuracy(class_names=("a", "b"), confusion=np.array([[6, 0], [1, 3]])))
  assert classify._is_chance("ReR", Accuracy(class_names=("a", "b"), confusion=np.array([[6, 0], [2, 2]])))


def test_the_confusion_matrix_as_text():
  text = classify.confusion_text(Accuracy(class_names=("a", "bend"), confusion=np.array([[3, 1], [0, 0]])))
  assert text.splitlines() == ["        a bend", "a       3    1   0.750", "bend    0    0   nan"]
