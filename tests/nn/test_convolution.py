"""The forms of the convolution against a sum in numpy, against each other, and by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.convolution import Conv3D, convolve

FORMS = ("native", "stacked", "matmul", None)
# (video, kernel, strides, padding): odd and even sizes, one frame, strides with a remainder, a large first kernel.
CASES = [
  ((2, 5, 6, 7, 3), (3, 3, 3, 3, 4), (1, 1, 1), ((1, 1), (1, 1), (1, 1))),
  ((1, 6, 7, 5, 2), (3, 3, 3, 2, 3), (2, 2, 2), "SAME"),
  ((1, 4, 9, 8, 3), (3, 7, 7, 3, 2), (1, 2, 2), ((1, 1), (3, 3), (3, 3))),
  ((1, 1, 4, 4, 2), (3, 3, 3, 2, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1))),
  ((1, 2, 3, 3, 2), (7, 1, 2, 2, 3), (1, 1, 1), ((3, 3), (0, 0), (0, 2))),
  ((2, 5, 4, 6, 3), (1, 1, 1, 3, 2), (2, 2, 2), "VALID"),
  ((2, 3, 9, 8, 2), (3, 3, 2, 3), (2, 2), ((1, 1), (1, 1))),
]


def _draw(shape, seed):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _reference(x, kernel, strides, padding):
  """The definition in double precision: for each output pixel, the sum over the window."""
  if kernel.ndim == 4:
    kernel, strides = kernel[None], (1, *strides)
    padding = padding if isinstance(padding, str) else ((0, 0), *padding)
  window = kernel.shape[:3]
  if padding == "SAME":
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[1:4], strides, window, strict=True)]
    padding = [(total // 2, total - total // 2) for total in totals]
  elif padding == "VALID":
    padding = [(0, 0)] * 3
  x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
  sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], window, strides, strict=True)]
  y = np.empty((x.shape[0], *sizes, kernel.shape[-1]))
  for position in itertools.product(*map(range, sizes)):
    corner = [slice(i * s, i * s + k) for i, s, k in zip(position, strides, window, strict=True)]
    y[(slice(None), *position)] = np.einsum("bthwc,thwco->bo", x[(slice(None), *corner)], kernel)
  return y


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_all_forms_equal_the_sum(case):
  video, window, strides, padding = case
  x, kernel = _draw(video, 0), _draw(window, 1)
  expected = _reference(x, kernel, strides, padding)
  for form in FORMS:
    found = convolve(x, kernel, strides=strides, padding=padding, form=form)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=str(form))


def test_same_pads_the_odd_pixel_at_the_end():
  # A ramp 1 2 3 4, three ones, stride 2, one pixel of padding at the end: 1+2+3 and 3+4+0. With padding before, the
  # first sum would be 1+2.
  ones = np.ones((3, 1, 1, 1, 1), np.float32)
  for axis in (1, 2, 3):
    ramp = np.moveaxis(np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1, 1), 1, axis)
    kernel = np.moveaxis(ones, 0, axis - 1)
    for form in FORMS:
      found = convolve(ramp, kernel, strides=tuple(2 if a == axis else 1 for a in (1, 2, 3)), form=form)
      np.testing.assert_array_equal(np.ravel(found), [6, 7])


def test_gradients_of_all_forms_agree():
  x, kernel, weight = _draw((2, 4, 6, 6, 2), 0), _draw((3, 3, 3, 2, 3), 1), _draw((2, 2, 3, 3, 3), 2)

  def gradients(form):
    loss = lambda x, kernel: jnp.sum(weight * convolve(x, kernel, strides=(2, 2, 2), form=form))
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

  expected = gradients("native")
  for form in FORMS[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), gradients(form), expected)


def test_the_cpu_program_has_no_branch():
  # XLA does not use its fast form in a conditional or a called function.
  loss = lambda x, kernel: jnp.sum(jnp.square(convolve(jax.nn.relu(convolve(x, kernel)), kernel)))
  shapes = (jax.ShapeDtypeStruct((1, 4, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 2, 2), jnp.float32))
  program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile().as_text()
  assert " convolution(" in program
  assert not any(word in program for word in (" conditional(", " call(", " while("))
  # 2-D convolutions only: their dimensions are 0 and 1, never 2.
  assert "012" not in "".join(line for line in program.splitlines() if "dim_labels" in line)


@pytest.mark.parametrize(
  ("platform", "window", "rank"),
  [("cuda", (3, 3, 3), 4), ("tpu", (3, 3, 3), 5), ("cuda", (1, 3, 3), 4), ("cuda", (3, 3), 4)],
)
def test_forward_and_backward_pass_use_the_form_of_the_platform(platform, window, rank):
  shapes = (jax.ShapeDtypeStruct((1, 4, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((*window, 2, 2), jnp.float32))
  loss = lambda x, kernel: jnp.sum(jnp.square(convolve(x, kernel)))
  step = jax.jit(jax.grad(loss, argnums=(0, 1)))
  program = step.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
  convolutions = [line for line in program.splitlines() if "stablehlo.convolution" in line]
  # One forward and one for each gradient; none is repeated.
  assert len(convolutions) == 3
  assert all(line.rpartition("-> tensor<")[2].count("x") == rank for line in convolutions)


def test_an_export_for_several_platforms():
  x, kernel = _draw((2, 4, 6, 6, 2), 0), _draw((3, 3, 3, 2, 3), 1)
  exported = jax.export.export(jax.jit(convolve), platforms=("cpu", "tpu", "cuda"))(x, kernel)
  restored = jax.export.deserialize(exported.serialize())
  np.testing.assert_allclose(restored.call(x, kernel), convolve(x, kernel), atol=1e-5)


def test_a_bfloat16_layer_has_float32_parameters():
  layer = Conv3D(4, (1, 3, 3), use_bias=True, dtype=jnp.bfloat16)
  y, variables = layer.init_with_output(jax.random.key(0), _draw((1, 2, 5, 5, 3), 0))
  assert y.dtype == jnp.bfloat16
  assert jax.tree.map(lambda v: (v.shape, v.dtype.name), variables["params"]) == {
    "kernel": ((1, 3, 3, 3, 4), "float32"),
    "bias": ((4,), "float32"),
  }
  biased = layer.apply({"params": variables["params"] | {"bias": jnp.arange(4.0)}}, _draw((1, 2, 5, 5, 3), 0))
  np.testing.assert_allclose(np.asarray(biased - y, np.float32), np.broadcast_to(np.arange(4.0), y.shape), atol=0.05)


def test_refuses_what_does_not_match():
  x, kernel = jnp.ones((1, 4, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 1))
  with pytest.raises(ValueError, match="cannot convolve"):
    convolve(x[0], kernel)
  with pytest.raises(ValueError, match="cannot convolve"):
    convolve(x, kernel[:, :, :, :1])
  with pytest.raises(ValueError, match="does not fit"):
    convolve(x[:, :2], kernel, padding="VALID")
