"""Rows of the compared tables: Table 1 and the recurrent units of TrIVD-GAN-FP, and the variants of MVT-GAN."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidgen_jax.errors import UserError
from vidgen_jax.gans.mvt.presets import ROWS as MVT_ROWS
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


@dataclass(frozen=True, kw_only=True)
class Published:
  """Figures of the paper, measured on TPU v3.

  Attributes:
    ms: duration of a train step.
    gb: peak memory.
    kilosteps: thousands of steps in 103 hours.
  """

  ms: float | None = None
  gb: float | None = None
  kilosteps: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
  """A row to measure.

  Attributes:
    changes: fields of the experiment's algorithm and their values.
    published: the paper's figures.
    optional: whether the row is measured only if it is named.
  """

  changes: Mapping[str, Any]
  published: Published = field(default_factory=Published)
  optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
  """A comparison of variants of one algorithm.

  Attributes:
    algorithm: name of the algorithm.
    rows: rows by name, in order.
    reference: name of the row that ratios refer to.
    at_most: goals for the ratios, by row.
    source: source of the paper's figures.
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
  changes: dict[str, dict[str, Any]] = {name: {"decomposition": name} for name in DECOMPOSITIONS}
  changes["mocogan_like_1"] = {"decomposition": "mocogan_like", "frames_per_clip": 1}
  return Table(
    algorithm="trivd",
    rows={name: Row(changes=changes[name], published=figures) for name, figures in published.items()},
    reference="dvd_gan_fp",
    at_most={"faster": 0.85, "stronger": 1.05},
    source="TrIVD-GAN-FP, Table 1: TPU v3, batch 8 per device; K steps in 103 hours",
  )


# F.4 gives one time for TSRU, without the letter of its kind.
_UNIT_MS = {"conv_gru": 284.0, "tsru": 354.0, "dynamic_conv_lstm": 6385.0}
_SLOW_MS = 1000.0


def _units() -> Table:
  rows = {}
  for name in RECURRENT_UNITS:
    ms = next((ms for prefix, ms in _UNIT_MS.items() if name.startswith(prefix)), None)
    is_slow = ms is not None and ms > _SLOW_MS
    rows[name] = Row(changes={"recurrent_unit": name}, published=Published(ms=ms), optional=is_slow)
  return Table(
    algorithm="trivd",
    rows=rows,
    reference="conv_gru",
    at_most={"tsru_p": 1.25},
    source="TrIVD-GAN-FP, F.4: batch 512 on TPU v3",
  )


def _mvt() -> Table:
  plain = {"motion_constraint": 0.0, "latent_scales": (1.0, 1.0, 1.0), "shifted_blocks": 0, "flow_weights": ""}
  return Table(
    algorithm="mvt",
    rows={name: Row(changes=plain | changes) for name, changes in MVT_ROWS.items()},
    reference="mvt",
    at_most={},
    source="MVT-GAN gives no times",
  )


TABLES: Mapping[str, Callable[[], Table]] = {"decompositions": _decompositions, "units": _units, "mvt": _mvt}
"""Functions that make a table, by its name."""


def choose_rows(table: Table, names: Sequence[str]) -> dict[str, Row]:
  """Chooses rows by name, in the table's order; without names all that are not optional.

  Raises:
    UserError: if a name is not in the table.
  """
  for name in names:
    if name not in table.rows:
      raise UserError(f"--rows: {name!r} is not one of {', '.join(table.rows)}")
  return {name: row for name, row in table.rows.items() if (name in names if names else not row.optional)}
