"""Trainings of a tiny classifier through the common loop: result, resume, best epoch, refusals."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests.classifiers import NUM_TEST, NUM_TRAIN, OneWeight
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs import classifier as trainings
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.classifier import WEIGHTS_FILE, classifier_experiment, train_classifier
from vidgen_jax.runs.experiment import TrainingExperiment
from vidgen_jax.runs.monitor import MetricLog
from vidgen_jax.scores.classifier.algorithm import Classifier
from vidgen_jax.scores.classifier.evaluation import Accuracy, accuracy
from vidgen_jax.scores.weights.weight_file import read_weight_file

pytest_plugins = ["tests.classifier_fixtures"]


@pytest.fixture(scope="module")
def mesh():
  return make_mesh(MeshConfig())


def _leaves(tree) -> dict[str, np.ndarray]:
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _assert_equal(first, second) -> None:
  first, second = _leaves(first), _leaves(second)
  assert first.keys() == second.keys()
  for name, leaf in first.items():
    np.testing.assert_array_equal(leaf, second[name], err_msg=name)


def _rows(folder, field: str) -> dict[int, float]:
  lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return {line["step"]: line[field] for line in lines if field in line}


def _with(config, **settings):
  return dataclasses.replace(config, algorithm=dataclasses.replace(config.algorithm, **settings))


@pytest.fixture(scope="module")
def trained(classifier_config, mesh, tmp_path_factory):
  """(result, folder) of an uninterrupted training on eight devices. Tests must not change the folder."""
  folder = tmp_path_factory.mktemp("uninterrupted")
  return train_classifier(classifier_config, str(folder), mesh), folder


def test_a_training_learns_and_leaves_a_weight_file(trained, classifier_config):
  result, folder = trained
  assert result.accuracy.top1 == 1.0 and result.accuracy.num_clips == 2 * NUM_TEST
  losses, accuracies = _rows(folder, "train/loss"), _rows(folder, "test/accuracy")
  assert list(losses) == list(accuracies) == [3, 6, 9]  # ceil(24 / 8) = 3 steps per epoch
  assert losses[9] < 0.7 * losses[3]
  assert _rows(folder, "epoch") == {3: 1, 6: 2, 9: 3} and set(_rows(folder, "learning_rate").values()) == {0.05}
  assert all(result.weights.variables["batch_stats"]["BatchNorm_0"]["mean"] != 0)
  stored = read_weight_file(folder / WEIGHTS_FILE)
  _assert_equal(stored.variables, result.weights.variables)
  assert stored.hash == result.weights.hash
  assert stored.class_names == ("dark", "light") and stored.network == "r3d18"
  assert stored.preprocessing["mean"] == [0.5] * 3 and stored.preprocessing["num_frames"] == 3
  details = stored.details
  assert (details["data"], details["accuracy"], details["epochs"], details["steps"]) == ("real", 1.0, 3, 9)
  assert details["last_accuracy"] == accuracies[9]
  assert details["confusion"] == [[NUM_TEST, 0], [0, NUM_TEST]] and "selected on the test split" in details["selection"]
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:2])
  assert accuracy(stored, classifier_config.data, "test", mesh).top1 == 1.0


def test_one_device_and_eight_agree(trained, classifier_config, tmp_path):
  result, folder = trained
  single = train_classifier(classifier_config, str(tmp_path), make_mesh(MeshConfig(), devices=jax.devices()[:1]))
  assert _rows(tmp_path, "train/loss") == pytest.approx(_rows(folder, "train/loss"), abs=1e-5)
  for field in ("train/accuracy", "test/accuracy"):
    assert _rows(tmp_path, field) == _rows(folder, field)
  found, expected = _leaves(single.weights.variables), _leaves(result.weights.variables)
  for name, leaf in found.items():
    np.testing.assert_allclose(leaf, expected[name], atol=1e-5, err_msg=name)


def _saved(folder, config, mesh):
  """The latest state, data iterator state and meta data."""
  experiment = TrainingExperiment(config=config, algorithm=Classifier(config=config.algorithm), mesh=mesh)
  with Checkpointer(str(folder), read_only=True) as checkpointer:
    restored = checkpointer.restore(experiment.abstract_state)
  return restored.state.replace(key=jax.random.key_data(restored.state.key)), restored.data_state, restored.meta


@pytest.mark.parametrize("stop_after", [5, 6])  # Within the second epoch, and at its end.
def test_a_signal_saves_and_the_training_resumes_bitwise(
  stop_after, trained, classifier_config, mesh, tmp_path, monkeypatch
):
  result, folder = trained
  add, steps = MetricLog.add, []

  def send_signal(self, step, values):
    steps.append(step)
    if step == stop_after - 1:  # Fetched while the next step runs.
      os.kill(os.getpid(), signal.SIGTERM)
    return add(self, step, values)

  monkeypatch.setattr(MetricLog, "add", send_signal)
  assert train_classifier(classifier_config, str(tmp_path), mesh) is None
  assert steps == list(range(1, stop_after + 1))
  assert "last_accuracy" not in read_weight_file(tmp_path / WEIGHTS_FILE).details
  resumed = train_classifier(classifier_config, str(tmp_path), mesh)
  assert steps == list(range(1, 10))
  assert resumed.weights.details == result.weights.details
  _assert_equal(resumed.weights.variables, result.weights.variables)
  (state, *rest), (expected, *expected_rest) = (_saved(path, classifier_config, mesh) for path in (tmp_path, folder))
  _assert_equal(state, expected)
  assert rest == expected_rest
  for field in ("train/loss", "test/accuracy"):
    assert _rows(tmp_path, field) == _rows(folder, field)


def test_a_complete_training_is_only_read_again(trained, classifier_config, mesh, monkeypatch):
  result, folder = trained
  monkeypatch.setattr(TrainingExperiment, "compile_step", None)
  again = train_classifier(classifier_config, str(folder), mesh)
  assert again.weights.details == result.weights.details
  np.testing.assert_array_equal(again.accuracy.confusion, result.accuracy.confusion)
  _assert_equal(again.weights.variables, result.weights.variables)


def _with_test_accuracies(monkeypatch, values: list[float]) -> list:
  """Replaces the test accuracies of the epochs; returns a list of the tested variables."""
  values, seen = iter(values), []

  def count(self, variables):
    seen.append(jax.tree.map(np.array, variables))
    right = round(10 * next(values))
    return np.array([[right, 10 - right], [0, 0]])

  monkeypatch.setattr(trainings.ConfusionCounter, "__call__", count)
  return seen


def test_the_best_epoch_is_kept_not_the_last(classifier_config, mesh, tmp_path, monkeypatch):
  seen = _with_test_accuracies(monkeypatch, [0.5, 0.9, 0.8])
  best = train_classifier(classifier_config, str(tmp_path), mesh)
  assert (best.weights.details["best_epoch"], best.weights.details["best_step"]) == (2, 6)
  assert (best.accuracy.top1, best.weights.details["last_accuracy"]) == (0.9, 0.8)
  _assert_equal(best.weights.variables, seen[1])
  assert any((leaf != _leaves(seen[2])[name]).any() for name, leaf in _leaves(seen[1]).items())


def test_plateaus_lower_the_learning_rate_and_end_the_training(classifier_config, mesh, tmp_path, monkeypatch):
  _with_test_accuracies(monkeypatch, [0.5] * 9)
  config = dataclasses.replace(classifier_config, train=dataclasses.replace(classifier_config.train, num_steps=27))
  config = _with(config, patience=1, max_reductions=2)
  found = train_classifier(config, str(tmp_path), mesh)
  # The first epoch is the best; each later one is a plateau.
  assert _rows(tmp_path, "learning_rate") == {3: 0.05, 6: 0.05, 9: pytest.approx(0.005)}
  details = found.weights.details
  assert (details["epochs"], details["best_epoch"], details["reductions"]) == (3, 1, 2)
  assert train_classifier(config, str(tmp_path), mesh).weights.details == details


def test_the_folder_of_other_settings_is_refused(trained, classifier_config, mesh):
  data = dataclasses.replace(classifier_config.data, frame_stride=2, num_frames=2)
  other = _with(dataclasses.replace(classifier_config, data=data), dropout=0.1)
  message = r"algorithm\.dropout was 0\.3, is 0\.1; config\.data\.frame_stride was 1, is 2; .*; choose another folder"
  with pytest.raises(UserError, match=message):
    train_classifier(other, str(trained[1]), mesh)


def test_a_longer_training_resumes(trained, classifier_config, mesh, tmp_path):
  folder = shutil.copytree(trained[1], tmp_path / "copy")
  longer = dataclasses.replace(classifier_config, train=dataclasses.replace(classifier_config.train, num_steps=12))
  train_classifier(longer, str(folder), mesh)
  losses = _rows(folder, "train/loss")
  assert list(losses) == [3, 6, 9, 12] and losses | _rows(trained[1], "train/loss") == losses


def test_a_loss_that_is_not_finite_names_the_step_and_the_remedy(classifier_config, mesh, tmp_path):
  with pytest.raises(UserError, match=r"became (nan|inf) at step \d; .* lower --learning_rate than 1e\+30"):
    train_classifier(_with(classifier_config, learning_rate=1e30), str(tmp_path), mesh)


def test_test_clips_of_other_classes_are_refused_before_the_training(classifier_config, mesh, tmp_path):
  with pytest.raises(UserError, match="'others' has the classes light, medium, but the training data set 'real' has"):
    train_classifier(_with(classifier_config, test_data="others"), str(tmp_path / "run"), mesh)
  assert not (tmp_path / "run").exists()


def test_pretrained_weights_replace_all_new_ones(trained, classifier_config, mesh):
  weights = trained[0].weights
  experiment = TrainingExperiment(classifier_config, Classifier(config=classifier_config.algorithm), mesh)
  pretrained = trainings._PretrainedExperiment(classifier_config, experiment.algorithm, mesh, tensors=weights.tensors)
  _assert_equal(dict(pretrained.init_state().nets["classifier"].collections), weights.variables)


@pytest.mark.parametrize(("mean", "num_light"), [(0.5, (0, NUM_TEST)), (0.0, (NUM_TEST, NUM_TEST))])
def test_test_clips_are_normalised_as_the_initial_weights_require(mean, num_light, classifier_config, tmp_path):
  # Class 1, light, is predicted where the normalised brightness is positive: with a mean of 0 for every clip.
  config, variables = _with(classifier_config, mean=(mean,) * 3, std=(0.25,) * 3), {"params": {"w": np.float32(1)}}
  classifier = Classifier(config=config.algorithm)
  vars(classifier)["network"] = OneWeight()
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  test = trainings.EpochTest(TrainingExperiment(config, classifier, mesh), str(tmp_path))
  confusion = test._count(variables)
  assert confusion.tolist() == [[NUM_TEST - light, light] for light in num_light]
  found = test._weights(3, variables, Accuracy(class_names=("dark", "light"), confusion=confusion)).preprocessing
  assert (found["mean"], found["std"]) == ([mean] * 3, [0.25] * 3)


def test_weights_that_do_not_fit_are_refused_before_the_training(trained, classifier_config, mesh, tmp_path):
  with pytest.raises(UserError, match=r"BatchNorm_0/mean is \(4,\) in the file and \(5,\) in the classifier"):
    train_classifier(
      _with(classifier_config, width=5), str(tmp_path / "run"), mesh, init=str(trained[1] / WEIGHTS_FILE)
    )
  assert not (tmp_path / "run").exists()


def test_steps_of_an_epoch(classifier_config, mesh):
  def steps(batch_size, steps_per_epoch=0):
    options = {"batch_size": batch_size, "epochs": 2, "seed": 0, "width": 4}
    config = classifier_experiment(classifier_config.data, mesh, steps_per_epoch=steps_per_epoch, **options)
    assert config.train.num_steps == 2 * config.algorithm.steps_per_epoch
    return config.algorithm.steps_per_epoch

  assert 2 * NUM_TRAIN == 24
  assert (steps(8), steps(16), steps(8, 7)) == (3, 2, 7)  # 24 / 8; 24 / 16 = 1.5
  with pytest.raises(UserError, match="--batch_size=12 is not divisible by the 8 devices"):
    steps(12)
