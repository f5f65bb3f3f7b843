import dataclasses
import functools
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.classifiers import NUM_TEST, NUM_TRAIN, SIZE, OneWeight, grey_clips
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.scores.classifier import ClassifierConfig, accuracy, train_classifier
from vidgen_jax.scores.classifier import config as configs
from vidgen_jax.scores.classifier import training as trainings
from vidgen_jax.scores.classifier.schedule import Plateau
from vidgen_jax.scores.classifier.state import ClassifierSteps, make_optimizer, train_step
from vidgen_jax.scores.networks import NETWORKS, build_network, registry
from vidgen_jax.scores.weights.weight_file import read_weight_file

pytest_plugins = ["tests.classifier_fixtures"]


def _leaves(tree) -> dict[str, np.ndarray]:
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _assert_equal(first, second) -> None:
  first, second = _leaves(first), _leaves(second)
  assert first.keys() == second.keys()
  for name, leaf in first.items():
    np.testing.assert_array_equal(leaf, second[name], err_msg=name)


def test_the_rate_falls_after_four_epochs_without_a_better_test():
  plateau, rates, stale = Plateau(), [], []
  # Equal is not better: 0.5 at epochs 2..5 makes a plateau, 0.6 begins anew, then twice four epochs below it.
  for value in [0.5, 0.5, 0.4, 0.5, 0.5, 0.6, 0.1, 0.6, 0.2, 0.3, 0.3, 0.4, 0.5, 0.6]:
    rates.append(plateau.learning_rate(1.0))
    plateau = plateau.after(value, patience=4)
    stale.append(plateau.stale)
  assert rates == [1.0] * 5 + [0.1] * 5 + [0.01] * 4
  assert stale == [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 1, 2, 3, 0]
  assert (plateau.best_accuracy, plateau.best_epoch, plateau.epoch, plateau.reductions) == (0.6, 6, 14, 3)
  assert plateau.ended(epochs=99, max_reductions=3) and not plateau.ended(epochs=99, max_reductions=4)
  assert plateau.ended(epochs=14, max_reductions=4)
  assert Plateau(**json.loads(json.dumps(plateau.to_dict()))) == plateau


def _descend(optimizer, params, gradients, rates) -> dict[str, np.ndarray]:
  state = optimizer.init(params)
  for gradient, rate in zip(gradients, rates, strict=True):
    direction, state = optimizer.update(gradient, state, params)
    params = jax.tree.map(lambda leaf, step, rate=rate: leaf - rate * step, params, direction)
  return params


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_equal_those_of_pytorch(name, classifier_config):
  torch = pytest.importorskip("torch", reason="the optimizers are compared with PyTorch's")
  generator = np.random.default_rng(0)
  start = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}
  start = {key: value.astype(np.float32) for key, value in start.items()}
  rates = [0.1, 0.1, 0.01]  # The rate falls in between.
  gradients = [
    {key: generator.normal(size=value.shape).astype(np.float32) for key, value in start.items()} for _ in rates
  ]
  config = dataclasses.replace(classifier_config, optimizer=name, weight_decay=0.1)
  found = _descend(make_optimizer(config), jax.tree.map(jnp.asarray, start), gradients, rates)
  tensors = {key: torch.tensor(value) for key, value in start.items()}
  groups = [{"params": [tensors["kernel"]], "weight_decay": 0.1}, {"params": [tensors["bias"]], "weight_decay": 0.0}]
  other = torch.optim.SGD(groups, lr=0.1, momentum=0.9) if name == "sgd" else torch.optim.AdamW(groups, lr=0.1)
  for gradient, rate in zip(gradients, rates, strict=True):
    for group in other.param_groups:
      group["lr"] = rate
    for key, tensor in tensors.items():
      tensor.grad = torch.tensor(gradient[key])
    other.step()
  for key, tensor in tensors.items():
    np.testing.assert_allclose(found[key], tensor.numpy(), rtol=1e-5, atol=3e-6)


def test_a_train_step_by_hand(classifier_config):
  data = dataclasses.replace(classifier_config.data, num_frames=1, resolution=1)
  steps = ClassifierSteps(
    dataclasses.replace(classifier_config, data=data), OneWeight(), make_mesh(MeshConfig(), devices=jax.devices()[:4])
  )
  # With w = 0 both classes have probability 1/2. All labels are 1, so the loss is log 2 and the derivative of a clip's
  # loss by w is (1/2 - 1) x: -1/2 for the three white ones, +1/2 for the black one, -1/4 on average.
  batch = {"video": grey_clips([255, 255, 0, 255]), "label": np.ones(4, np.int32)}
  state, metrics = steps.train_step(steps.init_state(), batch, 0.1)
  assert float(state.net.params["w"]) == pytest.approx(0.025)
  assert float(metrics["loss"]) == pytest.approx(np.log(2)) and int(state.step) == 1
  # With w = 0.025 the white ones are recognised: 3 of 4. p = 1 / (1 + exp(-0.025)) = 0.5062497; the derivative is
  # ((p - 1) 3 + p) / 4 = -0.2437503 as x = 1 gives p - 1 and x = -1 gives -((1 - p) - 1) = p.
  # Momentum adds 0.9 (-0.25): w = 0.025 + 0.1 (0.2437503 + 0.225) = 0.0718750.
  state, metrics = steps.train_step(state, batch, 0.1)
  assert float(metrics["accuracy"]) == 0.75
  assert float(state.net.params["w"]) == pytest.approx(0.0718750, abs=1e-6)


@pytest.mark.parametrize(("name", "width"), [("r3d18", 8), ("tsn", 8), ("c3d", 0.03125)])
def test_every_network_can_be_trained(name, width, brightness_data, monkeypatch):
  for module in (configs, registry):
    monkeypatch.setattr(module, "NETWORKS", NETWORKS)
  data = DataConfig(name="real", data_dir=brightness_data, num_frames=16, resolution=64)
  config = ClassifierConfig(data=data, network=name, width=width)
  network = build_network(name, config.settings(3))
  state = ClassifierSteps(config, network, make_mesh(MeshConfig())).abstract_state
  batch = {"video": jax.ShapeDtypeStruct((4, 16, 64, 64, 3), jnp.uint8), "label": jax.ShapeDtypeStruct((4,), jnp.int32)}
  step = functools.partial(train_step, network=network, optimizer=make_optimizer(config))
  found, metrics = jax.eval_shape(step, state, batch, jnp.float32(0.1))
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(
    lambda leaf: (leaf.shape, leaf.dtype), state
  )
  assert metrics["loss"].shape == () and state.net.params is not None


def test_windows_that_are_too_small_for_a_network_are_one_line(brightness_data, monkeypatch, tmp_path):
  for module in (configs, registry):
    monkeypatch.setattr(module, "NETWORKS", NETWORKS)
  data = DataConfig(name="real", data_dir=brightness_data, num_frames=2, resolution=SIZE)
  config = ClassifierConfig(data=data, network="tsn", width=8, batch_size=8)
  with pytest.raises(
    UserError, match=r"'tsn' does not take windows of .*'num_frames': 2.*; choose another --num_frames"
  ):
    train_classifier(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(classifier_config, tmp_path_factory):
  """(result, folder) of an undisturbed training on eight devices. Tests must leave the folder as it is."""
  folder = tmp_path_factory.mktemp("undisturbed")
  return train_classifier(classifier_config, str(folder)), folder


def test_a_training_learns_and_leaves_a_weights_file(trained, classifier_config):
  result, folder = trained
  assert result.accuracy.top1 == 1.0 and result.accuracy.num_clips == 2 * NUM_TEST
  assert [(record.epoch, record.step) for record in result.history] == [(1, 3), (2, 6), (3, 9)]  # ceil(24 / 8) = 3
  assert result.history[-1].loss < 0.6 * result.history[0].loss
  assert all(result.weights.variables["batch_stats"]["BatchNorm_0"]["mean"] != 0)
  lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines] == [3, 6, 9]
  assert [line["test/accuracy"] for line in lines] == [record.test_accuracy for record in result.history]
  stored = read_weight_file(folder / "classifier.safetensors")
  _assert_equal(stored.variables, result.weights.variables)
  assert stored.class_names == ("dark", "light") and stored.network == "r3d18"
  assert stored.preprocessing["mean"] == [0.5] * 3 and stored.preprocessing["num_frames"] == 3
  details = stored.details
  assert details["data"] == "real" and details["accuracy"] == 1.0 and details["epochs"] == 3
  assert details["confusion"] == [[NUM_TEST, 0], [0, NUM_TEST]] and "selected on the test split" in details["selection"]
  # Read back, it gives the same as when it was trained.
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:2])
  assert accuracy(stored, classifier_config.data, "test", mesh).top1 == 1.0


def test_one_device_and_eight_agree(trained, classifier_config, tmp_path):
  result, _ = trained
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  single = train_classifier(classifier_config, str(tmp_path / "single"), mesh=mesh)
  for ours, theirs in zip(single.history, result.history, strict=True):
    assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
    assert (ours.train_accuracy, ours.test_accuracy) == (theirs.train_accuracy, theirs.test_accuracy)
  found, expected = _leaves(single.weights.variables), _leaves(result.weights.variables)
  for name, leaf in found.items():
    np.testing.assert_allclose(leaf, expected[name], atol=1e-5, err_msg=name)


def _saved(folder, config):
  """The latest state and its meta data."""
  mesh = make_mesh(MeshConfig())
  steps = ClassifierSteps(config, build_network("r3d18", config.settings(2)), mesh)
  with Checkpointer(str(folder)) as checkpointer:
    restored = checkpointer.restore(steps.abstract_state)
  return restored.state.replace(key=jax.random.key_data(restored.state.key)), restored.meta


@pytest.mark.parametrize("stop_after", [4, 6])  # Within the second epoch, and at its end.
def test_a_signal_saves_and_the_training_continues_bitwise(
  stop_after, trained, classifier_config, tmp_path, monkeypatch
):
  result, folder = trained
  original = ClassifierSteps.train_step
  calls = []

  def train_step(self, *arguments):
    calls.append(1)
    if len(calls) == stop_after:
      os.kill(os.getpid(), signal.SIGTERM)
    return original(self, *arguments)

  monkeypatch.setattr(ClassifierSteps, "train_step", train_step)
  assert train_classifier(classifier_config, str(tmp_path / "stopped")) is None
  assert len(calls) == stop_after and not (tmp_path / "stopped" / "classifier.safetensors").exists()
  continued = train_classifier(classifier_config, str(tmp_path / "stopped"))
  assert len(calls) == 9
  assert continued.history == result.history
  _assert_equal(continued.weights.variables, result.weights.variables)
  (state, meta), (expected, expected_meta) = (
    _saved(folder, classifier_config) for folder in (tmp_path / "stopped", folder)
  )
  _assert_equal(state, expected)
  assert meta == expected_meta
  lines = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
  assert [line["step"] for line in lines] == [3, 6, 9]


def test_a_complete_training_is_only_tested_again(trained, classifier_config, monkeypatch):
  result, folder = trained
  monkeypatch.setattr(trainings.ClassifierSteps, "train_step", None)
  again = train_classifier(classifier_config, str(folder))
  assert again.history == result.history
  _assert_equal(again.weights.variables, result.weights.variables)


def test_the_best_epoch_is_kept_not_the_last(trained, classifier_config, tmp_path, monkeypatch):
  result, _ = trained
  # The second epoch is called the best; the third is worse.
  accuracies = iter([0.5, 0.9, 0.8])
  original = trainings.ConfusionCounter.__call__
  seen = []

  def count(self, variables, batches):
    seen.append(jax.tree.map(np.array, variables))
    share = next(accuracies, None)
    if share is None:
      return original(self, variables, batches)
    right = round(10 * share)
    return np.array([[right, 10 - right], [0, 0]])

  monkeypatch.setattr(trainings.ConfusionCounter, "__call__", count)
  best = train_classifier(classifier_config, str(tmp_path / "best"))
  assert best.weights.details["best_epoch"] == 2 and best.weights.details["last_accuracy"] == 0.8
  _assert_equal(best.weights.variables, seen[1])
  _assert_equal(seen[3], seen[1])  # The accuracy that is told is that of the weights that are kept.
  assert any((leaf != _leaves(seen[2])[name]).any() for name, leaf in _leaves(seen[1]).items())
  assert best.history[1].loss == result.history[1].loss


def test_other_settings_are_refused_by_field(trained, classifier_config):
  _, folder = trained
  data = dataclasses.replace(classifier_config.data, frame_stride=2, num_frames=2)
  other = dataclasses.replace(classifier_config, seed=4, data=data)
  message = r"data\.frame_stride was 1, is 2; data\.num_frames was 3, is 2; seed was 0, is 4\); choose another --out"
  with pytest.raises(UserError, match=message):
    train_classifier(other, str(folder))


def test_a_longer_training_continues(trained, classifier_config, tmp_path):
  result, folder = trained[0], shutil.copytree(trained[1], tmp_path / "copy")
  longer = train_classifier(dataclasses.replace(classifier_config, epochs=4), str(folder))
  assert longer.history[:3] == result.history and len(longer.history) == 4


def test_a_loss_that_is_not_finite_names_the_epoch_and_the_remedy(classifier_config, tmp_path):
  config = dataclasses.replace(classifier_config, learning_rate=1e30)
  with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch \d; .* lower --learning_rate than 1e\+30"):
    train_classifier(config, str(tmp_path))
  assert not (tmp_path / "classifier.safetensors").exists()


def test_steps_of_an_epoch(classifier_config):
  assert trainings.steps_per_epoch(classifier_config) == 3  # 24 clips in eights
  assert trainings.steps_per_epoch(dataclasses.replace(classifier_config, batch_size=16)) == 2  # 24 / 16 = 1.5
  assert trainings.steps_per_epoch(dataclasses.replace(classifier_config, steps_per_epoch=7)) == 7
  assert 2 * NUM_TRAIN == 24


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("network", "i3d", "--network must be one of"),
    ("optimizer", "lion", "--optimizer must be sgd or adam, got 'lion'"),
    ("batch_size", 0, "--batch_size must be at least 1, got 0"),
    ("patience", 0, "--patience must be at least 1"),
    ("weight_decay", -1.0, "--weight_decay must be 0 or more"),
    ("learning_rate", 0.0, "--learning_rate must be above 0"),
    ("learning_rate", float("nan"), "--learning_rate must be above 0, got nan"),
    ("width", 8.5, "--width of r3d18 must be a whole number, got 8.5"),
    ("dropout", 1.0, r"--dropout must be in \[0, 1\), got 1.0"),
  ],
)
def test_bad_settings_are_named(field, value, message, tiny_network):
  del tiny_network
  data = DataConfig(name="real", num_frames=3, resolution=SIZE)
  with pytest.raises(UserError, match=message):
    ClassifierConfig(data=data, **{field: value})


def test_a_batch_that_the_devices_do_not_divide_is_refused(classifier_config, tmp_path):
  with pytest.raises(UserError, match="--batch_size=12 is not divisible by the 8 devices"):
    train_classifier(dataclasses.replace(classifier_config, batch_size=12), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
