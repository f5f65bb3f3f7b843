"""Training of a classifier through the common training loop."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from vidgen_jax.core.state import NetState, TrainState
from vidgen_jax.data import records
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import check_batch_size
from vidgen_jax.parallel.processes import StopSignals, all_processes
from vidgen_jax.runs.config import ExperimentConfig, HealthConfig, TrainConfig
from vidgen_jax.runs.experiment import TrainingExperiment
from vidgen_jax.runs.loop import Hook, NonFiniteMetricError, train_experiment
from vidgen_jax.runs.writers import MetricWriter
from vidgen_jax.scores.classifier.algorithm import NET, Classifier
from vidgen_jax.scores.classifier.config import ClassifierConfig, window_of
from vidgen_jax.scores.classifier.evaluation import Accuracy, ConfusionCounter
from vidgen_jax.scores.classifier.initial import initial_tensors
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

WEIGHTS_FILE = "classifier.safetensors"


class TrainedClassifier(NamedTuple):
  """Weights of the epoch with the best test accuracy, and their accuracy on the test clips."""

  weights: WeightFile
  accuracy: Accuracy


def classifier_experiment(
  data: DataConfig, mesh: jax.sharding.Mesh, *, batch_size: int, epochs: int, seed: int, **settings: Any
) -> ExperimentConfig:
  """Config of a classifier's training, with one checkpoint and one test per epoch.

  It trains on `data.train_split` and tests on the split `test`. `settings` are fields of `ClassifierConfig`;
  `steps_per_epoch` 0 is one pass through the training clips. The devices of the mesh must divide the batch.

  Raises:
    UserError: if the data set is missing or does not fit, or a setting is out of range.
  """
  class_names = records.load_info(data.name, data.data_dir).class_names
  if len(class_names) < 2:
    raise UserError(f"data set {data.name!r} has only one class; a classifier needs at least two")
  check_batch_size(batch_size, mesh, name="--batch_size")
  steps = settings.pop("steps_per_epoch", 0) or -(-len(records.open_clips(data, data.train_split)) // batch_size)
  return ExperimentConfig(
    name=f"classifier_{data.name}",
    algorithm_name="classifier",
    algorithm=ClassifierConfig(num_classes=len(class_names), steps_per_epoch=steps, **settings),
    data=data,
    train=TrainConfig(
      batch_size=batch_size,
      num_steps=epochs * steps,
      seed=seed,
      log_every=steps,
      image_every=0,
      checkpoint_every=steps,
      checkpoints_to_keep=1,
    ),
    health=HealthConfig(action="off"),
  )


def train_classifier(
  config: ExperimentConfig,
  folder: str,
  mesh: jax.sharding.Mesh,
  *,
  stop: StopSignals | None = None,
  init: str | None = None,
) -> TrainedClassifier | None:
  """Trains a classifier, or resumes its training, bitwise; writes `classifier.safetensors` and its JSON file.

  The file always contains the weights with the best test accuracy so far, as in Munoz et al., Temporal Shift GAN for
  Large Scale Video Generation, appendix B.1. They are selected on the test split, which the JSON file records together
  with the accuracy after the last epoch.

  Returns None after SIGTERM or SIGINT: the state is saved, and the same call resumes the training. The number of
  devices affects the result only through rounding. `config` is the result of `classifier_experiment`. The training
  starts from the weight file `init`, see `initial_tensors`; None for random weights.

  Raises a UserError if data, folder, initial weights or devices do not fit, or the loss is not finite.
  """
  experiment = TrainingExperiment(config=config, algorithm=Classifier(config=config.algorithm), mesh=mesh)
  if init is not None:
    variables = experiment.abstract_state.nets[NET].collections
    names = records.load_info(config.data.name, config.data.data_dir).class_names
    tensors = initial_tensors(read_weight_file(init), variables, class_names=names, path=init)
    experiment = _PretrainedExperiment(experiment.config, experiment.algorithm, mesh, tensors=tensors)
  test = EpochTest(experiment, folder)
  try:
    state = train_experiment(experiment, folder, [test], stop=stop)
  except NonFiniteMetricError as error:
    found, rate = str(error).partition(";")[0], config.algorithm.learning_rate
    raise UserError(f"{found}; start again in another --out with a lower --learning_rate than {rate:g}") from error
  if int(state.step) < config.train.num_steps and not test.finished:
    return None
  path = Path(folder) / WEIGHTS_FILE
  weights = read_weight_file(path)
  weights = dataclasses.replace(weights, details=weights.details | test.summary())
  all_processes(True)  # A barrier: every process has read the file before it is replaced.
  if jax.process_index() == 0:
    write_weight_file(path, weights)
  confusion = np.array(weights.details["confusion"])
  return TrainedClassifier(weights=weights, accuracy=Accuracy(class_names=weights.class_names, confusion=confusion))


@dataclasses.dataclass(frozen=True)
class _PretrainedExperiment(TrainingExperiment):
  """A training that starts from the result of `initial_tensors`."""

  tensors: Mapping[str, np.ndarray] = dataclasses.field(kw_only=True)

  def init_state(self) -> TrainState:
    state = super().init_state()
    leaves = flatten_dict(dict(state.nets[NET].collections), sep="/")
    given = {
      name: jax.device_put(tensor.astype(leaves[name].dtype), leaves[name].sharding)
      for name, tensor in self.tensors.items()
    }
    variables = unflatten_dict(leaves | given, sep="/")
    return state.replace(nets={NET: NetState(params=variables.pop("params"), variables=variables)})


class EpochTest(Hook):
  """Tests the classifier after every epoch, advances its schedule, and writes the best weights so far.

  Raises a UserError if the test clips are missing or have other classes.
  """

  def __init__(self, experiment: TrainingExperiment, folder: str) -> None:
    self._config = config = experiment.config
    assert isinstance(experiment.algorithm, Classifier)
    self._plateau, network = experiment.algorithm.plateau, experiment.algorithm.network
    self._path = Path(folder) / WEIGHTS_FILE
    self._info = records.load_info(config.data.name, config.data.data_dir)
    data, settings = _test_data(config), config.algorithm
    records.check_class_names(self._info.class_names, data, what=f"the training data set {config.data.name!r}")
    options: dict[str, Any] = {"batch_size": config.train.batch_size, "windows": settings.test_windows}
    options |= {"mean": settings.mean, "std": settings.std}
    self._count = ConfusionCounter(network, data, config.evaluation.split, experiment.mesh, **options)
    self._last_accuracy = 0.0

  @property
  def finished(self) -> bool:
    """Whether the last plateau was reached."""
    return self._plateau.reductions >= self._config.algorithm.max_reductions

  def due(self, step: int) -> bool:
    """Whether an epoch ends."""
    return step % self._config.algorithm.steps_per_epoch == 0

  def __call__(self, step: int, state: TrainState, writer: MetricWriter) -> None:
    """Tests the classifier; may lower the learning rate."""
    settings, plateau = self._config.algorithm, self._plateau
    rate = plateau.learning_rate(settings.learning_rate)
    collections = state.nets[NET].collections
    found = Accuracy(class_names=self._info.class_names, confusion=self._count(collections))
    self._last_accuracy = found.top1
    if plateau.add(found.top1, patience=settings.patience) and jax.process_index() == 0:
      write_weight_file(self._path, self._weights(step, collections, found))
    writer.write_scalars(step, {"epoch": plateau.epoch, "learning_rate": rate, "test/accuracy": found.top1})
    shown = (plateau.epoch, found.top1, plateau.best_accuracy, rate)
    logging.info("epoch %d: test accuracy %.3f (best %.3f), learning rate %g", *shown)

  def get_state(self) -> dict[str, Any]:
    """The schedule and the last accuracy."""
    return {"plateau": dataclasses.asdict(self._plateau), "last_accuracy": self._last_accuracy}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    self._last_accuracy = state["last_accuracy"]
    for name, value in state["plateau"].items():
      setattr(self._plateau, name, value)

  def summary(self) -> dict[str, Any]:
    """Details for the weight file of a complete training."""
    return {
      "last_accuracy": self._last_accuracy,
      "epochs": self._plateau.epoch,
      "steps": self._plateau.epoch * self._config.algorithm.steps_per_epoch,
      "reductions": self._plateau.reductions,
    }

  def _weights(self, step: int, collections: Mapping[str, Any], found: Accuracy) -> WeightFile:
    config, data, test_data = self._config, self._config.data, _test_data(self._config)
    return WeightFile(
      network=config.algorithm.network,
      settings=config.algorithm.settings,
      variables=jax.tree.map(np.asarray, dict(collections)),
      preprocessing={
        "mean": list(config.algorithm.mean),
        "std": list(config.algorithm.std),
        "colour": "RGB",
        "framing": data.framing,
        **window_of(data),
      },
      source=f"trained on data set {data.name}, split {data.train_split}",
      source_hash=hashlib.sha256((self._info.directory / records.MANIFEST).read_bytes()).hexdigest(),
      class_names=found.class_names,
      details={
        "data": data.name,
        "split": data.train_split,
        "tested_on": test_data.name,
        "test_split": config.evaluation.split,
        "test_windows": config.algorithm.test_windows,
        "test_clips": found.num_clips,
        "accuracy": found.top1,
        "selection": "best epoch, selected on the test split",
        "confusion": found.confusion.tolist(),
        "best_epoch": self._plateau.best_epoch,
        "best_step": step,
        "seed": config.train.seed,
        "training": {"batch_size": config.train.batch_size, **dataclasses.asdict(config.algorithm)},
      },
    )


def _test_data(config: ExperimentConfig) -> DataConfig:
  settings = config.algorithm
  if not settings.test_data:
    return config.data
  framing = {"resize": settings.test_resize, "resize_to": settings.test_resize_to}
  return dataclasses.replace(config.data, name=settings.test_data, **framing)
