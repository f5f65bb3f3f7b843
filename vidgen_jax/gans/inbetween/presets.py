"""Settings of Inbetweening that several experiments share."""

import ml_collections

from vidgen_jax.gans.presets import cpu_run, read_in_processes, smoke_run, unknown_variant


def configure(config: ml_collections.ConfigDict, form: str) -> None:
  """Sets the sizes of one form.

  Args:
    config: config to change.
    form: a name in `FORMS`.

  Raises:
    UserError: if there is no such form.
  """
  if form == "paper":
    _paper(config)
  elif form == "cpu":
    _cpu(config)
  elif form == "smoke":
    _smoke(config)
  else:
    raise unknown_variant(form)


def short_schedule(config: ml_collections.ConfigDict) -> None:
  """Shortens the form 'paper' for data sets outside the paper: 100,000 steps, 10 samples per clip."""
  config.train.num_steps = 100_000
  config.evaluation.samples = 10


def _paper(config: ml_collections.ConfigDict) -> None:
  """3 and 4.1: 16 frames of 64x64, batch size 32, 500,000 steps, a checkpoint every 5,000.

  The averages of the generator's weights are not in the paper, which evaluates the live weights (`--weights=raw`).
  """
  read_in_processes(config)
  config.data.num_frames = 16
  config.data.resolution = 64
  config.ema.decay = 0.999
  config.ema.start_step = 1_000
  config.train.batch_size = 32
  config.train.num_steps = 500_000
  config.train.checkpoint_every = 5_000
  config.evaluation.batch_size = 64
  config.evaluation.samples = 100
  config.evaluation.standing_batches = 100
  config.evaluation.standing_batch_size = 32


def _cpu(config: ml_collections.ConfigDict) -> None:
  """Small enough to learn on two CPU cores: every second of 15 frames, 32x32, 2 blocks per level.

  The latent video has 8x8 pixels, as in the paper. The image discriminator sees all intermediate frames instead of one,
  and the discriminators' learning rate is higher than the generator's: otherwise, with batch size 8, they lag behind
  and the generator ignores the key frames.
  """
  config.data.num_frames = 8
  config.data.frame_stride = 2
  config.data.resolution = 32
  algorithm = config.algorithm
  algorithm.latent_features = 32
  algorithm.encoding_features = 16
  algorithm.encoder_widths = (16, 32)
  algorithm.latent_blocks = (2, 2, 2)
  algorithm.decoder_widths = (32, 16)
  algorithm.video_discriminator_widths = (16, 32)
  algorithm.image_discriminator_widths = (16, 32, 64)
  algorithm.frames_per_clip = 6
  algorithm.generator_optimizer.learning_rate = 2e-4
  algorithm.discriminator_optimizer.learning_rate = 1e-3
  cpu_run(config, score_every=500)
  config.evaluation.training_clips = 128


def _smoke(config: ml_collections.ConfigDict) -> None:
  """The form 'cpu' reduced to a run of seconds, for tests; learns nothing."""
  _cpu(config)
  config.data.frame_stride = 1
  config.data.resolution = 16
  algorithm = config.algorithm
  algorithm.frames_per_clip = 2
  algorithm.latent_features = 4
  algorithm.encoding_features = 4
  algorithm.encoder_widths = (4, 4)
  algorithm.latent_blocks = (1, 2)
  algorithm.unroll = False
  algorithm.decoder_widths = (4, 4)
  algorithm.video_discriminator_widths = (4, 4)
  algorithm.image_discriminator_widths = (4, 4)
  smoke_run(config)
