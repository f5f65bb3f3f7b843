"""Flags of feature networks."""

import pytest
from absl import flags

from vidgen_jax.commands import metric_flags


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
  monkeypatch.setattr(metric_flags, "load_extractor", lambda path, mesh, **options: options["c3d_protocol"])
  flag_values = flags.FlagValues()
  metric_flags.define_network_flags(flag_values)
  flag_values(["evaluate", "--networks=c3d.safetensors", *words])
  assert metric_flags.extractors(flag_values, **default) == [expected]
