"""Settings of SR-cGAN that several experiments share."""

import ml_collections

from vidgen_jax.gans.presets import cpu_run, read_in_processes, smoke_run, unknown_variant

VARIANTS = ("paper", "cpu", "smoke", "base", "base_cpu", "base_smoke")
"""Variants of the experiments; the last three train the base model, which generates clips from noise (III.B.2)."""


def configure(config: ml_collections.ConfigDict, variant: str, *, tracked: bool = False) -> None:
  """Sets the sizes of one variant.

  Args:
    config: config to change.
    variant: a name in `VARIANTS`.
    tracked: whether clips show a single object whose position is scored.

  Raises:
    UserError: if there is no such variant.
  """
  if variant not in VARIANTS:
    raise unknown_variant(variant, choices=VARIANTS)
  if "smoke" in variant:
    _smoke(config)
  elif "cpu" in variant:
    _cpu(config)
  else:
    _paper(config)
  config.evaluation.object_tracking = tracked
  if variant.startswith("base"):
    config.algorithm.anchors = (0, 0)
    config.algorithm.conditioning_indices = ()
    if not tracked:
      # Clips from noise are scored as a set, by `vidgen evaluate --networks`.
      config.train.evaluate_every = 0
  if variant == "base_cpu":
    _base_cpu(config)


def eight_frames(config: ml_collections.ConfigDict, variant: str) -> None:
  """Changes a configured variant to eight consecutive frames with three anchors, as in figure 9.

  Args:
    config: config to change, after `configure`.
    variant: a name in `VARIANTS`; smoke variants have five frames and stay as they are.
  """
  if variant.endswith("smoke"):
    return
  config.data.num_frames = config.algorithm.num_frames = 8
  config.data.frame_stride = 1
  if not variant.startswith("base"):
    config.algorithm.anchors = (1, 3)
    config.algorithm.conditioning_indices = (0, 4, 7)


def _paper(config: ml_collections.ConfigDict) -> None:
  """III.D and IV: 16 frames of 64x64, up to six anchors. Batch size, steps and averages are not in the paper."""
  read_in_processes(config)
  config.data.num_frames = 16
  config.data.resolution = 64
  config.ema.decay = 0.999
  config.ema.start_step = 1_000
  config.train.batch_size = 32
  config.train.num_steps = 100_000
  config.train.checkpoint_every = 5_000
  config.evaluation.batch_size = 64
  config.evaluation.samples = 10
  config.evaluation.standing_batches = 100
  config.evaluation.standing_batch_size = 32


def _cpu(config: ml_collections.ConfigDict) -> None:
  """Small enough to learn on two CPU cores: every second of 31 frames, 32x32; 5,000 steps on frames first."""
  config.data.num_frames = 16
  config.data.frame_stride = 2
  config.data.resolution = 32
  algorithm = config.algorithm
  algorithm.image_steps = 5_000
  algorithm.anchors = (2, 6)
  algorithm.image_widths = (16, 32, 64, 128)
  algorithm.image_features = 32
  algorithm.image_discriminator_widths = (8, 16, 32, 64)
  algorithm.image_discriminator_features = 64
  algorithm.temporal_features = 128
  algorithm.hidden_features = 256
  algorithm.temporal_discriminator_widths = (16, 32, 64)
  for name, rate in {"image_encoder": 5e-4, "image_generator": 5e-4, "clip": 1e-3}.items():
    algorithm[f"{name}_optimizer"].learning_rate = rate
  # Reconstruction errors are sums over pixels; with a smaller weight, blurred clips score as well as sharp ones.
  algorithm.content_weight = 10.0
  cpu_run(config, score_every=1_000)
  config.train.num_steps = 20_000
  config.ema.decay = 0.999
  config.evaluation.training_clips = 128


def _base_cpu(config: ml_collections.ConfigDict) -> None:
  """Changes of the base model relative to `_cpu`.

  D_T is the only training signal of the generators: it must stay ahead of them, and latents must be few and smooth.
  """
  config.algorithm.clip_optimizer.learning_rate = 2e-4
  config.algorithm.temporal_discriminator_optimizer.learning_rate = 4e-4
  config.algorithm.fine_tuning_rate = 0.5
  config.algorithm.image_features = 16
  config.algorithm.image_prior_weight = 5.0
  config.algorithm.image_steps = 3_000
  config.train.num_steps = 12_000


def _smoke(config: ml_collections.ConfigDict) -> None:
  """The form 'cpu' reduced to a run of seconds, for tests: two steps on frames, two on clips; learns nothing."""
  _cpu(config)
  config.data.num_frames = 5
  config.data.frame_stride = 1
  config.data.resolution = 16
  algorithm = config.algorithm
  algorithm.num_frames = 5
  algorithm.image_steps = 2
  algorithm.frames_per_clip = 2
  algorithm.anchors = (1, 3)
  algorithm.conditioning_indices = (0, 3)
  algorithm.image_widths = (4, 4)
  algorithm.image_features = 4
  algorithm.image_discriminator_widths = (4, 4)
  algorithm.image_discriminator_features = 8
  algorithm.temporal_features = 4
  algorithm.hidden_features = 8
  algorithm.temporal_discriminator_widths = (4, 4)
  smoke_run(config)
