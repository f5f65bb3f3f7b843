"""Frames between two images, along the optical flow between them."""

import jax
import jax.numpy as jnp

from vidgen_jax.ops.optical_flow import bilinear_sample, inside_share


@jax.jit
def interpolate_frames(
  first: jax.Array, last: jax.Array, forward: jax.Array, backward: jax.Array, shares: jax.Array
) -> jax.Array:
  """Frames between two images, which are warped along their flow and blended.

  H. Jiang et al.: Super SloMo (CVPR 2018), eqs. 1 and 4, without its networks. What lies outside an image is taken from
  the other one; occlusions inside the image, which need such networks, are not detected.

  Args:
    first: float32 [N, H, W, C].
    last: images of the same shape.
    forward: motion from first to last, [N, H, W, 2]; see `FlowEstimator`.
    backward: motion from last to first.
    shares: times t of the S frames, 0 at the first and 1 at the last image, float32 [S].

  Returns:
    float32 [N, S, H, W, C].
  """

  def frame(t: jax.Array) -> jax.Array:
    to_first = t * (t * backward - (1 - t) * forward)
    to_last = (1 - t) * ((1 - t) * forward - t * backward)
    of_first, of_last = (1 - t) * _visibility(to_first), t * _visibility(to_last)
    blended = of_first * bilinear_sample(first, to_first) + of_last * bilinear_sample(last, to_last)
    return blended / (of_first + of_last)

  return jnp.moveaxis(jax.lax.map(frame, shares), 0, 1)


def _visibility(flow: jax.Array) -> jax.Array:
  """1 for samples inside the image, a little for others: where both are outside, the weights are a cross-fade's."""
  return jnp.where(inside_share(flow) > 0.999, 1.0, 1e-4)
