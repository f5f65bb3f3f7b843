"""What the training loop does with metrics, and the hooks that it runs every n steps: images and scores."""

import abc
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import Nets, TrainState
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.config import TrainConfig
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.writers import MetricWriter


class Hook(abc.ABC):
  """A task that the training loop runs after some steps, before it saves a checkpoint.

  Attributes:
    finished: whether the training ends after the current step.
  """

  finished: bool = False

  @abc.abstractmethod
  def due(self, step: int) -> bool:
    """Whether the hook runs after `step` completed steps."""

  @abc.abstractmethod
  def __call__(self, step: int, state: TrainState) -> None:
    """Runs the task. The arrays of `state` must not be kept: the next step overwrites them."""

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible state, saved with every checkpoint."""
    return {}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    del state


def is_due(step: int, every: int, num_steps: int) -> bool:
  """Whether a task of every `every` steps (0 for never) is due after `step` steps; it is always due after the last."""
  return bool(every) and (step % every == 0 or step == num_steps)


class MetricWindow:
  """Means of metrics over windows of `log_every` steps.

  The state includes the window that has begun, so a run that is killed and resumed writes the same rows as an
  uninterrupted one.
  """

  def __init__(self, config: TrainConfig) -> None:
    self._config = config
    self._sums: dict[str, tuple[float, int]] = {}

  def get_state(self) -> dict[str, Any]:
    """JSON-compatible sums and counts of the current window."""
    return {name: list(found) for name, found in self._sums.items()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Restores the result of `get_state`."""
    self._sums = {name: (total, count) for name, (total, count) in state.items()}

  def due(self, step: int) -> bool:
    """Whether means are taken after `step` completed steps."""
    return is_due(step, self._config.log_every, self._config.num_steps)

  def complete(self, step: int) -> bool:
    """Whether a window ends at `step`; the window that the last step of a run cuts short is not complete."""
    return step % self._config.log_every == 0

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Adds the metrics of a step; returns the means of the window if they are due.

    Args:
      step: number of completed steps.
      values: metrics of the step; the mean of a metric that only some steps have is over these steps.
    """
    for name, value in values.items():
      total, count = self._sums.get(name, (0.0, 0))
      self._sums[name] = total + value, count + 1
    if not self.due(step):
      return None
    means = {name: total / count for name, (total, count) in self._sums.items()}
    if self.complete(step):
      self._sums = {}
    return means


class MetricLog:
  """Shows the metrics of every step, and writes their means and the speed every `log_every` steps."""

  def __init__(self, window: MetricWindow, writer: MetricWriter, progress: Progress) -> None:
    self.window = window
    self._writer = writer
    self._progress = progress

  def add(self, step: int, values: Mapping[str, float]) -> dict[str, float] | None:
    """Takes the metrics of a step; returns the means that were written, or None."""
    self._progress.update(step, metrics=values)
    means = self.window.add(step, values)
    if means is not None:
      rate = self._progress.steps_per_second()
      self._writer.write_scalars(step, means | ({"steps_per_second": rate} if rate else {}))
    return means

  def flush(self) -> None:
    """Returns when all rows are as durable as a checkpoint of their step."""
    self._writer.flush()


class ValidationHook(Hook):
  """Images and scores of fixed validation clips, predicted by the averaged generator."""

  def __init__(self, experiment: Experiment, workdir: AnyPath, writer: MetricWriter) -> None:
    self._experiment = experiment
    self._workdir = workdir
    self._writer = writer

  def due(self, step: int) -> bool:
    """Whether images or scores are due."""
    return self._images_due(step) or self._scores_due(step)

  def __call__(self, step: int, state: TrainState) -> None:
    """Writes the images to `workdir/images` and the scores to the metrics, as far as each is due."""
    config, experiment = self._experiment.config.evaluation, self._experiment
    options = experiment.options()
    # The same key and so the same latents each time: images of different steps are comparable.
    key = generation.standing_statistics_key(experiment)
    nets = generation.prepare_nets(
      experiment, state.ema, key, options=options, num_batches=config.training_standing_batches
    )
    if self._images_due(step):
      self._write_images(step, nets, key)
    if self._scores_due(step):
      result = scoring.evaluate(
        experiment, nets, key, options=options, num_clips=config.training_clips, samples=1, with_baselines=False
      )
      # "Best of one sample" repeats the mean.
      means = {name: value for name, value in result.means().items() if not name.endswith("_best")}
      logging.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
      self._writer.write_scalars(step, {f"eval/{name}": value for name, value in means.items()})
    self._writer.flush()

  def _write_images(self, step: int, nets: Nets, key: jax.Array) -> None:
    experiment, options = self._experiment, self._experiment.options()
    indices = experiment.algorithm.conditioning_indices(options.num_frames)
    clips = generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=scoring.NUM_IMAGE_CLIPS)
    batch = next(clips)
    conditioning = generation.conditioning_batch(batch, indices)
    prediction = generation.predict(experiment, nets, conditioning, key, options=options)
    if jax.process_index() == 0:
      images = scoring.draw_images(
        self._workdir / "images", step, prediction=prediction, truth=batch["video"], conditioning_indices=indices
      )
      self._writer.write_images(step, {"predictions": images.sheet})

  def _images_due(self, step: int) -> bool:
    config = self._experiment.config.train
    return is_due(step, config.image_every, config.num_steps)

  def _scores_due(self, step: int) -> bool:
    config = self._experiment.config.train
    return is_due(step, config.evaluate_every, config.num_steps)
