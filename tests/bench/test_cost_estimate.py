"""Published peaks by JAX's kind of a device, and chip-hours of a run, computed by hand."""

import dataclasses

import pytest

from vidgen_jax.bench.cost_estimate import estimate, needed_flops, total_flops
from vidgen_jax.bench.settings import PEAKS, published_peak
from vidgen_jax.errors import UserError

pytest_plugins = ("tests.tiny_experiment",)


def test_hours_are_flops_over_the_assumed_rate(tiny):
  experiment = tiny()
  config = dataclasses.replace(
    experiment.config, train=dataclasses.replace(experiment.config.train, num_steps=1_000_000)
  )
  flops = total_flops(needed_flops(experiment, "main", backend="tpu"))
  # On CPUs, convolutions of clips have another form that also multiplies the zeros of their padding.
  assert flops < total_flops(needed_flops(experiment, "main"))
  figures = {figure.name: figure for figure in estimate(config, device_kind="TPU v3", mfu=0.3)}
  assert figures["FLOPs from layer shapes"].value == flops / 1e9
  assert figures["whole run (1,000,000 steps)"].value == pytest.approx(flops * 1e6 / 1e18)
  hours = figures["whole run, all chips"]
  # 30 % of 123 TFLOP/s are 36.9 TFLOP/s.
  assert hours.value == pytest.approx(flops * 1e6 / 36.9e12 / 3600)
  assert (hours.unit, hours.note) == ("chip-hours", "assumed: 30 % of 123 TFLOP/s a chip (TPU v3)")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"device_kind": "abacus"}, "--device_kind='abacus' must be one of NVIDIA H200, .*, TPU v6e"),
    ({"mfu": 0.0}, r"--mfu=0\.0 must be above 0 and at most 1"),
    ({"mfu": 1.1}, r"--mfu=1\.1 must be above 0 and at most 1"),
  ],
)
def test_invalid_settings(settings, message, tiny):
  with pytest.raises(UserError, match=message):
    estimate(tiny().config, **settings)


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H200 NVL", None),
    ("NVIDIA A100-SXM4-80GB", 312e12),
    ("TPU v2", 22.5e12),  # two devices per chip
    ("TPU v3", 61.5e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("cpu", None),
  ],
)
def test_the_whole_kind_must_match(kind, peak):
  assert published_peak(kind) == peak


def test_names_are_unique():
  assert len({peak.name for peak in PEAKS}) == len(PEAKS)
