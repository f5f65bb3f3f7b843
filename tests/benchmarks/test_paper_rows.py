"""The papers' figures agree with each other; rows are chosen by name."""

import pytest

from benchmarks.paper_rows import TABLES, choose_rows
from vidgen_jax.errors import UserError
from vidgen_jax.gans.trivd.config import DECOMPOSITIONS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


def test_step_budgets_of_the_paper_follow_from_its_times():
  rows = TABLES["decompositions"]().rows
  fastest = min(row.published.ms for row in rows.values())
  for row in rows.values():
    assert row.published.kilosteps == round(1000 * fastest / row.published.ms)
  assert 1e6 * fastest / 1e3 / 3600 == pytest.approx(103, abs=0.5)  # hours


def test_ratios_of_the_paper_meet_the_goals():
  for make in TABLES.values():
    table = make()
    base = table.rows[table.reference].published.ms
    assert all(table.rows[name].published.ms / base <= goal for name, goal in table.at_most.items())


def test_decompositions_have_one_row_each_and_mocogan_like_two():
  rows = TABLES["decompositions"]().rows
  assert {row.changes["decomposition"] for row in rows.values()} == set(DECOMPOSITIONS)
  assert rows["mocogan_like_1"].changes == {"decomposition": "mocogan_like", "frames_per_clip": 1}
  assert rows["mocogan_like"].changes == {"decomposition": "mocogan_like"}
  assert len(rows) == 9


def test_units_have_one_row_each_and_the_slow_one_is_optional():
  table = TABLES["units"]()
  assert {name: row.changes for name, row in table.rows.items()} == {
    name: {"recurrent_unit": name} for name in RECURRENT_UNITS
  }
  assert set(choose_rows(table, [])) == set(RECURRENT_UNITS) - {"dynamic_conv_lstm"}
  assert list(choose_rows(table, ["dynamic_conv_lstm", "conv_gru"])) == ["conv_gru", "dynamic_conv_lstm"]


def test_units_without_published_times():
  rows = TABLES["units"]().rows
  assert (rows["tsru_c"].published.ms, rows["conv_gru"].published.ms) == (354.0, 284.0)
  assert rows["conv_lstm"].published.ms is None


def test_a_newly_registered_unit_has_a_row(monkeypatch):
  monkeypatch.setitem(RECURRENT_UNITS, "newest", RECURRENT_UNITS["conv_gru"])
  assert TABLES["units"]().rows["newest"].published.ms is None


def test_unknown_rows_are_an_error():
  with pytest.raises(UserError, match="--rows: 'fastest' is not one of clip, downsampled, cropped, "):
    choose_rows(TABLES["decompositions"](), ["faster", "fastest"])
