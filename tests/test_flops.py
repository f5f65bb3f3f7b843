"""FLOPs against sums done by hand; two FLOPs a multiply-add."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

from vidgen_jax import flops
from vidgen_jax.flops import Part, gradient_flops


def shaped(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def traced_flops(function, *arguments) -> int:
  return flops.traced_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def loops_over_products(function, *arguments) -> bool:
  return flops.loops_over_products(jax.make_jaxpr(function)(*arguments).jaxpr)


def convolve(x, kernel, **options):
  options = {"window_strides": (1, 1), "padding": "SAME"} | options
  return lax.conv_general_dilated(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def by_direction(parts: flops.Parts) -> tuple[int, int]:
  return tuple(sum(n for part, n in parts.items() if part.direction == d) for d in ("forward", "backward"))


def test_a_dense_layer():
  # 7 rows, each 5 sums over 3 products.
  assert traced_flops(jnp.dot, shaped(7, 3), shaped(3, 5)) == 2 * 7 * 5 * 3
  # The batch axis of an einsum is no sum: 4 * 2 results over 3 products.
  assert traced_flops(lambda a, b: jnp.einsum("btc,bc->bt", a, b), shaped(4, 2, 3), shaped(4, 3)) == 2 * 4 * 2 * 3


def test_a_convolution_leaves_out_the_padding():
  # A 3-tap window meets 3 elements at the 2 inner places of 4, and 2 at both ends: 10 along each axis.
  assert traced_flops(convolve, shaped(2, 4, 4, 5), shaped(3, 3, 5, 7)) == 2 * (2 * 7 * 5) * (10 * 10)
  # Without padding: 2 places a 3 taps.
  valid = traced_flops(lambda x, k: convolve(x, k, padding="VALID"), shaped(2, 4, 4, 5), shaped(3, 3, 5, 7))
  assert valid == 2 * (2 * 7 * 5) * (6 * 6)


@pytest.mark.parametrize(
  ("options", "kernel", "taps"),
  [
    # Stride 2 on 4 with SAME padding (0, 1): places 0 and 2, windows 0-2 and 2-4, of which 4 is padding.
    ({"window_strides": (2, 2)}, (3, 3, 6, 8), 5),
    # Holes: 4 elements spread to 7 (padding 1, 1); odd places meet 2 elements, even ones 1: 4 * 1 + 3 * 2.
    ({"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}, (3, 3, 6, 8), 10),
    # Taps 2 apart, padding 2: place 0 meets 0, 2; 1 meets 1, 3; 2 meets 0, 2; 3 meets 1, 3.
    ({"rhs_dilation": (2, 2)}, (3, 3, 6, 8), 8),
    # Two groups: the kernel sees 3 of the 6 input features.
    ({"feature_group_count": 2}, (3, 3, 3, 8), 10),
  ],
)
def test_other_convolutions_by_hand_and_by_xla(options, kernel, taps):
  def function(x, k):
    return convolve(x, k, **options)

  x, k = shaped(2, 4, 4, 6), shaped(*kernel)
  assert traced_flops(function, x, k) == 2 * (2 * 8 * kernel[2]) * taps**2
  assert traced_flops(function, x, k) == jax.jit(function).lower(x, k).cost_analysis()["flops"]


def test_a_scan_of_convolutions_counts_every_trip():
  def function(x, kernel):
    return lax.scan(lambda state, _: (jax.jit(convolve)(state, kernel), None), x, None, length=5)[0]

  x, kernel = shaped(2, 4, 4, 3), shaped(3, 3, 3, 3)
  assert traced_flops(function, x, kernel) == 5 * 2 * (2 * 3 * 3) * 100
  assert loops_over_products(function, x, kernel)
  assert not loops_over_products(convolve, x, kernel)
  assert not loops_over_products(lambda x: lax.scan(lambda s, _: (s + 1, None), x, None, length=5)[0], x)


def test_of_two_branches_the_dearer_one_counts():
  def function(w, _, x):
    return lax.cond(x[0, 0] > 0, lambda: jnp.sum(x @ w), lambda: jnp.sum(x @ w @ w)), ()

  w, x = shaped(3, 3), shaped(4, 3)
  product = 2 * 4 * 3 * 3
  assert traced_flops(lambda w, x: function(w, (), x)[0], w, x) == 2 * product
  # Backward: x @ w needs the gradient of w, (x @ w) @ w of both operands.
  assert by_direction(gradient_flops(function, w, (), x)) == (2 * product, 3 * product)


def test_a_while_loop_is_refused():
  def function(x):
    return lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: y @ y, x)

  with pytest.raises(ValueError, match="while loop"):
    traced_flops(function, shaped(3, 3))
  with pytest.raises(ValueError, match="while"):
    gradient_flops(lambda x, c, d: (jnp.sum(function(x)), ()), shaped(3, 3), (), ())


def test_the_first_layer_needs_no_gradient_of_its_input():
  def two_layers(params, _, x):
    return jnp.sum(nn.relu(x @ params[0]) @ params[1]), ()

  parts = gradient_flops(two_layers, (shaped(3, 4), shaped(4, 5)), (), shaped(7, 3))
  first, second = 2 * 7 * 3 * 4, 2 * 7 * 4 * 5
  assert by_direction(parts) == (first + second, first + 2 * second)


def test_frozen_weights_need_only_the_gradient_of_their_input():
  def through_frozen(params, frozen, x):
    return jnp.sum((x @ params) @ frozen), ()

  parts = gradient_flops(through_frozen, shaped(3, 4), shaped(4, 5), shaped(7, 3))
  first, frozen = 2 * 7 * 3 * 4, 2 * 7 * 4 * 5
  assert by_direction(parts) == (first + frozen, first + frozen)


def test_what_is_not_on_the_way_to_the_loss_has_no_backward_pass():
  def with_metric(params, _, x):
    y = x @ params
    return jnp.sum(y), {"metric": y @ params.T, "stopped": lax.stop_gradient(params) @ params.T}

  parts = gradient_flops(with_metric, shaped(3, 4), (), shaped(7, 3))
  assert by_direction(parts) == (2 * 7 * 3 * 4 + 2 * 7 * 4 * 3 + 2 * 3 * 4 * 3, 2 * 7 * 3 * 4)


def test_a_stopped_gradient_stops():
  def stopped(params, _, x):
    return jnp.sum(lax.stop_gradient(x @ params[0]) @ params[1]), ()

  parts = gradient_flops(stopped, (shaped(3, 4), shaped(4, 5)), (), shaped(7, 3))
  assert by_direction(parts)[1] == 2 * 7 * 4 * 5


def test_a_recurrence_follows_what_its_state_depends_on():
  # The state is data at first and depends on the parameters from the second trip on.
  def recurrent(params, _, x):
    state, _ = lax.scan(lambda s, _: (jnp.tanh(s @ params), None), x, None, length=6)
    return jnp.sum(state), ()

  product = 2 * 7 * 3 * 3
  forward, backward = by_direction(gradient_flops(recurrent, shaped(3, 3), (), shaped(7, 3)))
  # A loop is one program, so its first trip too computes the gradient of its state.
  assert (forward, backward) == (6 * product, 6 * 2 * product)


def test_the_need_of_a_recurrence_goes_back_through_its_state():
  # Only `a` is wanted, but it takes from `b`, which takes from `c`.
  def chain(params, _, x):
    def body(carry, _):
      a, b, c = carry
      return (a + b, b + c, c @ params), None

    (a, _, _), _ = lax.scan(body, (x, x, x), None, length=4)
    return jnp.sum(a), ()

  product = 2 * 7 * 3 * 3
  assert by_direction(gradient_flops(chain, shaped(3, 3), (), shaped(7, 3))) == (4 * product, 8 * product)


def test_recomputation_is_no_need():
  def layers(params, x):
    return jnp.tanh(jnp.tanh(x @ params) @ params)

  w, x = shaped(3, 3), shaped(7, 3)
  plain = gradient_flops(lambda p, _, x: (jnp.sum(layers(p, x)), ()), w, (), x)
  remat = gradient_flops(lambda p, _, x: (jnp.sum(jax.checkpoint(layers)(p, x)), ()), w, (), x)
  assert plain == remat
  grad = jax.grad(lambda p, x: jnp.sum(jax.checkpoint(layers)(p, x)))
  assert traced_flops(grad, w, x) > sum(plain.values())


def test_work_on_weights_and_networks_are_told_apart():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(5, use_bias=False)(x)

  def penalised(params, _, x):
    y = Net().apply({"params": params}, x)
    kernel = params["Dense_0"]["kernel"]
    return jnp.sum(y) + jnp.sum((kernel.T @ kernel) ** 2), ()

  parts = gradient_flops(penalised, {"Dense_0": {"kernel": shaped(3, 5)}}, (), shaped(7, 3))
  layer, gram = 2 * 7 * 3 * 5, 2 * 5 * 3 * 5
  assert parts == {
    Part(network="Net", direction="forward", on="clips"): layer,
    Part(network="Net", direction="backward", on="clips"): layer,
    Part(network="", direction="forward", on="weights"): gram,
    Part(network="", direction="backward", on="weights"): 2 * gram,
  }


def test_the_yardstick_agrees_with_jax_on_a_residual_network_with_3d_convolutions():
  def convolve_3d(x, kernel, stride):
    return lax.conv_general_dilated(
      x, kernel, (1, stride, stride), "SAME", dimension_numbers=("NTHWC", "THWIO", "NTHWC")
    )

  def loss(params, _, x):
    y = nn.relu(convolve_3d(x, params["a"], 2))
    y = y + convolve_3d(y, params["b"], 1)
    return jnp.mean(jnp.square(convolve_3d(y, params["c"], 2))), {}

  params = {"a": shaped(3, 3, 3, 3, 8), "b": shaped(3, 3, 3, 8, 8), "c": shaped(1, 1, 1, 8, 4)}
  x = shaped(2, 5, 9, 8, 3)
  needed = sum(gradient_flops(loss, params, (), x).values())
  assert needed == traced_flops(jax.grad(lambda p, x: loss(p, (), x)[0]), params, x)
