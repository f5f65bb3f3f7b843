"""The forms of the transposed convolution against its definition in numpy, against PyTorch, and by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.nn.convolution import convolve
from vidgen_jax.nn.transposed_convolution import ConvTranspose3D, convolve_transposed

FORMS = ("dilated", "phases", None)
# (video, kernel, strides): the layers of the paper and its baseline, no stride, one frame, one pixel, strides 3 and 4.
CASES = [
  ((2, 3, 4, 5, 2), (3, 4, 4, 2, 3), (1, 2, 2)),
  ((1, 3, 2, 5, 3), (4, 4, 4, 3, 2), (2, 2, 2)),
  ((1, 2, 3, 3, 2), (3, 3, 3, 2, 2), (1, 1, 1)),
  ((1, 1, 1, 2, 1), (3, 4, 4, 1, 2), (1, 2, 2)),
  ((2, 2, 3, 1, 2), (5, 3, 2, 2, 3), (1, 3, 2)),
  ((1, 2, 2, 3, 2), (2, 6, 8, 2, 1), (2, 2, 4)),
]


def _draw(shape, seed):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _reference(x, kernel, strides):
  """Input i adds x[i] kernel[k] to output S i - P + k; in double precision."""
  window = kernel.shape[:3]
  y = np.zeros((x.shape[0], *(s * n for s, n in zip(strides, x.shape[1:4], strict=True)), kernel.shape[-1]))
  for position in itertools.product(*map(range, x.shape[1:4])):
    for tap in itertools.product(*map(range, window)):
      target = [s * i - (k - s) // 2 + j for s, i, k, j in zip(strides, position, window, tap, strict=True)]
      if all(0 <= t < n for t, n in zip(target, y.shape[1:4], strict=True)):
        y[(slice(None), *target)] += x[(slice(None), *position)].astype(np.float64) @ kernel[tap]
  return y


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_all_forms_equal_the_sum(case):
  video, window, strides = case
  x, kernel = _draw(video, 0), _draw(window, 1)
  expected = _reference(x, kernel, strides)
  for form in FORMS:
    found = convolve_transposed(x, kernel, strides=strides, form=form)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=str(form))


def test_a_row_by_hand():
  # Stride 2, four taps, P = 1: input i = 0, 1 adds (1, 2, 3, 4) x[i] to outputs 2 i - 1 ... 2 i + 2; -1 and 4 are cut.
  # x = (1, 10): outputs 2, 3 + 10, 4 + 20, 30.
  taps = np.arange(1, 5, dtype=np.float32)
  for axis in (1, 2, 3):
    x = np.moveaxis(np.array([1.0, 10.0], np.float32).reshape(1, 2, 1, 1, 1), 1, axis)
    kernel = np.moveaxis(taps.reshape(4, 1, 1, 1, 1), 0, axis - 1)
    strides = tuple(2 if a == axis else 1 for a in (1, 2, 3))
    for form in FORMS:
      found = convolve_transposed(x, kernel, strides=strides, form=form)
      np.testing.assert_array_equal(np.ravel(found), [2, 13, 24, 30])


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: f"{case[0]}-{case[1]}")
def test_gradients_of_all_forms_agree_and_are_the_convolution(case):
  video, window, strides = case
  x, kernel = _draw(video, 0), _draw(window, 1)
  weight = _draw(_reference(x, kernel, strides).shape, 2)

  def gradients(form):
    loss = lambda x, kernel: jnp.sum(weight * convolve_transposed(x, kernel, strides=strides, form=form))
    return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, kernel)

  found = {form: gradients(form) for form in FORMS}
  # The gradient is a convolution with the same kernel, with its channels exchanged.
  padding = [((k - s) // 2,) * 2 for k, s in zip(window[:3], strides, strict=True)]
  backward = convolve(jnp.asarray(weight), jnp.swapaxes(kernel, 3, 4), strides=strides, padding=padding, form="native")
  for form in FORMS:
    np.testing.assert_allclose(found[form][0], backward, atol=1e-5 * np.abs(backward).max())
    for a, b in zip(found[form], found["dilated"], strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_against_pytorch():
  torch = pytest.importorskip("torch")
  x, kernel = _draw((2, 3, 4, 5, 2), 0), _draw((3, 4, 4, 2, 3), 1)
  layer = torch.nn.ConvTranspose3d(2, 3, (3, 4, 4), stride=(1, 2, 2), padding=(1, 1, 1), bias=False)
  with torch.no_grad():
    layer.weight.copy_(torch.from_numpy(kernel.transpose(3, 4, 0, 1, 2)))
    expected = layer(torch.from_numpy(x.transpose(0, 4, 1, 2, 3))).numpy().transpose(0, 2, 3, 4, 1)
  np.testing.assert_allclose(convolve_transposed(x, kernel, strides=(1, 2, 2)), expected, atol=1e-5)


def test_the_cpu_program_convolves_in_its_entry_without_branch_and_dilation():
  layer = lambda x, kernel: jnp.sum(jnp.square(convolve_transposed(x, kernel, strides=(1, 2, 2))))
  shapes = (jax.ShapeDtypeStruct((1, 4, 6, 6, 2), jnp.float32), jax.ShapeDtypeStruct((3, 4, 4, 2, 2), jnp.float32))
  program = jax.jit(jax.grad(layer, argnums=(0, 1))).lower(*shapes).compile().as_text()
  called, entry = program.split("\nENTRY ")
  assert " convolution(" in entry
  # XLA's CPU compiler uses fast convolutions only in the entry computation.
  assert " convolution(" not in called
  assert not any(word in program for word in (" conditional(", "lhs_dilate", "rhs_dilate"))


def test_an_export_for_several_platforms():
  x, kernel = _draw((1, 2, 3, 3, 2), 0), _draw((3, 4, 4, 2, 3), 1)
  upsample = jax.jit(lambda x, kernel: convolve_transposed(x, kernel, strides=(1, 2, 2)))
  exported = jax.export.export(upsample, platforms=("cpu", "tpu", "cuda"))(x, kernel)
  restored = jax.export.deserialize(exported.serialize())
  np.testing.assert_allclose(restored.call(x, kernel), upsample(x, kernel), atol=1e-5)


def test_a_bfloat16_layer_has_float32_parameters():
  layer = ConvTranspose3D(4, use_bias=True, dtype=jnp.bfloat16)
  x = _draw((1, 2, 3, 3, 3), 0)
  y, variables = layer.init_with_output(jax.random.key(0), x)
  assert (y.shape, y.dtype) == ((1, 2, 6, 6, 4), jnp.bfloat16)
  assert jax.tree.map(lambda v: (v.shape, v.dtype.name), variables["params"]) == {
    "kernel": ((3, 4, 4, 3, 4), "float32"),
    "bias": ((4,), "float32"),
  }
  biased = layer.apply({"params": variables["params"] | {"bias": jnp.arange(4.0)}}, x)
  np.testing.assert_allclose(np.asarray(biased - y, np.float32), np.broadcast_to(np.arange(4.0), y.shape), atol=0.05)
  shapes = jax.eval_shape(ConvTranspose3D(4, (4, 4, 4), (2, 2, 2)).init, jax.random.key(0), x)
  assert jax.tree.map(lambda v: v.shape, shapes) == {"params": {"kernel": (4, 4, 4, 3, 4)}}


@pytest.mark.parametrize(
  ("video", "kernel", "strides"),
  [
    ((2, 4, 4, 2), (3, 4, 4, 2, 1), (1, 2, 2)),
    ((1, 2, 4, 4, 2), (4, 4, 2, 1), (2, 2)),
    ((1, 2, 4, 4, 2), (3, 4, 4, 2, 1), (2, 2)),
    ((1, 2, 4, 4, 3), (3, 4, 4, 2, 1), (1, 2, 2)),
    ((1, 2, 4, 4, 2), (3, 4, 4, 2, 1), (2, 2, 2)),
    ((1, 2, 4, 4, 2), (1, 1, 1, 2, 1), (1, 1, 3)),
  ],
  ids=["rank", "window", "strides", "channels", "an odd difference", "a gap between the inputs"],
)
def test_arguments_that_do_not_match(video, kernel, strides):
  with pytest.raises(ValueError, match=r"no transposed convolution of .*exceeds its stride by an even number"):
    convolve_transposed(jnp.ones(video), jnp.ones(kernel), strides=strides)
