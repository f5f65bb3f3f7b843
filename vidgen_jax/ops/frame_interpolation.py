"""Frames between two images, along the optical flow between them."""

import jax
import jax.numpy as jnp

from vidgen_jax.ops.optical_flow import bilinear_sample, splat

# Chosen on Weizmann and Shape Motion with Lucas-Kanade, where values between 1 and 20 differ by 0.4 dB at most.
_MATCH = 3.0  # weight of the difference in brightness, mean over channels
_MOTION = 0.3  # weight of the speed in pixels
_NEGLIGIBLE = 1e-4  # total weight below which the cross-fade shows


@jax.jit
def interpolate_frames(
  first: jax.Array, last: jax.Array, forward: jax.Array, backward: jax.Array, shares: jax.Array
) -> jax.Array:
  """Frames between images, both of which are warped forward along their flow and blended.

  Softmax splatting (S. Niklaus, F. Liu: Softmax Splatting for Video Frame Interpolation, CVPR 2020, section 3.1): where
  several pixels arrive, they are averaged with weights exp(z). z is higher for pixels that look like those at the other
  end of their flow, as there, which hides occluded ones; and for faster pixels, because moving objects are usually in
  front. The images have weights 1 - s and s, as in J. Jiang et al.: Super SloMo (CVPR 2018, eq. 1). Where nothing
  arrives, the images are cross-faded.

  Args:
    first: float32 [N, H, W, C] in [-1, 1].
    last: images of the same shape.
    forward: motion from first to last, [N, H, W, 2]; see `FlowEstimator`.
    backward: motion from last to first.
    shares: times s of the S frames, 0 at the first and 1 at the last image, float32 [S].

  Returns:
    float32 [N, S, H, W, C].
  """
  sources = (_weighted(first, last, forward), _weighted(last, first, backward))

  def frame(share: jax.Array) -> jax.Array:
    blended = jnp.zeros((*first.shape[:-1], first.shape[-1] + 1))
    for pixels, flow, moved in zip(sources, (forward, backward), (share, 1 - share), strict=True):
      blended = blended + (1 - moved) * splat(pixels, moved * flow)
    fade = (1 - share) * first + share * last
    return (blended[..., :-1] + _NEGLIGIBLE * fade) / (blended[..., -1:] + _NEGLIGIBLE)

  return jnp.moveaxis(jax.lax.map(frame, shares), 0, 1)


def _weighted(image: jax.Array, other: jax.Array, flow: jax.Array) -> jax.Array:
  """Pixels times exp(z), and exp(z) as one more channel."""
  difference = jnp.mean(jnp.abs(image - bilinear_sample(other, flow)), axis=-1, keepdims=True)
  speed = jnp.sqrt(jnp.sum(jnp.square(flow), axis=-1, keepdims=True))
  weight = jnp.exp(_MOTION * speed - _MATCH * difference)
  return jnp.concatenate([weight * image, weight], axis=-1)
