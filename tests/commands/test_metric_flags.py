"""Flags of feature networks."""

from types import SimpleNamespace

import pytest
from absl import flags

from vidgen_jax.commands import metric_flags
from vidgen_jax.errors import UserError


def fake_extractor(path, mesh, **options):
  return SimpleNamespace(network=path.partition(".")[0], options=options)


def network_flags(*words):
  flag_values = flags.FlagValues()
  metric_flags.define_network_flags(flag_values)
  flag_values(["evaluate", *words])
  return flag_values


@pytest.mark.parametrize(
  ("words", "default", "expected"),
  [
    ([], {}, "tgan2"),
    ([], {"c3d_protocol": "tgan1"}, "tgan1"),
    (["--c3d_protocol=tgan2"], {"c3d_protocol": "tgan1"}, "tgan2"),
  ],
  ids=["no config", "config", "flag"],
)
def test_the_flag_replaces_the_protocol_of_the_config(words, default, expected, monkeypatch):
  monkeypatch.setattr(metric_flags, "load_extractor", fake_extractor)
  (extractor,) = metric_flags.extractors(network_flags("--networks=c3d.safetensors", *words), **default)
  assert extractor.options["c3d_protocol"] == expected


@pytest.mark.parametrize(("flag", "network"), [("fvd_protocol=styleganv", "i3d"), ("c3d_protocol=tgan1", "c3d")])
def test_a_protocol_without_its_network_is_refused(flag, network, monkeypatch):
  monkeypatch.setattr(metric_flags, "load_extractor", fake_extractor)
  assert metric_flags.extractors(network_flags(f"--networks=tsn,{network}", f"--{flag}"))
  with pytest.raises(UserError, match=f"is the input of {network}, which is not among --networks"):
    metric_flags.extractors(network_flags("--networks=tsn", f"--{flag}"))


@pytest.mark.parametrize(
  ("words", "networks", "expected"),
  [
    (["--fvd_protocol=styleganv"], ["i3d"], "random"),
    (["--fvd_protocol=styleganv", "--window=random"], ["i3d"], "random"),
    (["--fvd_protocol=videogpt", "--window=centre"], ["i3d"], ""),
    (["--fvd_protocol=styleganv", "--window=centre"], ["tsn"], ""),
    (["--fvd_protocol=styleganv", "--window=centre"], ["i3d"], "the start of each generated one, not --window=centre"),
  ],
)
def test_a_protocol_fixes_the_window_of_real_clips(words, networks, expected):
  flag_values = flags.FlagValues()
  metric_flags.define_clip_flags(flag_values, {"real": "real clips"})
  metric_flags.define_network_flags(flag_values)
  flag_values(["compare", *words])
  if expected in ("", "random"):
    assert metric_flags.real_window(flag_values, networks) == expected
    return
  with pytest.raises(UserError, match=expected):
    metric_flags.real_window(flag_values, networks)


def test_a_run_with_other_windows_is_refused():
  flag_values = network_flags("--fvd_protocol=styleganv")
  metric_flags.check_eval_window(flag_values, ["i3d"], "random")
  metric_flags.check_eval_window(flag_values, ["tsn"], "centre")
  with pytest.raises(UserError, match=r"a random window of each real clip, not that of data\.eval_window=centre; give"):
    metric_flags.check_eval_window(flag_values, ["i3d"], "centre")
