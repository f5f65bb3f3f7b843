"""The paper's figures agree with each other, and rows are chosen."""

import pytest

from vidgen_jax.bench.paper_tables import TABLES, choose_rows
from vidgen_jax.errors import UserError
from vidgen_jax.gans.trivd.decompositions import DECOMPOSITIONS
from vidgen_jax.nn.recurrent import RECURRENT_UNITS


def test_the_papers_step_budgets_follow_from_its_times():
  rows = TABLES["decompositions"]().rows
  fastest = min(row.published.ms for row in rows.values())
  for row in rows.values():
    assert row.published.kilosteps == round(1000 * fastest / row.published.ms)
  assert 1e6 * fastest / 1e3 / 3600 == pytest.approx(103, abs=0.5)  # hours


def test_the_papers_own_ratios_meet_the_goals():
  for make in TABLES.values():
    table = make()
    base = table.rows[table.reference].published.ms
    assert all(table.rows[name].published.ms / base <= goal for name, goal in table.at_most.items())


def test_every_decomposition_has_a_row_and_mocogan_like_two():
  rows = TABLES["decompositions"]().rows
  assert {row.changes["decomposition"] for row in rows.values()} == set(DECOMPOSITIONS)
  assert rows["mocogan_like_1"].changes == {"decomposition": "mocogan_like", "frames_per_clip": 1}
  assert rows["mocogan_like"].changes == {"decomposition": "mocogan_like"}
  assert len(rows) == 9


def test_every_unit_has_a_row_and_the_slow_one_must_be_named():
  table = TABLES["units"]()
  assert {name: row.changes for name, row in table.rows.items()} == {
    name: {"recurrent_unit": name} for name in RECURRENT_UNITS
  }
  assert set(choose_rows(table, [])) == set(RECURRENT_UNITS) - {"dynamic_conv_lstm"}
  assert list(choose_rows(table, ["dynamic_conv_lstm", "conv_gru"])) == ["conv_gru", "dynamic_conv_lstm"]


def test_a_unit_made_known_later_has_a_row(monkeypatch):
  monkeypatch.setitem(RECURRENT_UNITS, "newest", RECURRENT_UNITS["conv_gru"])
  assert TABLES["units"]().rows["newest"].published.ms is None


def test_a_row_that_is_not_there():
  with pytest.raises(UserError, match="--rows: 'fastest' is not one of clip, downsampled, cropped, "):
    choose_rows(TABLES["decompositions"](), ["faster", "fastest"])
