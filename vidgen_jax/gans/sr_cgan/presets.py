"""Settings of SR-cGAN that several experiments share."""

from typing import Any

import ml_collections

from vidgen_jax.gans.presets import CPU_RUN, PAPER_DATA, SMOKE_RUN, apply_form

PAPER: dict[str, Any] = {
  **PAPER_DATA,
  "ema.decay": 0.999,
  "ema.start_step": 1_000,
  "train.batch_size": 32,
  "train.num_steps": 150_000,
  "train.checkpoint_every": 5_000,
  "evaluation.batch_size": 64,
  "evaluation.samples": 10,
  "evaluation.standing_batches": 100,
  "evaluation.standing_batch_size": 32,
}
"""III.D and IV: 16 frames of 64x64, up to six anchors. Batch size, steps and averages are not in the paper.

Weights, learning rates and the length of z_I are the defaults of `SrCganConfig`, with which `CPU` learned.
"""

FIXED_ANCHORS: dict[str, Any] = {**PAPER, "algorithm.anchors": (6, 6)}
"""Six anchors in every training clip, as in V.B and figures 8 and 12."""

CPU: dict[str, Any] = {
  **CPU_RUN,
  "data.num_frames": 16,
  "data.frame_stride": 2,
  "algorithm.image_steps": 5_000,
  "algorithm.anchors": (2, 6),
  "algorithm.image_widths": (16, 32, 64, 128),
  "algorithm.image_discriminator_widths": (8, 16, 32, 64),
  "algorithm.image_discriminator_features": 64,
  "algorithm.temporal_features": 128,
  "algorithm.hidden_features": 256,
  "algorithm.temporal_discriminator_widths": (16, 32, 64),
  "train.num_steps": 20_000,
  "ema.decay": 0.999,
  "evaluation.training_clips": 128,
  "algorithm.image_encoder_optimizer.learning_rate": 5e-4,
  "algorithm.image_generator_optimizer.learning_rate": 5e-4,
  "train.evaluate_every": 1_000,
  "train.checkpoint_every": 1_000,
}
"""Small enough to learn on two CPU cores: every second of 31 frames, 32x32; 5,000 steps on frames first."""

CPU_64: dict[str, Any] = {
  **CPU,
  "data.num_frames": 8,
  "data.frame_stride": 4,
  "data.resolution": 64,
  "algorithm.num_frames": 8,
  "algorithm.image_steps": 3_000,
  "algorithm.anchors": (2, 3),
  "algorithm.conditioning_indices": (0, 4, 7),
  "algorithm.image_widths": (16, 32, 64, 128, 256),
  "algorithm.image_discriminator_widths": (4, 8, 16, 32, 64),
  "algorithm.temporal_discriminator_widths": (8, 16, 32, 64),
  "algorithm.image_encoder_optimizer.learning_rate": 2e-3,
  "algorithm.image_generator_optimizer.learning_rate": 2e-3,
  "train.num_steps": 4_500,
  "train.evaluate_every": 500,
  "train.checkpoint_every": 500,
}
"""The published 64x64 on two CPU cores: eight frames, every fourth of 29, and one more layer.

With widths (8, 16, 32, 64, 128) E_I and G_I knew places but no colours after 3,000 steps; with these, after 1,500.
"""

SMOKE: dict[str, Any] = {
  **CPU,
  **SMOKE_RUN,
  "data.num_frames": 5,
  "algorithm.num_frames": 5,
  "algorithm.image_steps": 2,
  "algorithm.frames_per_clip": 2,
  "algorithm.anchors": (1, 3),
  "algorithm.conditioning_indices": (0, 3),
  "algorithm.image_widths": (4, 4),
  "algorithm.image_features": 4,
  "algorithm.image_discriminator_widths": (4, 4),
  "algorithm.image_discriminator_features": 8,
  "algorithm.temporal_features": 4,
  "algorithm.hidden_features": 8,
  "algorithm.temporal_discriminator_widths": (4, 4),
}
"""`CPU` reduced to a run of seconds, for tests: two steps on frames, two on clips; learns nothing."""

FROM_NOISE: dict[str, Any] = {"algorithm.anchors": (0, 0), "algorithm.conditioning_indices": ()}
"""The base model, which generates clips from noise (III.B.2)."""

BASE: dict[str, Any] = {
  **FROM_NOISE,
  "algorithm.clip_optimizer.learning_rate": 2e-4,
  "algorithm.temporal_discriminator_optimizer.learning_rate": 4e-4,
  "algorithm.fine_tuning_rate": 0.5,
  "algorithm.image_features": 16,
  "algorithm.image_prior_weight": 5.0,
}
"""Settings with which the base model learned.

D_T is the only training signal of the generators: it must stay ahead of them, and latents must be few and smooth.
"""

BASE_CPU: dict[str, Any] = {**CPU, **BASE, "algorithm.image_steps": 3_000, "train.num_steps": 12_000}
"""The base model on two CPU cores."""

SIZES = {
  "paper": PAPER,
  "fixed_anchors": FIXED_ANCHORS,
  "cpu": CPU,
  "cpu_64": CPU_64,
  "smoke": SMOKE,
  "base": {**PAPER, **BASE},
  "base_cpu": BASE_CPU,
  "base_smoke": {**SMOKE, **FROM_NOISE},
}
"""Settings by variant."""


def configure(config: ml_collections.ConfigDict, variant: str, *, tracked: bool = False) -> None:
  """Sets the sizes of one variant, a name in `SIZES`; UserError for others.

  `tracked` says whether clips show a single object whose position is scored.
  """
  apply_form(config, variant, SIZES)
  config.evaluation.object_tracking = tracked
  if variant.startswith("base") and not tracked:
    # Clips from noise are scored as a set, by `vidgen evaluate --networks`.
    config.train.evaluate_every = 0


def eight_frames(config: ml_collections.ConfigDict, variant: str) -> None:
  """Changes a variant, after `configure`, to consecutive frames; with anchors, to three of eight, as in figure 9.

  Smoke variants stay as they are.
  """
  if variant.endswith("smoke"):
    return
  config.data.frame_stride = 1
  if not variant.startswith("base"):
    config.data.num_frames = config.algorithm.num_frames = 8
    config.algorithm.anchors = (3 if variant == "fixed_anchors" else 1, 3)
    config.algorithm.conditioning_indices = (0, 4, 7)
