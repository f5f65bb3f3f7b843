"""Settings of TrIVD-GAN-FP that several experiments share."""

import ml_collections

from vidgen_jax.gans.presets import cpu_run, read_in_processes, smoke_run, unknown_variant


def configure(config: ml_collections.ConfigDict, form: str, *, channels: int = 120) -> None:
  """Sets the sizes of one form.

  Args:
    config: config to change.
    form: a name in `FORMS`.
    channels: ch of the generator and the discriminators in the form 'paper': 120 in the final model, 48 in the
      comparisons.

  Raises:
    UserError: if there is no such form.
  """
  if form == "paper":
    _paper(config, channels)
  elif form == "cpu":
    _cpu(config)
  elif form == "smoke":
    _smoke(config)
  else:
    raise unknown_variant(form)


def shape_motion(config: ml_collections.ConfigDict) -> None:
  """Sets up the data set Shape Motion: two classes, and scores of the object's position."""
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  config.algorithm.num_classes = 2
  config.evaluation.object_tracking = True


def comparison(config: ml_collections.ConfigDict, form: str) -> None:
  """Sets up a row of the paper's comparisons: Kinetics-600 at ch 48, or a small `form` on Shape Motion.

  Args:
    config: config to change.
    form: a name in `FORMS`.
  """
  if form == "paper":
    config.data.name = "kinetics600"
  else:
    shape_motion(config)
  configure(config, form, channels=48)


def one_accelerator(config: ml_collections.ConfigDict) -> None:
  """Shortens the form 'paper' for data sets outside the paper: 50,000 steps, and averages to match."""
  config.algorithm.remat = False
  config.train.num_steps = 50_000
  config.ema.decay = 0.999
  config.ema.start_step = 1_000


def _paper(config: ml_collections.ConfigDict, channels: int) -> None:
  """4.4 and E: batch size 512, 700,000 steps, 5 -> 11 frames, 64x64."""
  read_in_processes(config)
  config.data.num_frames = 16
  config.data.resolution = 64
  config.algorithm.generator_channels = channels
  config.algorithm.discriminator_channels = channels
  config.algorithm.remat = True
  config.evaluation.batch_size = 256
  config.evaluation.num_clips = 0


def _cpu(config: ml_collections.ConfigDict) -> None:
  """Small enough to learn on two CPU cores: 32x32, 3 -> 5 frames, DVD-GAN-FP's two discriminators, ConvGRU.

  Learning rates are higher than the paper's because the batch size is 8 instead of 512.
  """
  config.data.num_frames = 8
  config.data.resolution = 32
  algorithm = config.algorithm
  algorithm.conditioning_frames = 3
  algorithm.decomposition = "dvd_gan_fp"
  algorithm.frames_per_clip = 4
  algorithm.recurrent_unit = "conv_gru"
  algorithm.generator_channels = 16
  algorithm.generator_multipliers = (2, 1)
  algorithm.generator_blocks = 1
  algorithm.discriminator_channels = 8
  algorithm.discriminator_multipliers = (1, 2, 4)
  algorithm.latent_features = 32
  algorithm.class_features = 32
  algorithm.generator_optimizer.learning_rate = 1e-3
  algorithm.discriminator_optimizer.learning_rate = 2e-3
  cpu_run(config, score_every=250)


def _smoke(config: ml_collections.ConfigDict) -> None:
  """The form 'cpu' reduced to a run of seconds, for tests; learns nothing."""
  _cpu(config)
  config.data.num_frames = 5
  config.data.resolution = 16
  algorithm = config.algorithm
  algorithm.conditioning_frames = 2
  algorithm.frames_per_clip = 2
  algorithm.generator_channels = 4
  algorithm.discriminator_channels = 4
  algorithm.discriminator_multipliers = (1, 2)
  algorithm.latent_features = 4
  algorithm.class_features = 4
  smoke_run(config)
