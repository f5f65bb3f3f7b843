"""Settings of MVT-GAN that several experiments share."""

from typing import Any

import ml_collections

from vidgen_jax.gans.presets import CPU_RUN, PAPER_DATA, SMOKE_RUN, apply_form, variants_of

ROWS: dict[str, dict[str, Any]] = {
  "mvt": {},
  "mvt_mc": {"motion_constraint": 1.0},
  "mvt_var": {"latent_scales": (0.5, 1.0, 2.0)},
  "mvt_tsa": {"latent_scales": (0.5, 1.0, 2.0), "shifted_blocks": 2},
}
"""Changes of the paper's model variants relative to MVT (6.2), by name."""

VARIANTS = variants_of(tuple(ROWS))
"""Variants of the experiments."""

PAPER: dict[str, Any] = {
  **PAPER_DATA,
  "data.resolution": 96,
  # 6.1 names crops without their position; the authors' code crops the centre.
  "data.train_crop": "centre",
  "algorithm.frames_per_clip": 4,
  "train.batch_size": 40,
  "train.num_steps": 100_000,
  "ema.decay": 0.9999,
  "ema.start_step": 20_000,
  "evaluation.batch_size": 40,
  "evaluation.samples": 1,
  "evaluation.num_generated": 10_000,
  "evaluation.repeats": 10,
  "evaluation.c3d_protocol": "tgan1",
  "evaluation.standing_batches": 100,
  "evaluation.standing_batch_size": 40,
}
"""6.1 to 6.3: batch size 40, 16 consecutive frames, a = 96, N = 4; ten evaluations of 10,000 clips with TGAN's C3D.

The paper gives neither the number of steps nor averages of the weights; BigGAN's are used.
"""

CPU: dict[str, Any] = {
  **CPU_RUN,
  # As when its results were measured, before the published values were known.
  "algorithm.sequence_spectral_norm": False,
  "algorithm.embedding_spectral_norm": False,
  "algorithm.conditional_bias": False,
  "algorithm.video_discriminator_batch_norm": False,
  "train.checkpoint_every": 500,
  "algorithm.latent_sizes": (8, 8, 16),
  "algorithm.class_features": 32,
  "algorithm.hidden_features": 128,
  "algorithm.generator_channels": 16,
  "algorithm.generator_multipliers": (8, 4, 2, 1),
  "algorithm.generator_attention": 1,
  "algorithm.image_discriminator_channels": 16,
  "algorithm.image_discriminator_multipliers": (1, 2, 4, 4),
  "algorithm.image_discriminator_attention": 0,
  "algorithm.frames_per_clip": 4,
  "algorithm.video_discriminator_widths": (16, 32, 64),
  "algorithm.generator_optimizer.learning_rate": 2e-4,
  "algorithm.discriminator_optimizer.learning_rate": 8e-4,
}
"""Small enough for two CPU cores: 8 frames of 32x32, widths from 16 to 128, attention at 16x16."""

SMOKE: dict[str, Any] = {
  **CPU,
  **SMOKE_RUN,
  "data.num_frames": 4,
  "algorithm.latent_sizes": (2, 2, 4),
  "algorithm.class_features": 4,
  "algorithm.hidden_features": 8,
  "algorithm.generator_channels": 8,
  "algorithm.generator_multipliers": (1, 1, 1),
  "algorithm.image_discriminator_channels": 8,
  "algorithm.image_discriminator_multipliers": (1, 1),
  "algorithm.frames_per_clip": 2,
  "algorithm.video_discriminator_widths": (4, 4),
}
"""`CPU` reduced to a run of seconds, for tests; learns nothing."""


def configure(config: ml_collections.ConfigDict, row: str, form: str) -> None:
  """Sets the sizes of one form, a name in `FORMS`, and the changes of one row, a name in `ROWS`."""
  apply_form(config, form, {"paper": PAPER, "cpu": CPU, "smoke": SMOKE})
  # Clips from noise are scored as a set, by `vidgen evaluate --networks`.
  config.train.evaluate_every = 0
  config.algorithm.update(ROWS[row])
