"""FLOPs compared with sums computed by hand; two FLOPs per multiply-add."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax import lax

from vidgen_jax.bench import flops
from vidgen_jax.bench.flops import Part, gradient_flops
from vidgen_jax.nn.transposed_convolution import convolve_transposed
from vidgen_jax.ops import loops, losses


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
  # The batch axis of an einsum is not summed: 4 * 2 results over 3 products.
  assert traced_flops(lambda a, b: jnp.einsum("btc,bc->bt", a, b), shaped(4, 2, 3), shaped(4, 3)) == 2 * 4 * 2 * 3


def test_padding_of_a_convolution_does_not_count():
  # A 3-tap window covers 3 elements at the 2 inner positions of 4, and 2 at both ends: 10 along each axis.
  assert traced_flops(convolve, shaped(2, 4, 4, 5), shaped(3, 3, 5, 7)) == 2 * (2 * 7 * 5) * (10 * 10)
  # Without padding: 2 positions with 3 taps.
  valid = traced_flops(lambda x, k: convolve(x, k, padding="VALID"), shaped(2, 4, 4, 5), shaped(3, 3, 5, 7))
  assert valid == 2 * (2 * 7 * 5) * (6 * 6)


@pytest.mark.parametrize(
  ("options", "kernel", "taps"),
  [
    # Stride 2 on 4 with SAME padding (0, 1): positions 0 and 2, windows 0-2 and 2-4, where 4 is padding.
    ({"window_strides": (2, 2)}, (3, 3, 6, 8), 5),
    # Holes: 4 elements spread to 7 (padding 1, 1); odd positions cover 2 elements, even ones 1: 4 * 1 + 3 * 2.
    ({"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}, (3, 3, 6, 8), 10),
    # Taps 2 apart, padding 2: position 0 covers 0, 2; 1 covers 1, 3; 2 covers 0, 2; 3 covers 1, 3.
    ({"rhs_dilation": (2, 2)}, (3, 3, 6, 8), 8),
    # Two groups: the kernel uses 3 of the 6 input features.
    ({"feature_group_count": 2}, (3, 3, 3, 8), 10),
  ],
)
def test_other_convolutions_by_hand_and_by_xla(options, kernel, taps):
  def function(x, k):
    return convolve(x, k, **options)

  x, k = shaped(2, 4, 4, 6), shaped(*kernel)
  assert traced_flops(function, x, k) == 2 * (2 * 8 * kernel[2]) * taps**2
  assert traced_flops(function, x, k) == jax.jit(function).lower(x, k).cost_analysis()["flops"]


def test_a_scan_counts_every_iteration():
  def function(x, kernel):
    return lax.scan(lambda state, _: (jax.jit(convolve)(state, kernel), None), x, None, length=5)[0]

  x, kernel = shaped(2, 4, 4, 3), shaped(3, 3, 3, 3)
  assert traced_flops(function, x, kernel) == 5 * 2 * (2 * 3 * 3) * 100
  assert loops_over_products(function, x, kernel)
  assert not loops_over_products(convolve, x, kernel)
  assert not loops_over_products(lambda x: lax.scan(lambda s, _: (s + 1, None), x, None, length=5)[0], x)


def test_the_most_expensive_branch_counts():
  def function(w, _, x):
    return lax.cond(x[0, 0] > 0, lambda: jnp.sum(x @ w), lambda: jnp.sum(x @ w @ w)), ()

  w, x = shaped(3, 3), shaped(4, 3)
  product = 2 * 4 * 3 * 3
  assert traced_flops(lambda w, x: function(w, (), x)[0], w, x) == 2 * product
  # Backward: x @ w needs the gradient of w, (x @ w) @ w those of both operands.
  assert by_direction(gradient_flops(function, w, (), x)) == (2 * product, 3 * product)


@pytest.mark.parametrize(("backend", "products"), [("cpu", (1, 1)), ("gpu", (2, 3)), ("tpu", (3, 5))])
def test_the_branch_of_this_platform_counts(backend, products, monkeypatch):
  def power(exponent):
    return lambda w, x: x @ w if exponent == 1 else power(exponent - 1)(w, x) @ w

  def function(w, _, x):
    return jnp.sum(lax.platform_dependent(w, x, cpu=power(1), cuda=power(2), default=power(3))), ()

  w, x = shaped(3, 3), shaped(4, 3)
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  product = 2 * 4 * 3 * 3
  forward, backward = (count * product for count in products)
  assert traced_flops(lambda w, x: function(w, (), x)[0], w, x) == forward
  # Backward: x @ w needs the gradient of w, every further product those of both operands.
  assert by_direction(gradient_flops(function, w, (), x)) == (forward, backward)
  monkeypatch.undo()
  assert by_direction(gradient_flops(function, w, (), x, backend=backend)) == (forward, backward)


@pytest.mark.parametrize(
  ("backend", "taps"),
  [
    # Four phases of 2x2 pixels, each a product of patches of 2x2, padding included.
    ("cpu", 4 * (2 * 2) * (2 * 2)),
    # Input 0 reaches outputs -1, 0, 1, 2 and input 1 outputs 1, 2, 3, 4; three of each are in 0..3.
    ("gpu", (3 + 3) ** 2),
  ],
)
def test_a_transposed_convolution_in_the_form_of_each_platform(backend, taps, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)

  def function(kernel, _, x):
    return jnp.sum(convolve_transposed(x, kernel, strides=(1, 2, 2))), ()

  kernel, x = shaped(1, 4, 4, 5, 3), shaped(6, 7, 2, 2, 5)
  count = 2 * 6 * 7 * (5 * 3) * taps
  assert by_direction(gradient_flops(function, kernel, (), x)) == (count, count)
  gradient = jax.grad(lambda kernel, x: function(kernel, (), x)[0])
  assert traced_flops(gradient, kernel, x) == 2 * count


def test_a_while_loop_is_an_error():
  def function(x):
    return lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: y @ y, x)

  with pytest.raises(ValueError, match="while"):
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


def test_outputs_other_than_the_loss_have_no_backward_pass():
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


def test_the_state_of_a_recurrence_becomes_dependent_on_parameters():
  # The state is data at first, and depends on the parameters from the second iteration on.
  def recurrent(params, _, x):
    state, _ = lax.scan(lambda s, _: (jnp.tanh(s @ params), None), x, None, length=6)
    return jnp.sum(state), ()

  product = 2 * 7 * 3 * 3
  forward, backward = by_direction(gradient_flops(recurrent, shaped(3, 3), (), shaped(7, 3)))
  # A loop is one program, so its first iteration also computes the gradient of its state.
  assert (forward, backward) == (6 * product, 6 * 2 * product)


def test_needed_gradients_propagate_through_the_state_of_a_recurrence():
  # Only `a` is an output, but it depends on `b`, which depends on `c`.
  def chain(params, _, x):
    def body(carry, _):
      a, b, c = carry
      return (a + b, b + c, c @ params), None

    (a, _, _), _ = lax.scan(body, (x, x, x), None, length=4)
    return jnp.sum(a), ()

  product = 2 * 7 * 3 * 3
  assert by_direction(gradient_flops(chain, shaped(3, 3), (), shaped(7, 3))) == (4 * product, 8 * product)


def test_recomputation_does_not_count():
  def layers(params, x):
    return jnp.tanh(jnp.tanh(x @ params) @ params)

  w, x = shaped(3, 3), shaped(7, 3)
  plain = gradient_flops(lambda p, _, x: (jnp.sum(layers(p, x)), ()), w, (), x)
  remat = gradient_flops(lambda p, _, x: (jnp.sum(jax.checkpoint(layers)(p, x)), ()), w, (), x)
  assert plain == remat
  grad = jax.grad(lambda p, x: jnp.sum(jax.checkpoint(layers)(p, x)))
  assert traced_flops(grad, w, x) > sum(plain.values())


def test_weights_and_networks_are_counted_separately():
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


def test_the_count_agrees_with_jax_on_a_residual_network_with_3d_convolutions():
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


def test_a_gradient_penalty_is_differentiated_twice():
  class Critic(nn.Module):
    @nn.compact
    def __call__(self, x):
      h = jnp.tanh(nn.Dense(4, use_bias=False)(x))
      return nn.Dense(1, use_bias=False)(h)[:, 0]

  def penalised(params, _, x):
    logits, norms = losses.logits_and_gradients(lambda x: Critic().apply({"params": params}, x), x)
    return jnp.mean(logits) + jnp.mean(norms), ()

  params = {"Dense_0": {"kernel": shaped(3, 4)}, "Dense_1": {"kernel": shaped(4, 1)}}
  parts = gradient_flops(penalised, params, (), shaped(7, 3))
  first, second = 2 * 7 * 3 * 4, 2 * 7 * 4 * 1
  # Forward: x A and h B; inner backward: 1 B', which does not depend on the clips, and g A'. In the outer backward
  # pass, x A needs the gradient of A, h B those of both, 1 B' that of B, and g A' those of both.
  assert parts == {
    Part(network="Critic", direction="forward", on="clips"): first + second + first,
    Part(network="Critic", direction="forward", on="weights"): second,
    Part(network="Critic", direction="backward", on="clips"): first + 2 * second + 2 * first,
    Part(network="Critic", direction="backward", on="weights"): second,
  }
  gradient = jax.grad(lambda params, x: penalised(params, (), x)[0])
  assert traced_flops(gradient, params, shaped(7, 3)) == sum(parts.values())


@pytest.mark.parametrize(("context", "backward"), [(loops.unrolled, 1 + 2 * 4), (contextlib.nullcontext, 2 * 5)])
def test_a_module_inside_another_counts_for_the_outer_one(context, backward):
  class Blocks(nn.Module):
    @nn.compact
    def __call__(self, x):
      block = nn.Dense(3, use_bias=False, parent=None)
      kernels = self.param("kernels", nn.initializers.ones, (5, 3, 3))
      body = jax.checkpoint(lambda y, kernel: (block.apply({"params": {"kernel": kernel}}, y), None))
      return loops.scan(body, x, kernels, length=5)[0]

  def loss(params, _, x):
    return jnp.sum(Blocks().apply({"params": params}, x)), ()

  with context():
    parts = gradient_flops(loss, {"kernels": shaped(5, 3, 3)}, (), shaped(7, 3))
  product = 2 * 7 * 3 * 3
  assert parts == {
    Part(network="Blocks", direction="forward", on="clips"): 5 * product,
    Part(network="Blocks", direction="backward", on="clips"): backward * product,
  }
