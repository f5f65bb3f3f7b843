"""Settings of TrIVD-GAN-FP that several experiments share."""

from typing import Any

import ml_collections

from vidgen_jax.gans.presets import CPU_RUN, PAPER_DATA, SMOKE_RUN, apply_form

PAPER: dict[str, Any] = {
  **PAPER_DATA,
  "algorithm.remat": True,
  "evaluation.batch_size": 256,
  "evaluation.num_clips": 0,
  "evaluation.samples": 1,
  "evaluation.repeats": 10,
}
"""4.4 and E: batch size 512, 700,000 steps, 5 -> 11 frames, 64x64; ten evaluations, each with standing statistics."""

DVD_GAN_FP: dict[str, Any] = {"algorithm.decomposition": "dvd_gan_fp", "algorithm.recurrent_unit": "conv_gru"}
"""The discriminators and the recurrent unit of DVD-GAN-FP."""

CPU: dict[str, Any] = {
  **CPU_RUN,
  "train.evaluate_every": 250,
  "train.checkpoint_every": 250,
  "algorithm.conditioning_frames": 3,
  "algorithm.decomposition": "dvd_gan_fp",
  "algorithm.frames_per_clip": 4,
  "algorithm.recurrent_unit": "conv_gru",
  "algorithm.generator_channels": 16,
  "algorithm.generator_multipliers": (2, 1),
  "algorithm.upsampled_multipliers": (2, 1),
  "algorithm.generator_blocks": 1,
  "algorithm.discriminator_channels": 8,
  "algorithm.discriminator_multipliers": (1, 2, 4),
  "algorithm.latent_features": 32,
  "algorithm.class_features": 32,
  "algorithm.generator_optimizer.learning_rate": 1e-3,
  "algorithm.discriminator_optimizer.learning_rate": 2e-3,
}
"""Small enough to learn on two CPU cores: 32x32, 3 -> 5 frames, DVD-GAN-FP's two discriminators, ConvGRU.

Learning rates are higher than the paper's because the batch size is 8 instead of 512.
"""

SMOKE: dict[str, Any] = {
  **CPU,
  **SMOKE_RUN,
  "data.num_frames": 5,
  "algorithm.conditioning_frames": 2,
  "algorithm.frames_per_clip": 2,
  "algorithm.generator_channels": 4,
  "algorithm.discriminator_channels": 4,
  "algorithm.discriminator_multipliers": (1, 2),
  "algorithm.latent_features": 4,
  "algorithm.class_features": 4,
}
"""`CPU` reduced to a run of seconds, for tests; learns nothing."""

ONE_ACCELERATOR: dict[str, Any] = {
  "algorithm.remat": False,
  "train.num_steps": 50_000,
  "ema.decay": 0.999,
  "ema.start_step": 1_000,
  "evaluation.samples": 10,
  "evaluation.repeats": 1,
}
"""Changes of `PAPER` for data sets outside the paper."""

SHAPE_MOTION: dict[str, Any] = {
  "data.name": "shape_motion",
  "data.eval_window": "random",
  "algorithm.num_classes": 2,
  "evaluation.object_tracking": True,
}
"""The data set Shape Motion: two classes, and scores of the object's position."""


def configure(config: ml_collections.ConfigDict, form: str, *, channels: int = 120) -> None:
  """Sets the sizes of one form, a name in `FORMS`; UserError for others.

  `channels` is ch of the generator and the discriminators in the form 'paper': 120 in the final model, 48 in the
  comparisons.
  """
  paper = {**PAPER, "algorithm.generator_channels": channels, "algorithm.discriminator_channels": channels}
  apply_form(config, form, {"paper": paper, "cpu": CPU, "smoke": SMOKE})


def comparison(config: ml_collections.ConfigDict, form: str) -> None:
  """Sets up a row of Table 1 or 2: Kinetics-600 at ch 48, its validation split, or a small `form` on Shape Motion."""
  if form == "paper":
    config.data.name = "kinetics600"
    config.evaluation.split = "validation"
  else:
    config.update_from_flattened_dict(SHAPE_MOTION)
  configure(config, form, channels=48)
