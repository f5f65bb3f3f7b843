"""Adversarial losses and projection heads against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops import losses


def test_hinge_of_the_discriminator():
  real, fake = jnp.array([2.0, 0.5, -1.0]), jnp.array([-3.0, 0.0, 1.0])
  # relu(1 + fake) = 0, 1, 2: mean 1. relu(1 - real) = 0, 0.5, 2: mean 2.5 / 3.
  assert float(losses.hinge_discriminator_loss(real, fake)) == pytest.approx(1.0 + 2.5 / 3)


def test_hinge_gives_no_gradient_beyond_the_margin():
  gradients = jax.grad(losses.hinge_discriminator_loss, argnums=(0, 1))(jnp.array([2.0, 0.5]), jnp.array([-3.0, 0.0]))
  np.testing.assert_allclose(gradients[0], [0.0, -0.5])
  np.testing.assert_allclose(gradients[1], [0.0, 0.5])


def test_hinge_weights_real_and_fake_equally_for_any_counts():
  # One real output of 0 and four fake ones of 0: 1 + 1, not (1 + 4) / 5.
  assert float(losses.hinge_discriminator_loss(jnp.zeros((1,)), jnp.zeros((4,)))) == pytest.approx(2.0)


def test_hinge_of_the_generator():
  assert float(losses.hinge_generator_loss(jnp.array([[1.0, 2.0], [3.0, -8.0]]))) == pytest.approx(0.5)


def test_log_loss_of_the_discriminator():
  # D = 3/4 and 1/2 on real, 1/4 on the one generated: (log 4/3 + log 2) / 2 + log 4/3.
  real, fake = jnp.log(jnp.array([3.0, 1.0])), jnp.log(jnp.array([1 / 3]))
  expected = (np.log(4 / 3) + np.log(2)) / 2 + np.log(4 / 3)
  assert float(losses.log_discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)
  # The slopes are D - 1 on real and D on generated ones, each over their number.
  gradients = jax.grad(losses.log_discriminator_loss, argnums=(0, 1))(real, fake)
  np.testing.assert_allclose(gradients[0], [-1 / 8, -1 / 4], rtol=1e-6)
  np.testing.assert_allclose(gradients[1], [1 / 4], rtol=1e-6)


def test_non_saturating_loss_of_the_generator():
  # D = 3/4 and 1/4: (log 4/3 + log 4) / 2, with the slopes D - 1.
  fake = jnp.log(jnp.array([[3.0], [1 / 3]]))
  assert float(losses.nonsaturating_generator_loss(fake)) == pytest.approx((np.log(4 / 3) + np.log(4)) / 2, rel=1e-6)
  np.testing.assert_allclose(jax.grad(losses.nonsaturating_generator_loss)(fake), [[-1 / 8], [-3 / 8]], rtol=1e-6)


def test_log_losses_of_large_logits():
  right, wrong = jnp.array([1e4]), jnp.array([-1e4])
  assert float(losses.log_discriminator_loss(right, wrong)) == 0.0
  assert float(losses.log_discriminator_loss(wrong, right)) == 2e4
  assert float(losses.nonsaturating_generator_loss(right)) == 0.0
  assert float(losses.nonsaturating_generator_loss(wrong)) == 1e4
  # Where log(1 - D) would give the generator nothing to follow.
  np.testing.assert_array_equal(jax.grad(losses.nonsaturating_generator_loss)(wrong), [-1.0])
  gradients = jax.grad(losses.log_discriminator_loss, argnums=(0, 1))(right, wrong)
  np.testing.assert_array_equal(jnp.stack(gradients), [[0.0], [0.0]])


def test_losses_are_float32():
  # In bfloat16, 1 + 1/512 would round to 1.
  output = jnp.full((3,), 1 / 512, jnp.bfloat16)
  loss = losses.hinge_discriminator_loss(-output, output)
  assert loss.dtype == jnp.float32
  assert float(loss) == pytest.approx(2 + 2 / 512, abs=1e-6)
  assert losses.hinge_generator_loss(output).dtype == jnp.float32
  # log(1 + e^x) is log 2 + x / 2 near 0; in bfloat16 its steps are 1/256.
  loss = losses.log_discriminator_loss(-output, output)
  assert loss.dtype == jnp.float32
  assert float(loss) == pytest.approx(2 * np.log(2) + 1 / 512, abs=1e-5)
  loss = losses.nonsaturating_generator_loss(-output)
  assert loss.dtype == jnp.float32
  assert float(loss) == pytest.approx(np.log(2) + 1 / 1024, abs=1e-5)


def test_mixed_projection_by_hand():
  own, by_class = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[10.0, 20.0], [100.0, 200.0]])
  # The first axis is the clip whose own score enters, the second the one whose class scores are summed: 30 and 300.
  expected = [[[31.0, 32.0], [301.0, 302.0]], [[33.0, 34.0], [303.0, 304.0]]]
  np.testing.assert_array_equal(losses.mixed_projection(own, by_class), expected)


def test_mixed_projection_against_a_loop():
  rng = np.random.default_rng(0)
  batch, frames = 3, 4
  own, by_class = rng.normal(size=(2, batch, frames)).astype(np.float32)
  expected = np.zeros((batch, batch, frames))
  for b in range(batch):
    for other in range(batch):
      for t in range(frames):
        expected[b, other, t] = own[b, t] + sum(by_class[other, s] for s in range(frames))
  outputs = losses.mixed_projection(jnp.asarray(own), jnp.asarray(by_class))
  np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_all_outputs_of_mixed_projection_enter_the_loss():
  batch, frames = 3, 4

  def loss(own, by_class):
    return losses.hinge_generator_loss(losses.mixed_projection(own, by_class))

  own, by_class = jax.grad(loss, argnums=(0, 1))(jnp.zeros((batch, frames)), jnp.zeros((batch, frames)))
  # Of B*B*T outputs r_x[b, t] is part of B, r_xy[b, t] of B*T.
  np.testing.assert_allclose(own, np.full((batch, frames), -1 / (batch * frames)), rtol=1e-6)
  np.testing.assert_allclose(by_class, np.full((batch, frames), -1 / batch), rtol=1e-6)


def test_projection_by_hand():
  own, by_class = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[10.0, 20.0], [100.0, 200.0]])
  np.testing.assert_array_equal(losses.projection(own, by_class), [33.0, 307.0])
