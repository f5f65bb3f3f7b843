"""Distances between two sets of feature vectors: Frechet distance and kernel distance.

Their names and the published numbers that compare depend on the network: see `METRICS`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.intervals import jackknife_variance, t_interval

_NUM_SIZES = 15  # set sizes that the line of the extrapolation is fitted to, evenly spaced in 1 / N
_ROWS = 512  # rows of the kernel matrix at a time, which bounds the memory
_Kernel = Callable[[np.ndarray, int], np.ndarray]  # from dot products and the number of features
_PAIRS = 2000  # pairs of clips from which the second-order part of a Frechet distance's variance is estimated


def frechet_distance(a: np.ndarray, b: np.ndarray, *, unbiased: bool = True) -> float:
  """|mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64 (FID eq. 6; FVD eq. 2; MVT-GAN eq. 8).

  Args:
    a: [N, D], finite, N >= 2.
    b: [M, D], finite, M >= 2.
    unbiased: whether covariances S are divided by N - 1 (FVD's reference) instead of N (StyleGAN's code).
  """
  a, b = _in_common_span(a, b)
  return frechet_of_moments(*moments(a, unbiased=unbiased), *moments(b, unbiased=unbiased))


def moments(x: np.ndarray, *, unbiased: bool = True) -> tuple[np.ndarray, np.ndarray]:
  """Mean float64[D] and covariance float64[D, D] of [N, D], divided by N - 1 if `unbiased`, else by N."""
  x = np.asarray(x, np.float64)
  centred = x - x.mean(axis=0)
  return x.mean(axis=0), centred.T @ centred / (len(x) - unbiased)


def frechet_of_moments(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
  """The distance of `frechet_distance` from the `moments` of both sets."""
  # The trace of the root equals that of the symmetric (S_a^(1/2) S_b S_a^(1/2))^(1/2), whose eigenvalues are real and
  # not negative, so that singular covariances (fewer clips than features) need no added diagonal.
  values, vectors = np.linalg.eigh((cov_a + cov_a.T) / 2)
  root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
  product = root @ cov_b @ root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  trace_of_root = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
  offset = mean_a - mean_b
  distance = offset @ offset + np.trace(cov_a) + np.trace(cov_b) - 2.0 * trace_of_root
  return float(max(distance, 0.0))  # Rounding can make the distance of equal sets negative.


def extrapolated_frechet_distance(a: np.ndarray, b: np.ndarray, *, unbiased: bool = True, seed: int = 0) -> float:
  """Frechet distance for infinitely many clips, by a line through the distances over 1 / N (Chong and Forsyth, sec. 4).

  The estimate scatters more than the distance itself and may be negative. `seed` selects the clips that are left out.

  Raises:
    ValueError: if a set has fewer than twice as many clips as features.
  """
  fewest, num_features = min(len(a), len(b)), a.shape[1]
  if fewest < 2 * num_features:
    raise ValueError(
      f"extrapolation needs {2 * num_features} clips or more for {num_features} features, got {len(a)} and {len(b)}"
    )
  # With fewer clips than features the curve over 1 / N bends, so the smallest size is the number of features, or a
  # fifth of the clips. Both sets shrink in proportion, so that the line includes the bias of both.
  shares = 1.0 / np.linspace(1.0 / max(0.2, num_features / fewest), 1.0, _NUM_SIZES)
  generator = np.random.default_rng(seed)
  inverse, distances = [], []
  for share in shares:
    count_a, count_b = round(share * len(a)), round(share * len(b))
    part_a = a[generator.permutation(len(a))[:count_a]]
    part_b = b[generator.permutation(len(b))[:count_b]]
    inverse.append(1.0 / count_a + 1.0 / count_b)
    distances.append(frechet_distance(part_a, part_b, unbiased=unbiased))
  _, intercept = np.polyfit(inverse, distances, 1)
  return float(intercept)


def frechet_interval(value: float, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """95 % interval of `value`, the Frechet distance of two sets [N, D] and [M, D]; see `intervals`.

  The influence functions and the second derivative are those at the sample's moments; the divisor of the covariances is
  neglected.
  """
  if value <= 0.0:  # Equal sets.
    return 0.0, 0.0
  a, b = _in_common_span(a, b)
  offset, x, y = a.mean(axis=0) - b.mean(axis=0), a - a.mean(axis=0), b - b.mean(axis=0)
  u, v, roots = _transported(x, y)
  influences = (
    2.0 * x @ offset + np.square(x).sum(axis=1) - np.square(u).sum(axis=1),
    -2.0 * y @ offset + np.square(y).sum(axis=1) - np.square(v).sum(axis=1),
  )
  sizes = ((u, u, 2.0 / len(a) ** 2), (v, v, 2.0 / len(b) ** 2), (u, v, 4.0 / (len(a) * len(b))))
  pairs = sum(weight * _mean_square_of_pairs(p, q, roots) for p, q, weight in sizes)
  variance = jackknife_variance(influences, pairs)
  return _squared_interval(value, variance, count=min(len(a), len(b)))


def _squared_interval(value: float, variance: float, *, count: int) -> tuple[float, float]:
  """The square of an interval of sqrt(value): the spread of a squared distance grows with the distance.

  An interval of log(value) would explode for sets that are almost equal clip by clip. So would the delta method's
  variance / (4 value); but sqrt(x) and sqrt(y) differ by at most sqrt(|x - y|), whose square is about the deviation.
  """
  value, deviation = max(float(value), 0.0), float(variance) ** 0.5
  spread = variance / max(4.0 * value, deviation) if deviation else 0.0
  low, high = t_interval(value**0.5, float(spread), count=count)
  return max(low, 0.0) ** 2, high**2


def _transported(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Centred sets [N, D] and [M, D] in coordinates in which both have the covariance diag(c), and c [R].

  c are the eigenvalues of C = (A^(1/2) B A^(1/2))^(1/2), with the covariances A and B. With C = W diag(c) W' the
  coordinates are c^(1/2) W' A^(-1/2) x and c^(-1/2) W' A^(1/2) y. The derivative of the trace of C by A is
  A^(-1/2) C A^(-1/2) / 2, so that the squared length of the first is twice the influence of x on it. Directions in
  which a set has no variance are left out.
  """
  threshold = x.shape[1] * np.finfo(np.float64).eps
  values, vectors = np.linalg.eigh(moments(x)[1])
  kept = values > values.max() * threshold
  scale, vectors = np.sqrt(values[kept]), vectors[:, kept]
  squares, turn = np.linalg.eigh((vectors.T @ moments(y)[1] @ vectors) * scale[:, None] * scale)
  kept = squares > squares.max(initial=0.0) * threshold
  roots, turn = np.sqrt(squares[kept]), turn[:, kept]
  return (x @ vectors / scale) @ turn * np.sqrt(roots), (y @ vectors * scale) @ turn / np.sqrt(roots), roots


def _mean_square_of_pairs(p: np.ndarray, q: np.ndarray, roots: np.ndarray) -> float:
  """Mean of g(p_i, q_j)^2 over random pairs of different clips, in the coordinates of `_transported`.

  The second-order part of the Frechet distance is the sum of g over the pairs of each set, divided by N^2, minus twice
  that over pairs from both, divided by N M. g(p, q) = p . q + sum_kl P_kl Q_kl / (2 (c_k + c_l)), where
  P = p p' - diag(c): the second derivative of the trace of C, for example by two changes of A, is in these coordinates
  -sum_kl P_kl Q_kl / (2 (c_k + c_l)).
  """
  generator, count = np.random.default_rng(0), min(len(p), len(q))
  first = p[generator.permutation(len(p))[:count]]
  second = first if p is q else q[generator.permutation(len(q))[:count]]
  weights, squares = 1.0 / (roots[:, None] + roots), []
  for shift in range(1, 1 + min(count - 1, -(-_PAIRS // count))):
    other = np.roll(second, shift, axis=0)
    product = first * other
    of_covariances = np.einsum("ik,ik->i", product @ weights, product) + roots.sum() / 2.0
    of_covariances -= (np.square(first) + np.square(other)).sum(axis=1) / 2.0
    squares.append(np.square(product.sum(axis=1) + of_covariances / 2.0).mean())
  return float(np.mean(squares))


def _in_common_span(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sets [N, D] and [M, D] in coordinates of the space that they span: float64 with min(D, N + M) columns.

  Frechet distances do not change, and few clips of a wide network need no large covariances.
  """
  both = np.concatenate([a, b]).astype(np.float64)
  if both.shape[0] >= both.shape[1]:
    return both[: len(a)], both[len(a) :]
  basis, _ = np.linalg.qr(both.T)
  turned = both @ basis
  return turned[: len(a)], turned[len(a) :]


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
  """Unbiased estimate of the squared maximum mean discrepancy with k(x, y) = (x . y / D + 1)^3 (KID, sec. 4.1).

  It is E k(a, a') + E k(b, b') - 2 E k(a, b) of finite sets [N, D] and [M, D], without pairs of a vector with itself,
  and may be negative.
  """
  within = [_kernel_sums(x, None, _cubic) for x in (a, b)]
  means = [one.rows.sum() / (len(x) * (len(x) - 1)) for one, x in zip(within, (a, b), strict=True)]
  return float(means[0] + means[1] - 2.0 * _kernel_sums(a, b, _cubic).rows.mean() / len(b))


def jedi_distance(a: np.ndarray, b: np.ndarray) -> float:
  """100 times the squared maximum mean discrepancy with k(x, y) = (x . y / D)^2, of sets [N, D] and [M, D] (JEDi).

  Means are over all pairs, those of a vector with itself included: of this kernel they are the squared norm of the
  difference of the second moments.
  """
  second_a, second_b = (x.T @ x / len(x) for x in (np.asarray(one, np.float64) for one in (a, b)))
  return float(100.0 * np.square((second_a - second_b) / a.shape[1]).sum())


def kernel_interval(value: float, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """95 % interval of `value`, the kernel distance of two sets [N, D] and [M, D]; see `intervals`."""
  variance, bias = _kernel_moments(a, b, _cubic)
  # With the pairs of a vector with itself the distance would be larger by its bias, and not negative.
  low, high = _squared_interval(value + bias, variance, count=min(len(a), len(b)))
  return min(low - bias, value), high - bias  # The value of constant sets is 0 to rounding.


def jedi_interval(value: float, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """95 % interval of `value`, the result of `jedi_distance`; see `intervals`."""
  variance, _ = _kernel_moments(a, b, _square)
  return _squared_interval(value, 100.0**2 * variance, count=min(len(a), len(b)))


def _kernel_moments(a: np.ndarray, b: np.ndarray, kernel: _Kernel) -> tuple[float, float]:
  """Variance of the unbiased squared maximum mean discrepancy, and the bias of the one over all pairs."""
  within, between = [_kernel_sums(x, None, kernel) for x in (a, b)], _kernel_sums(a, b, kernel)
  influences = (
    2.0 * (within[0].rows / (len(a) - 1) - between.rows / len(b)),
    2.0 * (within[1].rows / (len(b) - 1) - between.columns / len(a)),
  )
  pairs = sum(2.0 * one.centred_square(len(x) - 1) / len(x) ** 2 for one, x in zip(within, (a, b), strict=True))
  pairs += 4.0 * between.centred_square(len(b)) / (len(a) * len(b))
  bias = sum(
    (kernel(np.square(np.asarray(x, np.float64)).sum(axis=1), x.shape[1]).mean() - one.rows.mean() / (len(x) - 1))
    / len(x)
    for one, x in zip(within, (a, b), strict=True)
  )
  return jackknife_variance(influences, pairs), float(bias)


def _cubic(products: np.ndarray, num_features: int) -> np.ndarray:
  return (products / num_features + 1.0) ** 3


def _square(products: np.ndarray, num_features: int) -> np.ndarray:
  return np.square(products / num_features)


@dataclasses.dataclass(frozen=True)
class _KernelSums:
  """Sums of the kernel matrix of two sets over rows [N] and columns [M], and of its squares."""

  rows: np.ndarray
  columns: np.ndarray
  squares: float

  def centred_square(self, width: int) -> float:
    """Mean square of the matrix, of `width` entries per row, after the means of rows and columns are subtracted."""
    count = len(self.rows) * width
    height, mean = count / len(self.columns), self.rows.sum() / count
    of_means = (
      np.square(self.rows - width * mean).sum() / width + np.square(self.columns - height * mean).sum() / height
    )
    remaining = self.squares - count * mean**2 - of_means
    return max(remaining, 0.0) / max(count - len(self.rows) - len(self.columns) + 1, 1)


def _kernel_sums(x: np.ndarray, y: np.ndarray | None, kernel: _Kernel) -> _KernelSums:
  """The sums over all pairs of two sets; without `y` over pairs of different vectors of one set."""
  a, b = (np.asarray(one, np.float64) for one in (x, x if y is None else y))
  rows, columns, squares = [], np.zeros(len(b)), 0.0
  for start in range(0, len(a), _ROWS):
    block = kernel(a[start : start + _ROWS] @ b.T, b.shape[1])
    if y is None:
      np.fill_diagonal(block[:, start:], 0.0)
    rows.append(block.sum(axis=1))
    columns += block.sum(axis=0)
    squares += float(np.square(block).sum())
  return _KernelSums(np.concatenate(rows), columns, squares)


_FID_SOURCE = "Heusel et al., arXiv:1706.08500, eq. 6"
_KID_SOURCE = "Binkowski et al., arXiv:1801.01401, section 4.1"
_FVD_SOURCE = "Unterthiner et al., arXiv:1812.01717, eq. 2"


_FRECHET = Metric(
  name="clip_frechet",
  description="Frechet distance between normal distributions fitted to the real and the generated features of any "
  "classifier, such as one trained by vidgen classify; no published number compares. The bias depends on the number of "
  "clips",
  source=_FID_SOURCE,
  protocol="covariance / {divisor}",
  function=frechet_distance,
  higher_is_better=False,
  kind=Kind.SET,
  needs=(Need.REAL_SET, Need.FEATURES),
  interval=frechet_interval,
)
_FID = dataclasses.replace(
  _FRECHET,
  name="fid",
  description="FID of MVT-GAN (appendix B.2): Frechet distance on the features of TSN, of whole clips",
  networks=("tsn",),
)
_FVD = dataclasses.replace(
  _FRECHET,
  name="fvd",
  description="Frechet video distance: on the logits of I3D; see --fvd_protocol",
  source=_FVD_SOURCE,
  needs=(Need.REAL_SET, Need.LOGITS),
  networks=("i3d",),
)
_KERNEL = Metric(
  name="clip_kernel",
  description="kernel distance on the features of any other network: unbiased, so sets of any size compare",
  source=_KID_SOURCE,
  protocol="unbiased MMD^2, cubic kernel",
  function=kernel_distance,
  higher_is_better=False,
  kind=Kind.SET,
  needs=(Need.REAL_SET, Need.FEATURES),
  interval=kernel_interval,
)
_KVD = dataclasses.replace(
  _KERNEL,
  name="kvd",
  description="kernel video distance, on the logits of I3D: unbiased, so sets of any size compare",
  source=f"{_KID_SOURCE}; {_FVD_SOURCE}",
  needs=(Need.REAL_SET, Need.LOGITS),
  networks=("i3d",),
)

_FRAME_FID = dataclasses.replace(
  _FRECHET,
  name="frame_fid",
  description="FID of frames: Frechet distance on the features of Inception-v3; see --fid_protocol and --fid_frames",
  networks=("inception",),
)
_FRAME_KID = dataclasses.replace(
  _KERNEL,
  name="frame_kid",
  description="kernel Inception distance of frames: unbiased, so sets of any size compare",
  networks=("inception",),
)
_CD_FVD = dataclasses.replace(
  _FRECHET,
  name="cd_fvd",
  description="content-debiased FVD: on the features of VideoMAE, which depend less on the content of single frames "
  "and more on motion than those of I3D",
  source="Ge et al., arXiv:2404.12391",
  networks=("videomae",),
)
_VIDEO_STATISTICS = dataclasses.replace(
  _FRECHET,
  name="video_statistics_distance",
  description="Frechet distance on statistics of space and time derivatives, which need no weights: blur, resolution, "
  "noise, speed, order of frames, frozen frames, colours, mode collapse. It does not recognise objects or actions: "
  "scrambled or wrong content with the same textures and motion is near. Sensitive to the encoding of the clips",
  source="this project",
  networks=("video_statistics",),
)
_VIDEO_STATISTICS_KERNEL = dataclasses.replace(
  _KERNEL,
  name="video_statistics_kernel",
  description="kernel distance on the same statistics: unbiased, so sets of any size compare; may be below 0",
  source=f"this project; {_KID_SOURCE}",
  networks=("video_statistics",),
)
_JEDI = dataclasses.replace(
  _KERNEL,
  name="jedi",
  description="JEDi: kernel distance on the features of V-JEPA with an attentive pooler, times 100; biased, 0 for "
  "equal sets only",
  source="Luo et al., arXiv:2410.05203",
  protocol="100 MMD^2 with pairs of a clip with itself, square kernel",
  function=jedi_distance,
  networks=("vjepa",),
  interval=jedi_interval,
)


def _extrapolated(metric: Metric) -> Metric:
  return dataclasses.replace(
    metric,
    name=f"{metric.name}_infinity",
    description=f"{metric.name} extrapolated to infinitely many clips (--extrapolate)",
    source="Chong and Forsyth, arXiv:1911.07023, section 4",
    protocol=f"{metric.protocol}, line over 1 / N of {_NUM_SIZES} sizes",
    function=extrapolated_frechet_distance,
    interval=None,
    enabled_by="extrapolate",
  )


_FRECHETS = (_FVD, _CD_FVD, _FID, _FRAME_FID, _VIDEO_STATISTICS, _FRECHET)
METRICS = (*_FRECHETS, _KVD, _FRAME_KID, _VIDEO_STATISTICS_KERNEL, _KERNEL, _JEDI, *map(_extrapolated, _FRECHETS))
