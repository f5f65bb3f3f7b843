"""Motion that the generator's warping units report (TrIVD-GAN-FP, 4.4 and figure 3).

A flow is [..., H, W, 2]: (dx, dy) in pixels per frame, x to the right and y down. Its value at a pixel is the motion
since the previous frame of the content that arrived at that pixel.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.errors import UserError
from vidgen_jax.nn.recurrent import RECURRENT_UNITS
from vidgen_jax.ops.resampling import upsample_nearest


def check_moves(recurrent_unit: str) -> None:
  """Raises a UserError that lists the units with motion unless this unit moves its state with kernels."""
  if recurrent_unit not in moving_units():
    raise UserError(
      f"algorithm.recurrent_unit={recurrent_unit!r} moves no content, so the model shows no motion; "
      f"units that do: {', '.join(moving_units())}"
    )


def moving_units() -> tuple[str, ...]:
  """Names of the units that write kernels to the collection `MOTION`."""
  return tuple(name for name, unit in RECURRENT_UNITS.items() if unit.moves)


def expected_flow(kernels: jax.Array) -> jax.Array:
  """Mean motion of warping kernels, read as distributions over k x k offsets.

  `warp` (eq. 11) moves the content at p + (row offset, column offset), with offsets m - (k-1)/2 and n - (k-1)/2, to p.
  Hence the motion is the negative offset: (dx, dy) = -(expected column offset, expected row offset).

  Args:
    kernels: W [..., H, W, k*k] with odd k, non-negative, with sum 1 over the last axis.

  Returns:
    float32 [..., H, W, 2], each component in [-(k-1)/2, (k-1)/2] pixels of this resolution.

  Raises:
    ValueError: if the length of the last axis is not the square of an odd number.
  """
  taps = kernels.shape[-1]
  size = round(taps**0.5)
  if size * size != taps or size % 2 == 0:
    raise ValueError(f"expected_flow needs k*k weights per position with an odd k, got {taps}")
  rows, columns = np.mgrid[:size, :size] - size // 2
  moved = -np.stack([columns, rows], axis=-1).reshape(taps, 2).astype(np.float32)
  # In pixels: must not be rounded to bfloat16.
  return jnp.matmul(kernels.astype(jnp.float32), moved, precision=jax.lax.Precision.HIGHEST)


def combine_flows(flows: Sequence[jax.Array], *, size: Sequence[int]) -> jax.Array:
  """Combines flows of several resolutions, from coarse to fine: upsample, scale, add the next flow (4.4).

  Each recurrent unit warps its own state and does not know the coarser flow. Motion that appears at two resolutions is
  therefore counted twice, which changes the length of the sum but not its direction.

  Args:
    flows: flows [..., h, w, 2], at least one, coarsest first, each in pixels of its own resolution.
    size: (H, W) of the frames, integer multiples of the finest flow's.

  Returns:
    Flow [..., H, W, 2] in pixels of the frames.

  Raises:
    ValueError: if there is no flow, or a resolution is not an integer multiple of the previous one.
  """
  if not flows:
    raise ValueError("combine_flows needs at least one flow")
  flow = flows[0]
  for finer in flows[1:]:
    # As in other coarse-to-fine methods, the finer flow is the residual of the coarser one.
    flow = _enlarge(flow, finer.shape[-3:-1]) + finer
  return _enlarge(flow, size)


def _enlarge(flow: jax.Array, size: Sequence[int]) -> jax.Array:
  height, width = flow.shape[-3:-1]
  factor = size[0] // height
  if (height * factor, width * factor) != tuple(size):
    raise ValueError(f"a flow of {height}x{width} cannot be enlarged to {size[0]}x{size[1]} by an integer factor")
  return factor * upsample_nearest(flow, factor)
