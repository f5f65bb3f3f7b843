"""Training a classifier to its end, however often the process is stopped on the way."""

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vidgen_jax.data import pipeline, records
from vidgen_jax.errors import UserError
from vidgen_jax.parallel import mesh as meshes
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.parallel.preemption import StopSignals
from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.writers import MetricWriter, create_writer
from vidgen_jax.scores.classifier.config import ClassifierConfig, changed_fields, window_of
from vidgen_jax.scores.classifier.evaluation import Accuracy, ConfusionCounter, SplitBatches
from vidgen_jax.scores.classifier.network import MEAN, STD
from vidgen_jax.scores.classifier.schedule import Plateau
from vidgen_jax.scores.classifier.state import ClassifierState, ClassifierSteps
from vidgen_jax.scores.networks import build_network
from vidgen_jax.scores.weights.weight_file import WeightFile, write_weight_file

WEIGHTS_FILE = "classifier.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochRecord:
  """What became of one epoch.

  Attributes:
    epoch: from 1.
    step: completed train steps.
    learning_rate: of its steps.
    loss: mean cross-entropy of its batches, in nats.
    train_accuracy: share of its training windows that were recognised, with dropout, in [0, 1].
    test_accuracy: share of the test clips, in [0, 1].
  """

  epoch: int
  step: int
  learning_rate: float
  loss: float
  train_accuracy: float
  test_accuracy: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
  """The result of a training.

  Attributes:
    weights: of the epoch with the best test accuracy.
    accuracy: of these weights on the test clips.
    history: all epochs.
  """

  weights: WeightFile
  accuracy: Accuracy
  history: tuple[EpochRecord, ...]


def train_classifier(
  config: ClassifierConfig, folder: str, *, mesh: jax.sharding.Mesh | None = None
) -> TrainedClassifier | None:
  """Trains a classifier, writes `classifier.safetensors` with its JSON file, and returns it.

  Checkpoints and metrics.jsonl lie in the same folder. A training that is found there continues, bitwise; one that is
  complete is only tested again. The weights that are kept are those with the best test accuracy, as in Munoz et al.,
  Temporal Shift GAN for Large Scale Video Generation, appendix B.1: they are selected on the test split, and the file
  says so beside the last epoch's accuracy.

  Args:
    config: of the training.
    folder: created if it is missing.
    mesh: the devices; all of them by default. The result does not depend on their number, but for rounding.

  Returns:
    None if SIGTERM or SIGINT came: the state is saved, and the same call continues.

  Raises:
    UserError: if data, folder or devices do not fit, or the loss is not finite any more.
  """
  mesh = make_mesh(MeshConfig()) if mesh is None else mesh
  class_names = _class_names(config)
  network = build_network(config.network, config.settings(len(class_names)))
  steps = ClassifierSteps(config, network, mesh)
  _check_windows(config, steps)
  tests = SplitBatches(
    config.tested_on, config.tested_on.eval_split, batch_size=config.batch_size, windows=config.test_windows, mesh=mesh
  )
  meshes.local_batch_size(config.batch_size, mesh, name="--batch_size")  # Raises if it cannot be divided.
  iterator = pipeline.train_batches(
    config.data,
    batch_size=config.batch_size,
    microbatches=1,
    seed=config.seed,
    places=meshes.local_batch_indices(config.batch_size, mesh),
  )
  counter = ConfusionCounter(network, mesh, len(class_names))
  is_lead = jax.process_index() == 0
  with Checkpointer(folder, keep=1) as checkpointer, StopSignals() as stop:
    progress = _load(checkpointer, config, folder, steps, iterator)
    resumed = progress.step if progress.step else None
    with (
      contextlib.closing(create_writer(folder, is_lead=is_lead, resumed_step=resumed)) as writer,
      _bar(config, progress.step, enabled=is_lead) as bar,
    ):
      training = _Training(config, progress, steps, (counter, tests), iterator, checkpointer, stop, writer, bar)
      if not training.run():
        return None
    accuracy = Accuracy(class_names=class_names, confusion=counter(progress.state.best.collections, tests))
  trained = TrainedClassifier(
    weights=_weights(config, progress, accuracy), accuracy=accuracy, history=tuple(progress.history)
  )
  if is_lead:
    write_weight_file(Path(folder) / WEIGHTS_FILE, trained.weights)
  return trained


@dataclasses.dataclass(kw_only=True)
class _Progress:
  """How far a training is: the arrays, and what the schedule knows."""

  state: ClassifierState
  step: int = 0
  plateau: Plateau = dataclasses.field(default_factory=Plateau)
  history: list[EpochRecord] = dataclasses.field(default_factory=list)
  sums: dict[str, float] = dataclasses.field(default_factory=dict)
  """Of the metrics of the epoch's steps so far."""

  def meta(self) -> dict[str, Any]:
    """Everything but the arrays, for JSON."""
    history = [dataclasses.asdict(record) for record in self.history]
    return {"plateau": self.plateau.to_dict(), "history": history, "sums": dict(self.sums)}


class _Training:
  """The order of a training: steps, then a test, then the schedule, then a checkpoint."""

  def __init__(
    self,
    config: ClassifierConfig,
    progress: _Progress,
    steps: ClassifierSteps,
    test: tuple[ConfusionCounter, SplitBatches],
    iterator: Any,
    checkpointer: Checkpointer,
    stop: StopSignals,
    writer: MetricWriter,
    bar: Progress,
  ) -> None:
    self._config = config
    self._progress = progress
    self._steps = steps
    self._counter, self._tests = test
    self._iterator = iterator
    self._checkpointer = checkpointer
    self._stop = stop
    self._writer = writer
    self._bar = bar
    self._steps_per_epoch = steps_per_epoch(config)
    self._pending: dict[str, jax.Array] | None = None

  def run(self) -> bool:
    """Trains; False if the process was asked to stop before the end. Either way the state is saved."""
    config, progress = self._config, self._progress
    while not progress.plateau.ended(epochs=config.epochs, max_reductions=config.max_reductions):
      self._train_step()
      if progress.step % self._steps_per_epoch == 0:
        self._end_epoch()
      stopping = self._stopping()
      if stopping:
        self._save()
        self._checkpointer.wait()
        logging.info("stopped by %s; saved step %d, run the same command to continue", stopping, progress.step)
        return False
    self._checkpointer.wait()
    return True

  def _train_step(self) -> None:
    progress = self._progress
    batch = {name: array[0] for name, array in next(self._iterator).items()}  # One micro-batch.
    rate = progress.plateau.learning_rate(self._config.learning_rate)
    progress.state, metrics = self._steps.train_step(progress.state, batch, rate)
    jax.tree.map(lambda array: array.copy_to_host_async(), metrics)
    self._check_pending()  # Those of the step before, so that the device never waits for the host.
    self._pending = metrics
    progress.step += 1

  def _check_pending(self) -> None:
    """Fetches the last metrics that were left on the device."""
    if self._pending is None:
      return
    values = {name: float(value) for name, value in jax.device_get(self._pending).items()}
    self._pending = None
    sums = self._progress.sums
    if not np.isfinite(values["loss"]):
      epoch = self._progress.plateau.epoch + 1
      raise UserError(
        f"the classifier's loss became {values['loss']} in epoch {epoch}; start again in another --out with a lower "
        f"--learning_rate than {self._config.learning_rate:g}"
      )
    self._progress.sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
    self._bar.update(self._progress.step, metrics={"loss": values["loss"]})

  def _end_epoch(self) -> None:
    """Tests, keeps the network if it is the best so far, lets the schedule go on, and saves."""
    config, progress = self._config, self._progress
    self._check_pending()
    confusion = self._counter(progress.state.net.collections, self._tests)
    accuracy = float(np.trace(confusion) / confusion.sum())
    rate = progress.plateau.learning_rate(config.learning_rate)
    if accuracy > progress.plateau.best_accuracy:
      # Copied, for the next step takes the live network's memory.
      progress.state = progress.state.replace(best=jax.tree.map(jnp.copy, progress.state.net))
    progress.plateau = progress.plateau.after(accuracy, patience=config.patience)
    means = {name: total / self._steps_per_epoch for name, total in progress.sums.items()}
    record = EpochRecord(
      epoch=progress.plateau.epoch,
      step=progress.step,
      learning_rate=rate,
      loss=means["loss"],
      train_accuracy=means["accuracy"],
      test_accuracy=accuracy,
    )
    progress.history.append(record)
    progress.sums = {}
    self._writer.write_scalars(
      progress.step,
      {
        "epoch": record.epoch,
        "learning_rate": rate,
        "train/loss": record.loss,
        "train/accuracy": record.train_accuracy,
        "test/accuracy": accuracy,
      },
    )
    self._writer.flush()
    self._bar.update(progress.step, metrics={"test accuracy": accuracy, "best": progress.plateau.best_accuracy})
    logging.info(
      "epoch %d: loss %.4f, accuracy %.3f in training, %.3f in the test (best %.3f), learning rate %g",
      *(record.epoch, record.loss, record.train_accuracy, accuracy, progress.plateau.best_accuracy, rate),
    )
    self._save()

  def _save(self) -> None:
    self._check_pending()  # A state whose loss is not finite is never saved.
    meta = self._progress.meta() | {"config": self._config.to_dict()}
    self._checkpointer.save(self._progress.step, self._progress.state, self._iterator, meta)

  def _stopping(self) -> str | None:
    if jax.process_count() > 1:
      return "preemption" if self._checkpointer.preempted(self._progress.step) else None
    return self._stop.received.name if self._stop.received else None


def steps_per_epoch(config: ClassifierConfig) -> int:
  """Train steps between two tests.

  Raises:
    UserError: if the data set is missing or has only clips that are too short.
  """
  if config.steps_per_epoch:
    return config.steps_per_epoch
  return -(-len(records.open_clips(config.data, config.data.train_split)) // config.batch_size)


def _class_names(config: ClassifierConfig) -> tuple[str, ...]:
  """The classes of the training clips, which the test clips must have too."""
  class_names = records.load_info(config.data.name, config.data.data_dir).class_names
  if len(class_names) < 2:
    raise UserError(f"data set {config.data.name!r} has one class only, so there is nothing to tell apart")
  records.check_class_names(class_names, config.tested_on, what=f"data set {config.data.name!r}, which is trained on,")
  if window_of(config.tested_on) != window_of(config.data):
    raise ValueError(f"tested on windows of {window_of(config.tested_on)}, trained on {window_of(config.data)}")
  return class_names


def _check_windows(config: ClassifierConfig, steps: ClassifierSteps) -> None:
  """Lets the network speak about windows that are too small for it, before anything is compiled."""
  try:
    _ = steps.abstract_state
  except ValueError as error:
    raise UserError(
      f"network {config.network!r} does not take windows of {window_of(config.data)}: {error}; choose another "
      "--num_frames or --resolution"
    ) from error


def _load(
  checkpointer: Checkpointer, config: ClassifierConfig, folder: str, steps: ClassifierSteps, iterator: Any
) -> _Progress:
  """What the folder holds, or the beginning."""
  meta = checkpointer.latest_meta()
  if meta is None:
    return _Progress(state=steps.init_state())
  changed = changed_fields(meta["config"], config.to_dict())
  if changed:
    listed = "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in list(changed.items())[:5])
    raise UserError(f"{folder} belongs to a classifier with other settings ({listed}); choose another --out")
  restored = checkpointer.restore(steps.abstract_state, iterator=iterator)
  checkpointer.discard_after(restored.step)
  logging.info("continuing after step %d", restored.step)
  return _Progress(
    state=restored.state,
    step=restored.step,
    plateau=Plateau(**restored.meta["plateau"]),
    history=[EpochRecord(**record) for record in restored.meta["history"]],
    sums=dict(restored.meta["sums"]),
  )


def _bar(config: ClassifierConfig, step: int, *, enabled: bool) -> Progress:
  return Progress(
    max(config.epochs * steps_per_epoch(config), step),
    initial_step=step,
    clips_per_step=config.batch_size,
    enabled=enabled,
    shown=["loss", "test accuracy", "best"],
  )


def _weights(config: ClassifierConfig, progress: _Progress, accuracy: Accuracy) -> WeightFile:
  data, tested = config.data, config.tested_on
  info = records.load_info(data.name, data.data_dir)
  variables = jax.tree.map(np.asarray, progress.state.best.collections)
  return WeightFile(
    network=config.network,
    settings=config.settings(len(accuracy.class_names)),
    variables=variables,
    preprocessing={"mean": list(MEAN), "std": list(STD), "colour": "RGB", **window_of(data)},
    source=f"trained on data set {data.name}, split {data.train_split}",
    source_hash=hashlib.sha256((info.directory / records.MANIFEST).read_bytes()).hexdigest(),
    class_names=accuracy.class_names,
    details={
      "data": data.name,
      "split": data.train_split,
      "tested_on": tested.name,
      "test_split": tested.eval_split,
      "test_windows": config.test_windows,
      "test_clips": accuracy.num_clips,
      "accuracy": accuracy.top1,
      "selection": "best epoch, selected on the test split",
      "last_accuracy": progress.history[-1].test_accuracy,
      "confusion": accuracy.confusion.tolist(),
      "best_epoch": progress.plateau.best_epoch,
      "epochs": progress.plateau.epoch,
      "steps": progress.step,
      "reductions": progress.plateau.reductions,
      "seed": config.seed,
      "training": {
        name: value for name, value in config.to_dict().items() if not isinstance(value, dict) and value is not None
      },
    },
  )
