"""Settings that experiments of all GANs share, and the names of their variants."""

from collections.abc import Mapping, Sequence
from typing import Any

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
  """Splits a variant: 'faster' into ('faster', 'paper'), 'faster_cpu' into ('faster', 'cpu'); UserError for others."""
  if variant not in variants_of(rows):
    raise unknown_variant(variant, choices=[*rows, "one of these with _cpu or _smoke appended"])
  form = next((form for form in FORMS[1:] if variant.endswith(f"_{form}")), FORMS[0])
  return variant.removesuffix(f"_{form}"), form


def apply_form(config: ml_collections.ConfigDict, form: str, sizes: Mapping[str, Mapping[str, Any]]) -> None:
  """Sets the fields of one form; `sizes` are values by dotted field, by form. UserError if there is no such form."""
  if form not in sizes:
    raise unknown_variant(form, choices=tuple(sizes))
  config.update_from_flattened_dict(sizes[form])


# Eight processes with one thread each, because threads share Python's lock.
PAPER_DATA = {
  "data.workers": 8,
  "data.num_threads": 1,
  "data.num_frames": 16,
  "data.resolution": 64,
  "mesh.repeat_clips": True,
}
"""Data for accelerators: the papers' clips of 16 frames, in batches that also start on more devices than clips."""

CPU_RUN = {
  "data.num_frames": 8,
  "data.resolution": 32,
  "ema.decay": 0.99,
  "ema.start_step": 0,
  "ema.warmup": True,
  "train.batch_size": 8,
  "train.num_steps": 5_000,
  "train.log_every": 50,
  "train.image_every": 500,
  "evaluation.standing_batches": 20,
  "evaluation.standing_batch_size": 64,
}
"""A run on two CPU cores."""

SMOKE_RUN = {
  "step.quick_compilation": True,
  "data.frame_stride": 1,
  "data.resolution": 16,
  "train.num_steps": 4,
  "train.log_every": 1,
  "train.image_every": 4,
  "train.evaluate_every": 4,
  "train.checkpoint_every": 2,
  "evaluation.batch_size": 8,
  "evaluation.num_clips": 8,
  "evaluation.samples": 2,
  "evaluation.standing_batches": 2,
  "evaluation.standing_batch_size": 8,
  "evaluation.training_clips": 8,
  "evaluation.training_standing_batches": 2,
}
"""A test run: four steps in which every periodic hook runs."""
