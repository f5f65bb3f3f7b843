"""Motion that the generator's warping units report (TrIVD-GAN-FP, 4.4 and figure 3).

A flow is [..., H, W, 2]: (dx, dy) in pixels per frame, x to the right and y down. Its value at a pixel is the motion
since the previous frame of the content that arrived at that pixel.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.ops.resampling import upsample_nearest


def expected_flow(kernels: jax.Array) -> jax.Array:
  """Mean motion of warping kernels, read as distributions over k x k offsets.

  `warp` (eq. 11) moves the content at p + (row offset, column offset), with offsets m - (k-1)/2 and n - (k-1)/2, to p.
  Hence the motion is the negative offset: (dx, dy) = -(expected column offset, expected row offset).

  `kernels` are W [..., H, W, k*k] with odd k, non-negative, with sum 1 over the last axis. Returns float32
  [..., H, W, 2], each component in [-(k-1)/2, (k-1)/2] pixels of this resolution.
  """
  taps = kernels.shape[-1]
  size = math.isqrt(taps)
  rows, columns = np.mgrid[:size, :size] - size // 2
  moved = -np.stack([columns, rows], axis=-1).reshape(taps, 2).astype(np.float32)
  # In pixels: must not be rounded to bfloat16.
  return jnp.matmul(kernels.astype(jnp.float32), moved, precision=jax.lax.Precision.HIGHEST)


def combine_flows(flows: Sequence[jax.Array], *, size: Sequence[int]) -> jax.Array:
  """Combines flows of several resolutions, from coarse to fine: upsample, scale, add the next flow (4.4).

  Each recurrent unit warps its own state and does not know the coarser flow. Motion that appears at two resolutions is
  therefore counted twice, which changes the length of the sum but not its direction.

  `flows` are [..., h, w, 2], at least one, coarsest first, each in pixels of its own resolution. Returns the flow
  [..., H, W, 2] in pixels of the frames, whose `size` (H, W) is an integer multiple of the finest flow's.
  """
  flow = flows[0]
  for finer in flows[1:]:
    # As in other coarse-to-fine methods, the finer flow is the residual of the coarser one.
    flow = _enlarge(flow, finer.shape[-3:-1]) + finer
  return _enlarge(flow, size)


def _enlarge(flow: jax.Array, size: Sequence[int]) -> jax.Array:
  factor = size[0] // flow.shape[-3]
  return factor * upsample_nearest(flow, factor)
