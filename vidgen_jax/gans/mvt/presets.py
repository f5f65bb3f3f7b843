"""Settings of MVT-GAN that several experiments share."""

import ml_collections

from vidgen_jax.gans.presets import cpu_run, read_in_processes, smoke_run, variants_of

ROWS = {
  "mvt": {},
  "mvt_mc": {"motion_constraint": 1.0},
  "mvt_var": {"latent_scales": (0.5, 1.0, 2.0)},
  "mvt_tsa": {"latent_scales": (0.5, 1.0, 2.0), "shifted_blocks": 2},
}
"""Changes of the paper's model variants relative to MVT (6.2), by name."""

VARIANTS = variants_of(tuple(ROWS))
"""Variants of the experiments."""


def configure(config: ml_collections.ConfigDict, row: str, form: str, *, resolution: int = 96) -> None:
  """Sets the sizes of one form and the changes of one row.

  Args:
    config: config to change.
    row: a name in `ROWS`.
    form: a name in `FORMS`.
    resolution: height and width of the frames in the form 'paper'.
  """
  if form == "paper":
    _paper(config, resolution)
  elif form == "cpu":
    _cpu(config)
  else:
    _smoke(config)
  # Clips from noise are scored as a set, by `vidgen evaluate --networks`.
  config.train.evaluate_every = 0
  config.algorithm.update(ROWS[row])


def _paper(config: ml_collections.ConfigDict, resolution: int) -> None:
  """6.1 and 6.2: batch size 40, 16 consecutive frames, a = 96, N = 4.

  The paper gives neither the number of steps nor averages of the weights; BigGAN's are used.
  """
  read_in_processes(config)
  config.data.num_frames = 16
  config.data.resolution = resolution
  config.algorithm.frames_per_clip = 4
  config.train.batch_size = 40
  config.train.num_steps = 100_000
  config.ema.decay = 0.9999
  config.ema.start_step = 20_000
  config.evaluation.batch_size = 40
  config.evaluation.samples = 1
  config.evaluation.standing_batches = 100
  config.evaluation.standing_batch_size = 40


def _cpu(config: ml_collections.ConfigDict) -> None:
  """Small enough for two CPU cores: 8 frames of 32x32, widths from 16 to 128, attention at 16x16."""
  config.data.num_frames = 8
  config.data.resolution = 32
  algorithm = config.algorithm
  algorithm.latent_sizes = (8, 8, 16)
  algorithm.class_features = 32
  algorithm.hidden_features = 128
  algorithm.generator_channels = 16
  algorithm.generator_multipliers = (8, 4, 2, 1)
  algorithm.generator_attention = 1
  algorithm.image_discriminator_channels = 16
  algorithm.image_discriminator_multipliers = (1, 2, 4, 4)
  algorithm.image_discriminator_attention = 0
  algorithm.frames_per_clip = 4
  algorithm.video_discriminator_widths = (16, 32, 64)
  algorithm.generator_optimizer.learning_rate = 2e-4
  algorithm.discriminator_optimizer.learning_rate = 8e-4
  cpu_run(config, score_every=500)


def _smoke(config: ml_collections.ConfigDict) -> None:
  """The form 'cpu' reduced to a run of seconds, for tests; learns nothing."""
  _cpu(config)
  config.data.num_frames = 4
  config.data.resolution = 16
  algorithm = config.algorithm
  algorithm.latent_sizes = (2, 2, 4)
  algorithm.class_features = 4
  algorithm.hidden_features = 8
  algorithm.generator_channels = 8
  algorithm.generator_multipliers = (1, 1, 1)
  algorithm.image_discriminator_channels = 8
  algorithm.image_discriminator_multipliers = (1, 1)
  algorithm.frames_per_clip = 2
  algorithm.video_discriminator_widths = (4, 4)
  smoke_run(config)
