"""TrIVD-GAN-FP on Shape Motion: a circle or a square on a Bezier path over a black ground.

Variants: paper, cpu, smoke. Build the data first: `vidgen data build shape_motion`.
"""

import ml_collections

from vidgen_jax.config import template


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The experiment in one of its variants."""
  config = template("trivd")
  config.name = f"trivd_shape_motion:{variant}"
  config.data.name = "shape_motion"
  config.evaluation.object_tracking = True
  config.algorithm.num_classes = 2
  if variant == "paper":
    _paper(config)
  elif variant == "cpu":
    _cpu(config)
  elif variant == "smoke":
    _cpu(config)
    _smoke(config)
  else:
    raise ValueError(f"unknown variant {variant!r}; choose paper, cpu or smoke")
  return config


def _paper(config: ml_collections.ConfigDict) -> None:
  config.data.num_frames = 16
  config.data.resolution = 64


def _cpu(config: ml_collections.ConfigDict) -> None:
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
  algorithm.unroll = True
  config.step.unroll = True
  config.ema.decay = 0.99
  config.ema.start_step = 0
  config.ema.warmup = True
  config.train.batch_size = 8
  config.train.num_steps = 5000
  config.train.log_every = 20
  config.train.picture_every = 500
  config.train.evaluate_every = 250
  config.train.checkpoint_every = 250
  config.evaluation.standing_batches = 20
  config.evaluation.standing_batch_size = 64


def _smoke(config: ml_collections.ConfigDict) -> None:
  config.data.resolution = 16
  config.data.num_frames = 5
  config.algorithm.conditioning_frames = 2
  config.algorithm.frames_per_clip = 2
  config.algorithm.generator_channels = 4
  config.algorithm.discriminator_channels = 4
  config.algorithm.discriminator_multipliers = (1, 2)
  config.algorithm.latent_features = 4
  config.algorithm.class_features = 4
  config.train.num_steps = 4
  config.train.log_every = 1
  config.train.picture_every = 4
  config.train.evaluate_every = 4
  config.train.checkpoint_every = 2
  config.evaluation.batch_size = 8
  config.evaluation.num_clips = 8
  config.evaluation.samples = 2
  config.evaluation.standing_batches = 2
  config.evaluation.standing_batch_size = 8
  config.evaluation.training_clips = 8
  config.evaluation.training_standing_batches = 2
