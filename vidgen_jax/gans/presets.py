"""Sizes that experiment files share."""

from collections.abc import Sequence

import ml_collections

from vidgen_jax.errors import UserError

FORMS = ("paper", "cpu", "smoke")
"""Forms of an experiment: the paper's size, one for two CPU cores, one for tests."""


def unknown_variant(variant: str, *, choices: Sequence[str] = FORMS) -> UserError:
  """The error of an experiment file that is asked for a variant it does not have."""
  *others, last = choices
  return UserError(f"the experiment has no variant {variant!r}; choose {', '.join(others)} or {last}")


def variants_of(rows: Sequence[str]) -> tuple[str, ...]:
  """The variants of an experiment file with rows: each row, ROW_cpu and ROW_smoke."""
  return tuple(row if form == "paper" else f"{row}_{form}" for row in rows for form in FORMS)


def row_and_form(variant: str, rows: Sequence[str]) -> tuple[str, str]:
  """Splits a variant: 'faster' is ('faster', 'paper'), 'faster_cpu' is ('faster', 'cpu').

  Raises:
    UserError: if there is no such variant.
  """
  if variant not in variants_of(rows):
    raise unknown_variant(variant, choices=[*rows, "one of these with _cpu or _smoke behind it"])
  form = next((form for form in FORMS[1:] if variant.endswith(f"_{form}")), FORMS[0])
  return variant.removesuffix(f"_{form}"), form


def shape_motion(config: ml_collections.ConfigDict) -> None:
  """Data and scores of TrIVD-GAN on Shape Motion: two classes, and the object is scored by its place."""
  config.data.name = "shape_motion"
  config.data.eval_window = "random"
  config.algorithm.num_classes = 2
  config.evaluation.object_tracking = True


def trivd_cpu(config: ml_collections.ConfigDict) -> None:
  """TrIVD-GAN small enough to learn on two CPU cores: 32x32, 3 frames -> 5, DVD-GAN-FP's two discriminators, ConvGRU.

  The rates are higher than the paper's because the batch is 8 instead of 512. Recurrences and loops are unrolled
  because weight gradients inside a loop are slow on CPUs (see `vidgen_jax.ops.loops.scan`).
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
  _cpu_run(config, score_every=250)


def trivd_smoke(config: ml_collections.ConfigDict) -> None:
  """The `cpu` form shrunk until a run of four steps takes seconds: for tests of the machinery, learns nothing."""
  trivd_cpu(config)
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
  _smoke_run(config)


def _read_by_processes(config: ml_collections.ConfigDict) -> None:
  """Reading as accelerators need it: eight processes with a thread each, since threads wait for Python's lock."""
  config.data.workers = 8
  config.data.num_threads = 1


def trivd_paper(config: ml_collections.ConfigDict, *, channels: int = 120) -> None:
  """TrIVD-GAN-FP as in TrIVD-GAN-FP (4.4, E): batch 512, 700,000 steps, 5 -> 11 frames, 64x64.

  Args:
    config: to change.
    channels: ch of the generator and the discriminators: 120 in the final model, 48 in the comparisons.
  """
  _read_by_processes(config)
  config.data.num_frames = 16
  config.data.resolution = 64
  config.algorithm.generator_channels = channels
  config.algorithm.discriminator_channels = channels
  config.algorithm.remat = True
  config.evaluation.batch_size = 256
  config.evaluation.num_clips = 0


def trivd_comparison(config: ml_collections.ConfigDict, form: str) -> None:
  """What the rows of a comparison in TrIVD-GAN-FP share: Kinetics-600 at ch 48, or a small `form` on Shape Motion.

  Args:
    config: to change.
    form: one of `FORMS`.
  """
  if form == "paper":
    config.data.name = "kinetics600"
    trivd_paper(config, channels=48)
  else:
    shape_motion(config)
    {"cpu": trivd_cpu, "smoke": trivd_smoke}[form](config)


def inbetween_paper(config: ml_collections.ConfigDict) -> None:
  """Inbetweening as in Inbetweening (3, 4.1): 16 frames of 64x64, batch 32, 500,000 steps, a checkpoint every 5,000.

  The averages of the generator's weights are ours: the paper evaluates the live ones (`--weights=raw`).
  """
  _read_by_processes(config)
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


def inbetween_cpu(config: ml_collections.ConfigDict) -> None:
  """Inbetweening small enough to learn on two CPU cores: every second of 15 frames, 32x32, 2 blocks a level.

  The latent video has 8x8 pixels, as in the paper. The image discriminator sees all frames between instead of one, and
  its rate is higher than the generator's: with batches of 8 it does not keep up otherwise, and what the generator makes
  then has nothing to do with the key frames. Loops are written out because weight gradients inside a loop are slow on
  CPUs (see `vidgen_jax.ops.loops.scan`).
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
  _cpu_run(config, score_every=500)
  config.evaluation.training_clips = 128


def inbetween_smoke(config: ml_collections.ConfigDict) -> None:
  """The `cpu` form shrunk until a run of four steps takes seconds: for tests of the machinery, learns nothing."""
  inbetween_cpu(config)
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
  _smoke_run(config)


SR_CGAN_VARIANTS = ("paper", "cpu", "smoke", "base", "base_cpu", "base_smoke")
"""Of SR-cGAN's model; the last three train its base model, which makes clips from noise (III.B.2)."""


def sr_cgan(config: ml_collections.ConfigDict, variant: str, *, tracked: bool = False) -> None:
  """SR-cGAN in one of its variants.

  Args:
    config: to change.
    variant: one of `SR_CGAN_VARIANTS`.
    tracked: whether clips show one object that can be followed.

  Raises:
    UserError: for another variant.
  """
  if variant not in SR_CGAN_VARIANTS:
    raise unknown_variant(variant, choices=SR_CGAN_VARIANTS)
  is_base, form = variant.startswith("base"), variant.removeprefix("base").removeprefix("_") or "paper"
  {"paper": sr_cgan_paper, "cpu": sr_cgan_cpu, "smoke": sr_cgan_smoke}[form](config)
  config.evaluation.object_tracking = tracked
  if is_base:
    config.algorithm.anchors = (0, 0)
    config.algorithm.conditioning_indices = ()
  if is_base and not tracked:
    # Nothing can be said of single clips from noise: they are scored as a set, by `vidgen evaluate --networks`.
    config.train.evaluate_every = 0
  if variant == "base_cpu":
    # Nothing but D_T leads the generators: it must keep ahead of them, and latents lie in few, smooth dimensions.
    config.algorithm.clip_optimizer.learning_rate = 2e-4
    config.algorithm.temporal_discriminator_optimizer.learning_rate = 4e-4
    config.algorithm.fine_tuning_rate = 0.5
    config.algorithm.image_features = 16
    config.algorithm.image_prior_weight = 5.0
    config.algorithm.image_steps = 3_000
    config.train.num_steps = 12_000


def sr_cgan_eight_frames(config: ml_collections.ConfigDict, variant: str) -> None:
  """Consecutive clips of eight frames, of which three are anchors, as in SR-cGAN's figure 9; after `sr_cgan`.

  Args:
    config: to change.
    variant: one of `SR_CGAN_VARIANTS`; the smoke forms have five frames and stay as they are.
  """
  if variant.endswith("smoke"):
    return
  config.data.num_frames = config.algorithm.num_frames = 8
  config.data.frame_stride = 1
  if not variant.startswith("base"):
    config.algorithm.anchors = (1, 3)
    config.algorithm.conditioning_indices = (0, 4, 7)


def sr_cgan_paper(config: ml_collections.ConfigDict) -> None:
  """SR-cGAN as in SR-cGAN (III.D, IV): 16 frames of 64x64, up to six anchors.

  Batch, steps and averages are not in the paper; they are ours.
  """
  _read_by_processes(config)
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


def sr_cgan_cpu(config: ml_collections.ConfigDict) -> None:
  """SR-cGAN small enough to learn on two CPU cores: every second of 31 frames, 32x32; 5,000 steps of frames first."""
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
  # Errors are sums over pixels: with less, blurred clips are as good as sharp ones.
  algorithm.content_weight = 10.0
  _cpu_run(config, score_every=1_000)
  config.train.num_steps = 20_000
  config.ema.decay = 0.999
  config.evaluation.training_clips = 128


def sr_cgan_smoke(config: ml_collections.ConfigDict) -> None:
  """The `cpu` form shrunk until a run of four steps takes seconds: for tests of the machinery, learns nothing.

  Two steps are of frames, two of clips.
  """
  sr_cgan_cpu(config)
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
  _smoke_run(config)


MVT_ROWS = {
  "mvt": {},
  "mvt_mc": {"motion_constraint": 1.0},
  "mvt_var": {"latent_scales": (0.5, 1.0, 2.0)},
  "mvt_tsa": {"latent_scales": (0.5, 1.0, 2.0), "shifted_blocks": 2},
}
"""What the variants of MVT-GAN (6.2) change in MVT."""


def mvt(config: ml_collections.ConfigDict, row: str, form: str, *, resolution: int = 96) -> None:
  """MVT-GAN as in MVT-GAN (6.1, 6.2), or small.

  Steps, EMA and the form of its start are not in the paper; those of BigGAN are taken.

  Args:
    config: to change.
    row: one of `MVT_ROWS`.
    form: one of `FORMS`.
    resolution: of the form 'paper'.
  """
  {"paper": _mvt_paper, "cpu": _mvt_cpu, "smoke": _mvt_smoke}[form](config)
  # Clips from noise are scored as a set, by `vidgen evaluate --networks`.
  config.train.evaluate_every = 0
  if form == "paper":
    config.data.resolution = resolution
  config.algorithm.update(MVT_ROWS[row])


def _mvt_paper(config: ml_collections.ConfigDict) -> None:
  """Batch 40 of 16 consecutive frames, a = 96, N = 4; 100,000 steps."""
  _read_by_processes(config)
  config.data.num_frames = 16
  config.algorithm.frames_per_clip = 4
  config.train.batch_size = 40
  config.train.num_steps = 100_000
  config.ema.decay = 0.9999
  config.ema.start_step = 20_000
  config.evaluation.batch_size = 40
  config.evaluation.samples = 1
  config.evaluation.standing_batches = 100
  config.evaluation.standing_batch_size = 40


def _mvt_cpu(config: ml_collections.ConfigDict) -> None:
  """Small enough for two CPU cores: 8 frames of 32x32, widths of 16 to 128, attention at 16x16."""
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
  _cpu_run(config, score_every=500)


def _mvt_smoke(config: ml_collections.ConfigDict) -> None:
  """The `cpu` form shrunk until a run of four steps takes seconds: for tests of the machinery, learns nothing."""
  _mvt_cpu(config)
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
  _smoke_run(config)


def _cpu_run(config: ml_collections.ConfigDict, *, score_every: int) -> None:
  """5,000 steps of batch 8 on two cores, loops written out; scores and checkpoints every `score_every` steps."""
  if "unroll" in config.algorithm:
    config.algorithm.unroll = True
  config.step.unroll = True
  config.ema.decay = 0.99
  config.ema.start_step = 0
  config.ema.warmup = True
  config.train.batch_size = 8
  config.train.num_steps = 5_000
  config.train.log_every = 50
  config.train.image_every = 500
  config.train.evaluate_every = score_every
  config.train.checkpoint_every = score_every
  config.evaluation.standing_batches = 20
  config.evaluation.standing_batch_size = 64


def _smoke_run(config: ml_collections.ConfigDict) -> None:
  """Four steps, with everything that a run does now and then."""
  config.train.num_steps = 4
  config.train.log_every = 1
  config.train.image_every = 4
  config.train.evaluate_every = 4
  config.train.checkpoint_every = 2
  evaluation = config.evaluation
  evaluation.batch_size = 8
  evaluation.num_clips = 8
  evaluation.samples = 2
  evaluation.standing_batches = 2
  evaluation.standing_batch_size = 8
  evaluation.training_clips = 8
  evaluation.training_standing_batches = 2
