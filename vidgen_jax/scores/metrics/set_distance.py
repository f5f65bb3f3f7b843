"""Distances between two sets of feature vectors: Frechet distance and kernel distance.

Their names and the published numbers that compare depend on the network: see `METRICS`.
"""

import dataclasses
import math

import numpy as np

from vidgen_jax.scores.metric import Kind, Metric, Need

_NUM_SIZES = 15  # set sizes that the line of the extrapolation is fitted to, evenly spaced in 1 / N
_ROWS = 512  # rows of the kernel matrix at a time, which bounds the memory


def frechet_distance(a: np.ndarray, b: np.ndarray, *, unbiased: bool = True) -> float:
  """|mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64 (FID eq. 6; FVD eq. 2; MVT-GAN eq. 8).

  Args:
    a: [N, D], finite, N >= 2.
    b: [M, D], finite, M >= 2.
    unbiased: whether covariances S are divided by N - 1 (FVD's reference) instead of N (StyleGAN's code).
  """
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


def in_common_span(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sets [N, D] and [M, D] in coordinates of the space that they span: float64 with min(D, N + M) columns.

  Frechet distances do not change, and a bootstrap over few clips of a wide network takes seconds instead of hours.
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
  a, b = (np.asarray(x, np.float64) for x in (a, b))
  of_self = [_kernel(np.square(x).sum(axis=1), x.shape[1]).sum() for x in (a, b)]
  within = [(_kernel_sum(x, x) - own) / (len(x) * (len(x) - 1)) for x, own in zip((a, b), of_self, strict=True)]
  return float(within[0] + within[1] - 2.0 * _kernel_sum(a, b) / (len(a) * len(b)))


def _kernel(products: np.ndarray, num_features: int) -> np.ndarray:
  return (products / num_features + 1.0) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
  return sum(_kernel(x[i : i + _ROWS] @ y.T, x.shape[1]).sum() for i in range(0, len(x), _ROWS))


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
  at_least=0.0,
  in_common_span=True,
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
  max_interval_clips=2000,  # The cost of each resample grows with the square of the number of clips.
)
_KVD = dataclasses.replace(
  _KERNEL,
  name="kvd",
  description="kernel video distance, on the logits of I3D: unbiased, so sets of any size compare",
  source=f"{_KID_SOURCE}; {_FVD_SOURCE}",
  needs=(Need.REAL_SET, Need.LOGITS),
  networks=("i3d",),
)


def _extrapolated(metric: Metric) -> Metric:
  return dataclasses.replace(
    metric,
    name=f"{metric.name}_infinity",
    description=f"{metric.name} extrapolated to infinitely many clips (--extrapolate)",
    source="Chong and Forsyth, arXiv:1911.07023, section 4",
    protocol=f"{metric.protocol}, line over 1 / N of {_NUM_SIZES} sizes",
    function=extrapolated_frechet_distance,
    at_least=-math.inf,
    max_interval_clips=0,
    enabled_by="extrapolate",
  )


METRICS = (_FVD, _FID, _FRECHET, _KVD, _KERNEL, *map(_extrapolated, (_FVD, _FID, _FRECHET)))
