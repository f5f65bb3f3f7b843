"""Rows that are compared: of Table 1 of TrIVD-GAN-FP and its recurrent units, with its figures; variants of MVT-GAN."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidgen_jax.errors import UserError
from vidgen_jax.gans import presets
from vidgen_jax.gans.views import DECOMPOSITIONS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


@dataclass(frozen=True, kw_only=True)
class Published:
  """What the paper measured on TPU v3.

  Attributes:
    ms: of a step.
    gb: memory at most.
    kilosteps: thousands of steps in 103 hours.
  """

  ms: float | None = None
  gb: float | None = None
  kilosteps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
  """A row before it is measured.

  Attributes:
    changes: fields of the experiment's algorithm and their values.
    published: the paper's figures.
    optional: whether it is left out unless it is named.
  """

  changes: Mapping[str, Any]
  published: Published = field(default_factory=Published)
  optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
  """What a table compares.

  Attributes:
    algorithm: of which the rows are variants.
    rows: by name, in order.
    reference: the row that ratios refer to.
    at_most: goals for the ratios, by row.
    source: where the paper's figures are from.
  """

  algorithm: str
  rows: Mapping[str, Row]
  reference: str
  at_most: Mapping[str, float]
  source: str


def _decompositions() -> Table:
  published = {
    "clip": Published(ms=488, gb=3.49, kilosteps=758),
    "downsampled": Published(ms=370, gb=3.01, kilosteps=1000),
    "cropped": Published(ms=371, gb=3.10, kilosteps=997),
    "cropped_downsampled": Published(ms=467, gb=3.30, kilosteps=792),
    "mocogan_like_1": Published(ms=568, gb=3.95, kilosteps=651),
    "mocogan_like": Published(ms=660, gb=3.95, kilosteps=561),
    "dvd_gan_fp": Published(ms=537, gb=3.53, kilosteps=689),
    "faster": Published(ms=453, gb=3.54, kilosteps=817),
    "stronger": Published(ms=548, gb=3.65, kilosteps=675),
  }
  changes = {name: {"decomposition": name} for name in DECOMPOSITIONS}
  changes["mocogan_like_1"] = {"decomposition": "mocogan_like", "frames_per_clip": 1}
  return Table(
    algorithm="trivd",
    rows={name: Row(changes=changes[name], published=figures) for name, figures in published.items()},
    reference="dvd_gan_fp",
    at_most={"faster": 0.85, "stronger": 1.05},
    source="TrIVD-GAN-FP, Table 1: TPU v3, batch 8 a device; K steps in 103 hours",
  )


def _units() -> Table:
  # F.4 says TSRU, without the letter of its kind.
  published = {"conv_gru": 284.0, "tsru_c": 354.0, "tsru_p": 354.0, "tsru_s": 354.0, "dynamic_conv_lstm": 6385.0}
  return Table(
    algorithm="trivd",
    rows={
      name: Row(
        changes={"recurrent_unit": name},
        published=Published(ms=published.get(name)),
        optional=name == "dynamic_conv_lstm",
      )
      for name in RECURRENT_UNITS
    },
    reference="conv_gru",
    at_most={"tsru_p": 1.25},
    source="TrIVD-GAN-FP, F.4: batch 512 on TPU v3",
  )


def _mvt() -> Table:
  plain = {"motion_constraint": 0.0, "latent_scales": (1.0, 1.0, 1.0), "shifted_blocks": 0, "flow_weights": ""}
  return Table(
    algorithm="mvt",
    rows={name: Row(changes=plain | changes) for name, changes in presets.MVT_ROWS.items()},
    reference="mvt",
    at_most={},
    source="MVT-GAN gives no times",
  )


TABLES: Mapping[str, Callable[[], Table]] = {"decompositions": _decompositions, "units": _units, "mvt": _mvt}
"""Tables by name, made when asked for."""


def choose_rows(table: Table, names: Sequence[str]) -> dict[str, Row]:
  """The rows of these names, in the table's order; of no names, all that are not optional.

  Raises:
    UserError: if a name is not in the table.
  """
  for name in names:
    if name not in table.rows:
      raise UserError(f"--rows: {name!r} is not one of {', '.join(table.rows)}")
  return {name: row for name, row in table.rows.items() if (name in names if names else not row.optional)}
