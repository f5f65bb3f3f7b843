"""Goals, tables and files of figures."""

import json

from vidgen_jax.bench.measurements import Measurement, Report, table_text, write_report


def test_goals():
  assert Measurement(name="a", value=1.0).met is None
  assert Measurement(name="a", value=None, at_most=1.0).met is None
  assert [Measurement(name="a", value=value, at_most=1.15).met for value in (1.15, 1.16)] == [True, False]
  assert [Measurement(name="a", value=value, at_least=3.0).met for value in (3.0, 2.9)] == [True, False]


def test_tables_are_aligned_with_four_digits():
  text = table_text(
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


def test_a_report_is_printed_and_written_as_json_lines(tmp_path, capsys):
  report = Report.of({"b": 1, "c": "x"}, [Measurement(name="a", value=2.0, unit="ms", at_most=1.0)])
  write_report(report, tmp_path / "rows.jsonl")
  first, second = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
  assert first == {"b": 1, "c": "x"}
  assert second == {"name": "a", "value": 2.0, "unit": "ms", "at_most": 1.0, "at_least": None, "note": "", "met": False}
  assert capsys.readouterr().out == "b 1, c x\n\na  2.000 ms  <= 1 MISSED\n"
