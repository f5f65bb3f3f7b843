"""Published peaks by JAX's kind of a device."""

import pytest

from vidgen_jax.bench.device_peaks import PEAKS, published_peak


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
