"""What happens now and then during training: writing metrics, images and scores."""

import jax
from absl import logging

from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import TrainState
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.progress import Progress
from vidgen_jax.runs.writers import MetricWriter


class Hooks:
  """Writes metrics, contact sheets, GIFs and scores of fixed validation clips."""

  def __init__(self, experiment: Experiment, workdir: AnyPath, writer: MetricWriter, progress: Progress) -> None:
    """Images go to `workdir/images`."""
    self._experiment = experiment
    self._workdir = workdir
    self._writer = writer
    self._progress = progress

  def metrics(self, step: int, values: dict[str, float]) -> None:
    """Shows a step's metrics."""
    self._progress.update(step, metrics=values)

  def write(self, step: int, means: dict[str, float]) -> None:
    """Writes the means of the metrics since the last writing, and the rate."""
    rate = self._progress.steps_per_second()
    self._writer.write_scalars(step, means | ({"steps_per_second": rate} if rate else {}))

  def flush(self) -> None:
    """Returns when all metrics that were written are as safe as a checkpoint of their step will be."""
    self._writer.flush()

  def due(self, step: int) -> bool:
    """Whether `run` has anything to do after `step` completed steps."""
    return self._due(step, "image_every") or self._due(step, "evaluate_every")

  def run(self, step: int, state: TrainState) -> None:
    """Draws and scores the averaged generator's predictions, as far as each is due."""
    config, experiment = self._experiment.config.evaluation, self._experiment
    options = experiment.options()
    # The same latents at every visit: images of different steps are then comparable.
    key = generation.standing_statistics_key(experiment)
    nets = generation.prepare_nets(
      experiment, state.ema, key, options=options, num_batches=config.training_standing_batches
    )
    if self._due(step, "image_every"):
      self._draw(step, nets, key)
    if self._due(step, "evaluate_every"):
      result = scoring.evaluate(
        experiment,
        nets,
        key,
        options=options,
        num_clips=config.training_clips,
        samples=1,
        with_baselines=False,
      )
      means = {name: value for name, value in result.means().items() if not name.endswith("_best")}
      logging.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
      self._writer.write_scalars(step, {f"eval/{name}": value for name, value in means.items()})
    self._writer.flush()

  def _draw(self, step: int, nets: dict, key: jax.Array) -> None:
    experiment = self._experiment
    options = experiment.options()
    conditioning_indices = experiment.algorithm.conditioning_indices(options.num_frames)
    clips = generation.evaluation_batches(
      experiment, num_frames=options.num_frames, num_clips=scoring.NUM_IMAGE_CLIPS
    )
    batch = next(clips)
    known = generation.conditioning_batch(batch, conditioning_indices)
    prediction = generation.predict(experiment, nets, known, key, options=options)
    if jax.process_index() == 0:
      folder, truth = self._workdir / "images", batch["video"]
      images = scoring.draw_images(folder, step, prediction=prediction, truth=truth, conditioning_indices=conditioning_indices)
      self._writer.write_images(step, {"predictions": images.sheet})

  def _due(self, step: int, field: str) -> bool:
    every = getattr(self._experiment.config.train, field)
    return bool(every) and (step % every == 0 or step == self._experiment.config.train.num_steps)
