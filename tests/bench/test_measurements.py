"""Goals, and how figures are printed and written."""

import json

from vidgen_jax.bench import measurements
from vidgen_jax.bench.measurements import Measurement


def test_goals():
  assert Measurement(name="a", value=1.0).met is None
  assert Measurement(name="a", value=None, at_most=1.0).met is None
  assert [Measurement(name="a", value=value, at_most=1.15).met for value in (1.15, 1.16)] == [True, False]
  assert [Measurement(name="a", value=value, at_least=3.0).met for value in (3.0, 2.9)] == [True, False]


def test_the_table_is_aligned_and_keeps_four_digits():
  text = measurements.table(
    [
      Measurement(name="step", value=12.3456, unit="ms", note="alone"),
      Measurement(name="pipeline / step", value=1234.6, at_least=3.0),
      Measurement(name="loop / step", value=1.0456, at_most=1.03),
      Measurement(name="MFU", value=None, unit="%"),
    ]
  )
  assert text.splitlines() == [
    "step               12.35 ms                  alone",
    "pipeline / step    1,235     >= 3 met",
    "loop / step        1.046     <= 1.03 MISSED",
    "MFU              unknown %",
  ]


def test_a_file_has_an_object_a_line(tmp_path):
  rows = [Measurement(name="a", value=2.0, unit="ms", at_most=1.0).as_row(), {"b": 1}]
  measurements.write_rows(tmp_path / "rows.jsonl", rows)
  first, second = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
  assert first == {"name": "a", "value": 2.0, "unit": "ms", "at_most": 1.0, "at_least": None, "note": "", "met": False}
  assert second == {"b": 1}
