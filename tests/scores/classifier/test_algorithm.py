"""The classifier as an algorithm: schedule, optimizers, one train step by hand, every network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.classifiers import SIZE, OneWeight, grey_clips
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs.config import ExperimentConfig, TrainConfig
from vidgen_jax.runs.experiment import TrainingExperiment
from vidgen_jax.scores.classifier.algorithm import NET, Classifier, Plateau, make_optimizer
from vidgen_jax.scores.classifier.config import ClassifierConfig


def test_the_learning_rate_falls_after_four_epochs_without_a_better_accuracy():
  plateau, rates, stale, best = Plateau(), [], [], []
  # Equal is not better: 0.5 at epochs 2..5 makes a plateau; 0.6 resets the count; then twice four epochs up to 0.6.
  for value in [0.5, 0.5, 0.4, 0.5, 0.5, 0.6, 0.1, 0.6, 0.2, 0.3, 0.3, 0.4, 0.5, 0.6]:
    rates.append(plateau.learning_rate(1.0))
    if plateau.add(value, patience=4):
      best.append(plateau.epoch)
    stale.append(plateau.stale)
  assert rates == [1.0] * 5 + [0.1] * 5 + [0.01] * 4
  assert stale == [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 1, 2, 3, 0]
  assert best == [1, 6]
  assert plateau == Plateau(epoch=14, best_accuracy=0.6, best_epoch=6, stale=0, reductions=3)


def _descend(optimizer, params, gradients, rates) -> dict[str, np.ndarray]:
  state = optimizer.init(params)
  for gradient, rate in zip(gradients, rates, strict=True):
    direction, state = optimizer.update(gradient, state, params)
    params = jax.tree.map(lambda leaf, step, rate=rate: leaf - rate * step, params, direction)
  return params


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_equal_those_of_pytorch(name):
  torch = pytest.importorskip("torch", reason="the optimizers are compared with PyTorch's")
  generator = np.random.default_rng(0)
  start = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}
  start = {key: value.astype(np.float32) for key, value in start.items()}
  rates = [0.1, 0.1, 0.01]  # The rate falls before the last step.
  gradients = [
    {key: generator.normal(size=value.shape).astype(np.float32) for key, value in start.items()} for _ in rates
  ]
  config = ClassifierConfig(num_classes=2, optimizer=name, weight_decay=0.1)
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


def _experiment(config: ClassifierConfig, *, num_frames: int, resolution: int, network=None) -> TrainingExperiment:
  data = DataConfig(name="none", num_frames=num_frames, resolution=resolution)
  classifier = Classifier(config=config)
  if network is not None:
    classifier.__dict__["network"] = network
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:4])
  config = ExperimentConfig(
    name="test", algorithm_name="classifier", algorithm=config, data=data, train=TrainConfig(batch_size=4)
  )
  return TrainingExperiment(config=config, algorithm=classifier, mesh=mesh)


def test_a_train_step_by_hand():
  config = ClassifierConfig(num_classes=2, learning_rate=0.1, weight_decay=0.0)
  experiment = _experiment(config, num_frames=1, resolution=1, network=OneWeight())
  step = experiment.step_fn("main")
  # With w = 0 both classes have probability 1/2. All labels are 1, so the loss is log 2 and the derivative of a clip's
  # loss by w is (1/2 - 1) x: -1/2 for the three white ones, +1/2 for the black one, -1/4 on average.
  batch = {"video": grey_clips([255, 255, 0, 255])[None], "label": np.ones((1, 4), np.int32)}
  batch = experiment.put_batch(batch, microbatches=True)
  state, metrics = step(experiment.init_state(), batch, experiment.step_constants(0, "main"))
  assert float(state.nets[NET].params["w"]) == pytest.approx(0.025)
  assert float(metrics["train/loss"]) == pytest.approx(np.log(2)) and int(state.step) == 1
  # With w = 0.025 the white ones are recognised: 3 of 4. p = 1 / (1 + exp(-0.025)) = 0.5062497; the derivative is
  # ((p - 1) 3 + p) / 4 = -0.2437503 as x = 1 gives p - 1 and x = -1 gives -((1 - p) - 1) = p.
  # Momentum adds 0.9 (-0.25): w = 0.025 + 0.1 (0.2437503 + 0.225) = 0.0718750.
  state, metrics = step(state, batch, experiment.step_constants(1, "main"))
  assert float(metrics["train/accuracy"]) == 0.75
  assert float(state.nets[NET].params["w"]) == pytest.approx(0.0718750, abs=1e-6)
  # The schedule changes the rate without compiling again.
  experiment.algorithm.plateau.reductions = 1
  rates = experiment.step_constants(2, "main").learning_rates
  assert float(rates["train"]) == pytest.approx(0.01)


@pytest.mark.parametrize(("name", "width"), [("r3d18", 8), ("tsn", 8), ("c3d", 0.03125)])
def test_every_network_can_be_trained(name, width):
  config = ClassifierConfig(num_classes=3, network=name, width=width)
  experiment = _experiment(config, num_frames=16, resolution=64)
  state = experiment.abstract_state
  found, metrics = jax.eval_shape(
    experiment.step_fn("main"), state, experiment.batch_shape(), experiment.step_constants(0, "main")
  )
  shapes = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (found, state))
  assert next(shapes) == next(shapes)
  assert metrics["train/loss"].shape == ()


def test_windows_that_are_too_small_for_a_network_are_one_line():
  config = ClassifierConfig(num_classes=3, network="tsn", width=8)
  message = r"'tsn' does not accept windows of \(2, 6, 6, 3\).*; choose another --num_frames"
  with pytest.raises(UserError, match=message):
    _ = _experiment(config, num_frames=2, resolution=SIZE).abstract_state


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("network", "i3d", "--network must be one of"),
    ("learning_rate", 0.0, "--learning_rate must be above 0"),
    ("learning_rate", float("nan"), "--learning_rate must be above 0, got nan"),
    ("width", 8.5, "--width of r3d18 must be a whole number, got 8.5"),
    ("dropout", 1.0, r"--dropout must be in \[0, 1\), got 1.0"),
  ],
)
def test_settings_out_of_range_are_named(field, value, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(ClassifierConfig(num_classes=2), **{field: value})
