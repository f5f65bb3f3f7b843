"""Published peak FLOP/s of accelerators, and limits of flags. Imports no JAX, so that mistakes are reported at once."""

import re
from dataclasses import dataclass

from vidgen_jax.errors import UserError

WINDOWS = 4
"""Turns of things that are compared, so that changes in the machine's speed affect all of them."""


@dataclass(frozen=True, kw_only=True)
class Peak:
  """Peak rate of dense bfloat16 matrix products of one kind of accelerator.

  Attributes:
    name: name of the chip, as in `--device_kind`.
    kinds: regular expression for the whole `device_kind` that JAX reports.
    chip: FLOP/s of a chip.
    devices: number of JAX devices per chip.
  """

  name: str
  kinds: str
  chip: float
  devices: int = 1

  @property
  def backend(self) -> str:
    """JAX's name of the backend: 'tpu' or 'gpu'."""
    return "tpu" if self.name.startswith("TPU") else "gpu"


PEAKS = (
  # NVIDIA's data sheets, tensor cores, without sparsity: H100 SXM and H200 SXM (1,979 with sparsity); A100.
  Peak(name="NVIDIA H200", kinds="NVIDIA H200", chip=989e12),
  Peak(name="NVIDIA H100", kinds="NVIDIA H100 80GB HBM3", chip=989e12),
  Peak(name="NVIDIA A100", kinds="NVIDIA A100.*", chip=312e12),
  # cloud.google.com/tpu/docs, the pages v2, v3, v4, v5e, v5p, v6e: peak compute per chip. A chip of v2 and v3 has two
  # TensorCores, and each is a device.
  Peak(name="TPU v2", kinds="TPU v2", chip=45e12, devices=2),
  Peak(name="TPU v3", kinds="TPU v3", chip=123e12, devices=2),
  Peak(name="TPU v4", kinds="TPU v4", chip=275e12),
  Peak(name="TPU v5e", kinds="TPU v5 lite|TPU v5e", chip=197e12),
  Peak(name="TPU v5p", kinds="TPU v5|TPU v5p", chip=459e12),
  Peak(name="TPU v6e", kinds="TPU v6 lite|TPU v6e", chip=918e12),
)
"""The known accelerators."""


def published_peak(device_kind: str) -> float | None:
  """FLOP/s of one device of a kind such as 'NVIDIA H200'; None if `PEAKS` does not contain it."""
  return next((peak.chip / peak.devices for peak in PEAKS if re.fullmatch(peak.kinds, device_kind)), None)


def accelerator(device_kind: str, mfu: float) -> Peak:
  """The accelerator named `device_kind`; UserError if `PEAKS` does not contain it, or `mfu` is not in (0, 1]."""
  peak = next((peak for peak in PEAKS if peak.name == device_kind), None)
  if peak is None:
    raise UserError(f"--device_kind={device_kind!r} must be one of {', '.join(peak.name for peak in PEAKS)}")
  if not 0 < mfu <= 1:
    raise UserError(f"--mfu={mfu} must be above 0 and at most 1")
  return peak
