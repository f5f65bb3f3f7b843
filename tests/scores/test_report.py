"""Score tables and JSON lines."""

import dataclasses
import json
import math

import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.report import COMPARED, Score, append_scores, mean_of_repeats, read_scores, score_table

MODEL = Score(
  metric="psnr", value=24.4567, unit="dB", subject="model", protocol="frame_mean, best of 10", split="test",
  num_clips=256, samples=10, weights="ema", batch_norm="standing", truncation=0.5, seed=3, step=1950,
)  # fmt: skip
BASELINE = Score(
  metric="psnr", value=24.9, unit="dB", subject="copy_last", protocol="frame_mean", split="test", num_clips=256
)


def test_table_is_aligned_and_moves_shared_fields_to_the_head():
  lines = score_table([MODEL, BASELINE]).splitlines()
  assert lines == [
    "split: test",
    "num_clips: 256",
    "weights: ema (model)",
    "batch_norm: standing (model)",
    "truncation: 0.5 (model)",
    "seed: 3 (model)",
    "step: 1950 (model)",
    "",
    "subject    metric  value  unit  protocol                samples",
    "---------  ------  -----  ----  ----------------------  -------",
    "model      psnr    24.46  dB    frame_mean, best of 10       10",
    "copy_last  psnr     24.9  dB    frame_mean                    1",
  ]


def test_different_settings_are_columns_and_long_protocols_are_footnotes():
  long = "a protocol that is too long for a column"
  common = {"unit": "", "split": "test", "num_clips": 4}
  scores = [
    Score(metric="fvd", value=1.0, subject="a", protocol=long, seed=1, extractor="i3d", **common),
    Score(metric="kvd", value=2.0, subject="b", protocol=long, seed=2, extractor="i3d", **common),
    Score(metric="psnr", value=3.0, subject="b", protocol="short", **common),
  ]
  assert score_table(scores).splitlines() == [
    "split: test",
    "num_clips: 4",
    "samples: 1",
    "extractor: i3d (where it applies)",
    "",
    "subject  metric  value  unit  protocol  seed",
    "-------  ------  -----  ----  --------  ----",
    "a        fvd         1  -     [1]          1",
    "b        kvd         2  -     [1]          2",
    "b        psnr        3  -     short        -",
    "",
    f"[1] {long}",
  ]


def test_one_score_and_none():
  assert score_table([]) == "(no scores)"
  assert "protocol: frame_mean" in score_table([BASELINE]).splitlines()


def test_json_lines_are_appended_with_all_fields(tmp_path):
  path = tmp_path / "run" / "scores.jsonl"
  append_scores(path, [MODEL])
  append_scores(path, [BASELINE])
  first, second = map(json.loads, path.read_text().splitlines())
  expected = {"value": 24.4567, "samples": 10, "weights": "ema", "truncation": 0.5, "step": 1950, "seed": 3}
  assert expected.items() <= first.items()
  assert second["subject"] == "copy_last" and second["weights"] is None


def test_an_incomplete_line_swallows_no_score(tmp_path):
  (path := tmp_path / "scores.jsonl").write_text('{"metric": "ps')
  append_scores(path, [MODEL])
  append_scores(path, [BASELINE])
  assert [row["subject"] for row in read_scores(path)] == [MODEL.subject, BASELINE.subject]


def test_repeats_are_means_with_unbiased_deviations():
  intervals = [(23.0, 26.0), (24.0, 27.0), (25.0, 28.0)]
  values = [(24.0, intervals[0]), (25.0, intervals[1]), (26.0, intervals[2])]
  repeats = [[dataclasses.replace(MODEL, value=value, interval=interval, repeats=3)] for value, interval in values]
  repeats[0].append(BASELINE)
  model, baseline = mean_of_repeats(repeats)
  assert (model.value, model.deviation, model.interval, model.repeats) == (25.0, 1.0, (24.0, 27.0), 3)
  assert baseline == BASELINE
  assert "24 .. 27          1" in score_table([model, baseline])
  assert mean_of_repeats([[MODEL, BASELINE]]) == [MODEL, BASELINE]
  assert json.loads(dataclasses.replace(model, deviation=math.nan).to_json())["deviation"] is None


@pytest.mark.parametrize("missing", [0, 1])
def test_a_score_that_one_of_the_repeats_lacks_is_left_out(missing, caplog):
  known = dataclasses.replace(MODEL, repeats=2)
  repeats = [[known, BASELINE], [known]]
  repeats[missing].append(dataclasses.replace(known, metric="fvd"))
  assert [score.metric for score in mean_of_repeats(repeats)] == ["psnr", "psnr"]
  assert "fvd is left out: only 1 of 2 evaluations have it" in caplog.text


def test_scores_compare_by_their_protocol_only():
  different = {name for name in COMPARED if getattr(MODEL, name) != getattr(BASELINE, name)}
  assert different == {"protocol", "samples", "weights", "batch_norm", "truncation", "seed"}
  assert {"split", "data", "num_clips", "pooled", "repeats", "extractor_hash", "window"} <= set(COMPARED)
  assert not {"value", "interval", "deviation", "step", "subject"} & set(COMPARED)


def test_json_has_no_nan():
  fields = {"metric": "m", "subject": "model", "protocol": "p", "split": "s", "num_clips": 1}
  found = json.loads(Score(value=math.nan, deviation=math.inf, interval=(0.0, math.nan), **fields).to_json())
  assert [found[name] for name in ("value", "deviation", "interval")] == [None] * 3


def test_write_error_names_the_file(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"scores\.jsonl cannot be written"):
    append_scores(tmp_path / "file" / "scores.jsonl", [MODEL])
