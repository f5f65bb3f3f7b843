"""Settings that experiments of all GANs share, and the names of their variants."""

from collections.abc import Sequence

import ml_collections

from vidgen_jax.errors import UserError

FORMS = ("paper", "cpu", "smoke")
"""Sizes of an experiment: the paper's size, a size for two CPU cores, a size for tests."""


def unknown_variant(variant: str, *, choices: Sequence[str] = FORMS) -> UserError:
  """The error for a variant that an experiment file does not have."""
  *others, last = choices
  return UserError(f"the experiment has no variant {variant!r}; choose {', '.join(others)} or {last}")


def variants_of(rows: Sequence[str]) -> tuple[str, ...]:
  """Variants of an experiment file with rows: ROW, ROW_cpu and ROW_smoke for each row."""
  return tuple(row if form == "paper" else f"{row}_{form}" for row in rows for form in FORMS)


def row_and_form(variant: str, rows: Sequence[str]) -> tuple[str, str]:
  """Splits a variant: 'faster' into ('faster', 'paper'), 'faster_cpu' into ('faster', 'cpu').

  Raises:
    UserError: if there is no such variant.
  """
  if variant not in variants_of(rows):
    raise unknown_variant(variant, choices=[*rows, "one of these with _cpu or _smoke appended"])
  form = next((form for form in FORMS[1:] if variant.endswith(f"_{form}")), FORMS[0])
  return variant.removesuffix(f"_{form}"), form


def read_in_processes(config: ml_collections.ConfigDict) -> None:
  """Sets up data reading for accelerators: eight processes with one thread each, since threads share Python's lock."""
  config.data.workers = 8
  config.data.num_threads = 1


def cpu_run(config: ml_collections.ConfigDict, *, score_every: int) -> None:
  """Sets up a run on two CPU cores: 5,000 steps with batch size 8; scores and checkpoints every `score_every` steps.

  Loops are unrolled because weight gradients inside a loop are slow on CPUs (see `vidgen_jax.ops.loops.scan`).
  """
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


def smoke_run(config: ml_collections.ConfigDict) -> None:
  """Sets up a test run: four steps in which every periodic hook runs."""
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
