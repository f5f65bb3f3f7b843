"""Optical flow of images with known motion: generated textures and frames of real videos."""

import functools

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops.optical_flow import LucasKanade, bilinear_sample, flow_of_clips, inside_share
from vidgen_jax.scores.metrics import baselines

SIZE, FACTOR = 64, 4
MOTIONS = ((1.0, 0.0), (0.5, -0.5), (-2.5, 1.0), (3.75, -3.0))
"""(dx, dy), in quarters of a pixel."""

estimate = jax.jit(LucasKanade())


def _texture() -> np.ndarray:
  """uint8 [320, 320, 3]: noise at several scales."""
  rng = np.random.default_rng(0)
  total = sum(np.kron(rng.normal(size=(320 // s, 320 // s, 3)), np.ones((s, s, 1))) for s in (4, 8, 16, 32))
  return np.clip(127.5 + 40 * total, 0, 255).astype(np.uint8)


def _pair(image: np.ndarray, dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
  """Two windows of a large image, FACTOR times as fine, the second of which shows everything moved by (dx, dy)."""
  side = FACTOR * SIZE
  top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2

  def window(right: int, down: int) -> np.ndarray:
    cut = image[top - down : top - down + side, left - right : left - right + side].astype(np.float32)
    return cut.reshape(1, SIZE, FACTOR, SIZE, FACTOR, 3).mean(axis=(2, 4)) / 127.5 - 1

  return window(0, 0), window(round(FACTOR * dx), round(FACTOR * dy))


def _check(image: np.ndarray, motion: tuple[float, float]) -> None:
  flow = np.asarray(estimate(*_pair(image, *motion)))
  assert (flow.shape, flow.dtype) == ((1, SIZE, SIZE, 2), np.float32)
  # Where what has left the image could not be seen any more, nothing is known.
  inner = flow[0, 4:-4, 4:-4]
  np.testing.assert_allclose(inner.mean(axis=(0, 1)), motion, atol=0.25)
  assert np.median(np.linalg.norm(inner - np.array(motion), axis=-1)) < 0.25


@pytest.mark.parametrize("motion", MOTIONS)
def test_translations_of_a_texture(motion):
  _check(_texture(), motion)


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("name", ["demo.mp4", "part_0.mp4", "test.avi"])
def test_translations_of_real_frames(shared_data, name, motion):
  with av.open(str(shared_data / "clips" / name)) as container:
    frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
  room = FACTOR * (SIZE + 8)
  if min(frame.shape[:2]) < room:
    factor = -(-room // min(frame.shape[:2]))
    frame = np.kron(frame, np.ones((factor, factor, 1), np.uint8))
  _check(frame, motion)


def test_frames_along_the_estimated_flow_are_closer_than_a_cross_fade():
  """A square over a texture moves eight pixels to the right in four frames."""
  background = _pair(_texture(), 0, 0)[0]
  video = np.rint(0.5 * (background + 1) * 127.5).astype(np.uint8)[:, None].repeat(5, axis=1)
  for t in range(5):
    video[:, t, 24:40, 20 + 2 * t : 36 + 2 * t] = 230
  errors = {
    make: np.square(clips[:, 1:4].astype(float) - video[:, 1:4]).mean()
    for make, clips in {
      "flow": baselines.flow_interpolation(video, (0, 4), estimate),
      "fade": baselines.cross_fade(video, (0, 4)),
    }.items()
  }
  assert errors["flow"] < 0.4 * errors["fade"]


def test_no_motion_and_no_texture_give_no_flow():
  still, _ = _pair(_texture(), 0, 0)
  np.testing.assert_allclose(estimate(still, still), np.zeros((1, SIZE, SIZE, 2)), atol=1e-5)
  flat = np.full_like(still, 0.3)
  np.testing.assert_allclose(estimate(flat, flat + 0.01), np.zeros((1, SIZE, SIZE, 2)), atol=1e-5)


def test_the_flow_of_a_clip_is_the_flow_of_its_frame_pairs():
  first, second = _pair(_texture(), 1, 1)
  video = np.stack([first, second, first], axis=1)
  flow = jax.jit(functools.partial(flow_of_clips, LucasKanade()))(video)
  assert flow.shape == (1, 2, SIZE, SIZE, 2)
  np.testing.assert_allclose(flow[:, 0], estimate(first, second), atol=1e-4)
  np.testing.assert_allclose(flow[:, 1], estimate(second, first), atol=1e-4)


def test_bilinear_sampling_by_hand():
  image = jnp.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])[None, ..., None]
  flow = jnp.zeros((1, 2, 3, 2)).at[0, 0, 0].set(jnp.array([0.5, 0.25])).at[0, 1, 2].set(jnp.array([5.0, 5.0]))
  flow = flow.at[0, 0, 2].set(jnp.array([-1.5, 0.0]))
  expected = image.at[0, 0, 0].set(0.5 + 2.5).at[0, 0, 2].set(0.5)
  np.testing.assert_allclose(bilinear_sample(image, flow), expected, rtol=1e-6)


def test_the_share_inside_by_hand():
  flow = jnp.zeros((1, 2, 3, 2)).at[0, 0, 0].set(jnp.array([-0.25, -0.5])).at[0, 1, 2].set(jnp.array([1.5, 0.0]))
  flow = flow.at[0, 1, 0].set(jnp.array([1.9, 0.1]))
  expected = jnp.ones((1, 2, 3, 1)).at[0, 0, 0, 0].set(0.75 * 0.5).at[0, 1, 2, 0].set(0.0).at[0, 1, 0, 0].set(0.9)
  np.testing.assert_allclose(inside_share(flow), expected, rtol=1e-6)


def test_gradients_against_differences():
  """Of the mean flow, along a smooth direction of the second image."""
  first, second = _pair(_texture(), 0.5, 0.25)
  first, second = first[:, :16, :16], second[:, :16, :16]
  direction = np.asarray(jax.random.normal(jax.random.key(0), second.shape))

  @jax.jit
  def loss(second):
    return jnp.mean(LucasKanade(levels=2)(first, second)[..., 0])

  slope = float(jnp.sum(jax.jit(jax.grad(loss))(second) * direction))
  width = 1e-3
  difference = (float(loss(second + width * direction)) - float(loss(second - width * direction))) / (2 * width)
  assert abs(slope) > 1e-3
  assert slope == pytest.approx(difference, rel=0.05)


def test_images_of_different_shapes_raise():
  with pytest.raises(ValueError, match="of one shape"):
    LucasKanade()(jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 8, 9, 3)))
