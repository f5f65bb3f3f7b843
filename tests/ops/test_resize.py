import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.ops.resize import METHODS, resize, resize_matrix


def test_legacy_bilinear_by_hand():
  # 4 -> 6: places i * 4/6 = 0, 2/3, 4/3, 2, 8/3, 10/3. The last lies beyond sample 3, which is repeated.
  expected = [
    [1, 0, 0, 0],
    [1 / 3, 2 / 3, 0, 0],
    [0, 2 / 3, 1 / 3, 0],
    [0, 0, 1, 0],
    [0, 0, 1 / 3, 2 / 3],
    [0, 0, 0, 1],
  ]
  np.testing.assert_allclose(resize_matrix(4, 6, "legacy_bilinear"), expected, atol=1e-6)
  # 4 -> 2: places 0 and 2: every second sample, nothing is smoothed.
  np.testing.assert_allclose(resize_matrix(4, 2, "legacy_bilinear"), [[1, 0, 0, 0], [0, 0, 1, 0]])
  # A 2 x 2 image to 4 x 4, both axes: places 0, .5, 1, 1.5 (the last repeats the border).
  image = jnp.array([[0.0, 10.0], [20.0, 30.0]])[None, :, :, None]
  table = [[0, 5, 10, 10], [10, 15, 20, 20], [20, 25, 30, 30], [20, 25, 30, 30]]
  np.testing.assert_allclose(resize(image, 4, 4, "legacy_bilinear")[0, :, :, 0], table, atol=1e-5)


def test_half_pixel_bilinear_by_hand():
  # 2 -> 4: places -1/4 (0 by the border), 1/4, 3/4, 5/4 (the border's).
  expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
  np.testing.assert_allclose(resize_matrix(2, 4, "half_pixel_bilinear"), expected, atol=1e-6)


def test_corner_bilinear_by_hand():
  # 3 -> 5: places 0, 1/2, 1, 3/2, 2.
  expected = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
  np.testing.assert_allclose(resize_matrix(3, 5, "corner_bilinear"), expected, atol=1e-6)
  np.testing.assert_allclose(resize_matrix(3, 1, "corner_bilinear"), [[1, 0, 0]])


def test_cubic_by_hand():
  # Halfway between samples 1 and 2 of 4 (4 -> 1: place 1.5): weights a/8 * ... = -.09375, .59375, .59375, -.09375.
  np.testing.assert_allclose(resize_matrix(4, 1, "half_pixel_cubic"), [[-0.09375, 0.59375, 0.59375, -0.09375]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size_in", "size_out"), [(5, 5), (7, 3), (3, 8), (64, 224), (1, 4)])
def test_rows_sum_to_one_and_equal_sizes_are_the_identity(method, size_in, size_out):
  matrix = resize_matrix(size_in, size_out, method)
  np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
  if size_in == size_out:
    np.testing.assert_allclose(matrix, np.eye(size_in), atol=1e-7)


@pytest.mark.parametrize(
  ("method", "options"),
  [
    ("half_pixel_bilinear", {"mode": "bilinear", "align_corners": False}),
    ("corner_bilinear", {"mode": "bilinear", "align_corners": True}),
    ("half_pixel_cubic", {"mode": "bicubic", "align_corners": False}),
  ],
)
def test_equals_pytorch(method, options):
  torch = pytest.importorskip("torch", reason="needs the extra `parity`")
  frames = np.random.default_rng(0).uniform(0, 255, (2, 9, 14, 3)).astype(np.float32)
  planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
  expected = torch.nn.functional.interpolate(planes, size=(17, 11), **options).permute(0, 2, 3, 1).numpy()
  np.testing.assert_allclose(resize(jnp.asarray(frames), 17, 11, method), expected, rtol=1e-5, atol=2e-3)


def test_leading_axes_are_kept_and_sides_are_independent():
  video = jnp.zeros((2, 3, 4, 6, 3))
  assert resize(video, 8, 5, "legacy_bilinear").shape == (2, 3, 8, 5, 3)


def test_unknown_methods_and_empty_axes_raise():
  with pytest.raises(ValueError, match="method='nearest' must be one of"):
    resize_matrix(3, 4, "nearest")
  with pytest.raises(ValueError, match="at least one sample"):
    resize_matrix(0, 4, "legacy_bilinear")
