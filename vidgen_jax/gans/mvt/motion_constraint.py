"""Motion constraint (MVT-GAN, section 4.3): generated clips move like real clips of their class."""

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.ops.devices import sum_over_devices
from vidgen_jax.ops.losses import PAIRS_SCOPE

EPSILON = 1e-6
"""Length in pixels added to a flow; a clip without motion has similarity 0 to every clip."""


def motion_similarity(
  real_flow: jax.Array, fake_flow: jax.Array, real_label: jax.Array, fake_label: jax.Array, *, num_classes: int
) -> tuple[jax.Array, jax.Array]:
  """L_M: mean cosine similarity of flows over all pairs of a real and a fake clip of one class (eq. 5).

  Compares the flattened flows of whole clips. The condition in eq. 5 compares y_f_i with y_r_i; this function compares
  the labels of the pair (j, i).

  Args:
    real_flow: flows of real clips [N, ...]; no gradient.
    fake_flow: flows of generated clips [M, ...].
    real_label: int [N] in 0..num_classes - 1.
    fake_label: int [M], likewise.
    num_classes: number of classes.

  Returns:
    (L_M in [-1, 1], number C of pairs), float32 []. Without pairs L_M is 1, so that alpha (1 - L_M) is 0.
  """
  real, fake = (_unit(flow) for flow in (lax.stop_gradient(real_flow), fake_flow))
  with jax.named_scope(PAIRS_SCOPE):
    member, counterpart = (jax.nn.one_hot(label, num_classes) for label in (real_label, fake_label))
    # The sum over all pairs of a class is the product of two sums over its clips, so devices exchange one flow per
    # class instead of the flows of all clips. bfloat16 products would be too coarse for a cosine near 1.
    total = jnp.matmul(member.T, real, precision=lax.Precision.HIGHEST)
    counts = jnp.sum(member, axis=0), jnp.sum(counterpart, axis=0)
    total, (members, counterparts) = sum_over_devices((total, counts))
    similar = sum_over_devices(jnp.sum(fake * jnp.matmul(counterpart, total, precision=lax.Precision.HIGHEST)))
    pairs = jnp.sum(members * counterparts)
  mean = similar / jnp.maximum(pairs, 1.0)
  return jnp.where(pairs > 0, mean, 1.0), pairs


def _unit(flow: jax.Array) -> jax.Array:
  flat = flow.reshape(flow.shape[0], -1).astype(jnp.float32)
  return flat * lax.rsqrt(jnp.sum(jnp.square(flat), axis=-1, keepdims=True) + EPSILON**2)
