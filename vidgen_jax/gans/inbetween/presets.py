"""Settings of Inbetweening that several experiments share."""

from typing import Any

from vidgen_jax.gans.presets import CPU_RUN, PAPER_DATA, SMOKE_RUN

PAPER: dict[str, Any] = {
  **PAPER_DATA,
  "data.train_crop": "centre",
  "ema.decay": 0.0,
  "train.batch_size": 32,
  "train.num_steps": 500_000,
  "train.checkpoint_every": 5_000,
  "train.keep_every": 5_000,
  "evaluation.batch_size": 64,
  "evaluation.samples": 100,
  "evaluation.standing_batches": 100,
  "evaluation.standing_batch_size": 32,
}
"""3, 4.1 and B.1: 16 frames of central squares of 64x64, batch size 32, 500,000 steps, 100 checkpoints.

The paper evaluates live weights: with decay 0 the averages equal these, so all commands use live weights. Averages, as
for the other models: `--config.ema.decay=0.999 --config.ema.start_step=1000`.
"""

CPU: dict[str, Any] = {
  **CPU_RUN,
  "data.train_crop": "centre",
  "train.evaluate_every": 500,
  "train.checkpoint_every": 500,
  "data.frame_stride": 2,
  "algorithm.latent_features": 32,
  "algorithm.encoding_features": 16,
  "algorithm.encoder_widths": (16, 32),
  "algorithm.latent_blocks": (2, 2, 2),
  "algorithm.decoder_widths": (32, 16),
  "algorithm.video_discriminator_widths": (16, 32),
  "algorithm.image_discriminator_widths": (16, 32, 64),
  "algorithm.frames_per_clip": 6,
  "algorithm.generator_optimizer.learning_rate": 2e-4,
  "algorithm.discriminator_optimizer.learning_rate": 1e-3,
  "evaluation.training_clips": 128,
}
"""Small enough to learn on two CPU cores: every second of 15 frames, 32x32, 2 blocks per level.

The latent video has 8x8 pixels, as in the paper. The image discriminator sees all intermediate frames instead of one,
and the discriminators' learning rate is higher than the generator's: otherwise, with batch size 8, they lag behind and
the generator ignores the key frames.
"""

SMOKE: dict[str, Any] = {
  **CPU,
  **SMOKE_RUN,
  "algorithm.frames_per_clip": 2,
  "algorithm.latent_features": 4,
  "algorithm.encoding_features": 4,
  "algorithm.encoder_widths": (4, 4),
  "algorithm.latent_blocks": (1, 2),
  "algorithm.decoder_widths": (4, 4),
  "algorithm.video_discriminator_widths": (4, 4),
  "algorithm.image_discriminator_widths": (4, 4),
}
"""`CPU` reduced to a run of seconds, for tests; learns nothing."""

_SELECTION = {"evaluation.selection_split": "validation"}

SIZES = {"paper": PAPER | _SELECTION, "cpu": CPU | _SELECTION, "smoke": SMOKE}
"""Settings by form for the paper's data sets, which have a validation split (B.2)."""

SHORT_SIZES = {"paper": {**PAPER, "train.num_steps": 100_000, "evaluation.samples": 10}, "cpu": CPU, "smoke": SMOKE}
"""Settings by form for data sets outside the paper, with a shorter schedule."""
