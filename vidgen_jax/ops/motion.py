"""Motion fields out of warping kernels (TrIVD-GAN-FP, section 4.4 and figure 3).

A flow is [..., H, W, 2]: (dx, dy) in pixels a frame, x to the right and y down. It stands where the content has
arrived, and says how it has moved since the frame before.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.ops.resampling import upsample_nearest


def expected_flow(kernels: jax.Array) -> jax.Array:
  """The mean motion of kernels that are distributions over the k x k offsets.

  `warp` (eq. 11) takes what stands at p + (m - (k-1)/2, n - (k-1)/2) = p + (row offset, column offset) to the place p.
  The content has thus moved by the opposite of the offset: (dx, dy) = -(expected column offset, expected row offset).

  Args:
    kernels: W, [..., H, W, k*k] with odd k, not negative, summing to 1 over the last axis.

  Returns:
    float32 [..., H, W, 2], each component in [-(k-1)/2, (k-1)/2] pixels of this resolution.

  Raises:
    ValueError: if the last axis is no odd square.
  """
  taps = kernels.shape[-1]
  size = round(taps**0.5)
  if size * size != taps or size % 2 == 0:
    raise ValueError(f"expected_flow needs k*k weights per position with an odd k, got {taps}")
  rows, columns = np.mgrid[:size, :size] - size // 2
  moved = -np.stack([columns, rows], axis=-1).reshape(taps, 2).astype(np.float32)
  # Numbers of pixels: no platform may round them to bfloat16.
  return jnp.matmul(kernels.astype(jnp.float32), moved, precision=jax.lax.Precision.HIGHEST)


def combine_flows(flows: Sequence[jax.Array], *, size: tuple[int, int]) -> jax.Array:
  """One flow out of those of several resolutions: upsampled, multiplied by the factor, refined with the next (4.4).

  To refine is to add: the finer flow, read at the same place, counts as what the coarser one has missed, as in other
  coarse-to-fine methods. Upsampling repeats pixels, as the generator upsamples its features. The units of a generator
  are not told of the coarser flow, each warps its own state: motion that two resolutions show alike is counted twice.
  That lengthens the sum and does not turn it.

  Args:
    flows: [..., h, w, 2], at least one, coarsest first, each in pixels of its own resolution.
    size: (H, W) of the frames, in whole multiples of the finest flow.

  Returns:
    [..., H, W, 2] in pixels of the frames.

  Raises:
    ValueError: if there is no flow, or a resolution is no whole multiple of the one before.
  """
  if not flows:
    raise ValueError("combine_flows needs at least one flow")
  flow = flows[0]
  for finer in flows[1:]:
    flow = _enlarge(flow, finer.shape[-3:-1]) + finer
  return _enlarge(flow, size)


def _enlarge(flow: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The same motion in pixels of another resolution."""
  height, width = flow.shape[-3:-1]
  factor = size[0] // height
  if (height * factor, width * factor) != tuple(size):
    raise ValueError(f"a flow of {height}x{width} cannot be enlarged to {size[0]}x{size[1]} by a whole factor")
  return factor * upsample_nearest(flow, factor)
