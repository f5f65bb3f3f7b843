"""The motion constraint of MVT-GAN (section 4.3): generated clips shall move like real ones of their class."""

import jax
import jax.numpy as jnp
from jax import lax

from vidgen_jax.ops.losses import PAIRS_SCOPE

EPSILON = 1e-6
"""Pixels, added to the length of a flow: a clip without motion is like none."""


def motion_similarity(
  real_flow: jax.Array, fake_flow: jax.Array, real_label: jax.Array, fake_label: jax.Array, *, num_classes: int
) -> tuple[jax.Array, jax.Array]:
  """L_M, the mean cosine similarity of flows over all pairs of a real and a generated clip of one class (eq. 5).

  The paper's cosine is that of the flattened flows of whole clips. A sum over all pairs of a class is the product of
  two sums over its clips, so devices exchange the sums of their real clips, a flow a class, not the flows of all clips.
  In the paper's eq. 5 the condition compares y_f_i with y_r_i; the pair is (j, i), and so is the comparison here.

  Args:
    real_flow: [N, ...], of real clips; no gradient flows back to it.
    fake_flow: [M, ...], of generated clips, of the same shape behind the first axis.
    real_label: int [N], in 0..num_classes - 1.
    fake_label: int [M], likewise.
    num_classes: K.

  Returns:
    (L_M in [-1, 1], float32 []; the number C of pairs, float32 []). Without any pair L_M is 1: the constraint
    alpha (1 - L_M) asks for nothing then.
  """
  real, fake = (_unit(flow) for flow in (lax.stop_gradient(real_flow), fake_flow))
  with jax.named_scope(PAIRS_SCOPE):
    member, counterpart = (jax.nn.one_hot(label, num_classes) for label in (real_label, fake_label))
    # bfloat16 products would blur a cosine near 1.
    total = jnp.matmul(member.T, real, precision=lax.Precision.HIGHEST)
    similar = jnp.sum(fake * jnp.matmul(counterpart, total, precision=lax.Precision.HIGHEST))
    pairs = jnp.sum(jnp.sum(member, axis=0) * jnp.sum(counterpart, axis=0))
  mean = similar / jnp.maximum(pairs, 1.0)
  return jnp.where(pairs > 0, mean, 1.0), pairs


def _unit(flow: jax.Array) -> jax.Array:
  """Flattened flows of length 1, float32 [N, D]."""
  flat = flow.reshape(flow.shape[0], -1).astype(jnp.float32)
  return flat * lax.rsqrt(jnp.sum(jnp.square(flat), axis=-1, keepdims=True) + EPSILON**2)
