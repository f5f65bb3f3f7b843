"""Images and scores during training, of clips of `evaluation.selection_split`."""

import dataclasses

from absl import logging

from vidgen_jax.buckets import AnyPath
from vidgen_jax.core.state import TrainState
from vidgen_jax.errors import UserError
from vidgen_jax.runs import generation, scoring
from vidgen_jax.runs.experiment import Experiment
from vidgen_jax.runs.loop import Hook
from vidgen_jax.runs.monitor import is_due
from vidgen_jax.runs.writers import MetricWriter


def check_scores(experiment: Experiment) -> None:
  """Raises a UserError if `train.evaluate_every` is set and the model has no scores, or its frames are too small."""
  config = experiment.config
  if not config.train.evaluate_every:
    return
  indices = experiment.algorithm.conditioning_indices(config.data.num_frames)
  names = scoring.metric_names(indices, tracking=config.evaluation.object_tracking)
  scoring.check_frame_size(names, (config.data.resolution, config.data.resolution))
  if not names:
    raise UserError(
      f"train.evaluate_every={config.train.evaluate_every}: clips from noise have no ground truth to compare with; "
      "set it to 0, and score the clips as a set with `vidgen evaluate --networks`, during training with --follow"
    )


class ValidationHook(Hook):
  """Images and scores of fixed clips of `evaluation.selection_split`, predicted by the averaged generator."""

  def __init__(self, experiment: Experiment, workdir: AnyPath) -> None:
    # The split that results are reported on is not read during training.
    self._experiment = dataclasses.replace(experiment, config=experiment.config.for_selection())
    self._workdir = workdir

  def due(self, step: int) -> bool:
    """Whether images or scores are due."""
    train = self._experiment.config.train
    return any(is_due(step, every, train.num_steps) for every in (train.image_every, train.evaluate_every))

  def __call__(self, step: int, state: TrainState, writer: MetricWriter) -> None:
    """Writes the images to `workdir/images` and the scores to the metrics, whichever are due."""
    experiment, options = self._experiment, self._experiment.options()
    config, train = experiment.config.evaluation, experiment.config.train
    # The same key, and thus the same latents, each time: images of different steps are comparable.
    key = generation.standing_statistics_key(experiment)
    passes = config.training_standing_batches
    nets = generation.prepare_nets(experiment, state.ema, options=options, num_batches=passes)
    if is_due(step, train.image_every, train.num_steps):
      batch = next(
        generation.evaluation_batches(experiment, num_frames=options.num_frames, num_clips=scoring.NUM_IMAGE_CLIPS)
      )
      sheet = scoring.draw_images(self._workdir / "images", step, experiment, nets, batch, key, options=options)
      if sheet is not None:
        writer.write_image(step, "predictions", sheet)
    if is_due(step, train.evaluate_every, train.num_steps):
      result = scoring.evaluate(experiment, nets, key, options=options, num_clips=config.training_clips, samples=1)
      means = {name: scoring.mean_without_nan(values) for name, values in result.model.mean.items()}
      logging.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
      writer.write_scalars(step, {f"eval/{name}": value for name, value in means.items()})
    writer.flush()
