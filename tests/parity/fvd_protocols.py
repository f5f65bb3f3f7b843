"""FVD by the code of each protocol, written again with NumPy, SciPy and PyTorch, and the table of both values.

`python -m tests.parity.fvd_protocols` prints it.
"""

import math
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import scipy.linalg
import torch
from torch.nn import functional

from tests.parity import mapping, torch_networks
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.extraction import FeatureExtractor, Features
from vidgen_jax.scores.metrics.preprocessing import FVD_PROTOCOLS
from vidgen_jax.scores.networks import I3D
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer
from vidgen_jax.scores.weights.weight_file import WeightFile

SETTINGS = {"num_classes": 3, "width": 0.0625}
SHAPE = (10, 40, 57, 3)
"""Shape of the clips, whose sides no protocol resizes by a whole number."""


def legacy_bilinear(frames: np.ndarray, side: int) -> np.ndarray:
  """tf.compat.v1.image.resize_bilinear of [N, H, W, C], by its definition: pixel i samples position i * in / out."""
  for axis in (1, 2):
    length = frames.shape[axis]
    position = np.arange(side) * (np.float32(length) / np.float32(side)).astype(np.float64)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, length - 1)
    share = (position - lower).reshape([-1 if a == axis else 1 for a in range(4)])
    frames = (1 - share) * frames.take(lower, axis) + share * frames.take(upper, axis)
  return frames


def unterthiner(video: np.ndarray) -> np.ndarray:
  return 2.0 * np.stack([legacy_bilinear(clip.astype(np.float64), 224) for clip in video]) / 255.0 - 1.0


def stretched(video: np.ndarray) -> np.ndarray:
  """StyleGAN-V's network resizes so, and cdfvd's preprocess_i3d."""
  frames = torch.from_numpy(video.reshape(-1, *video.shape[2:])).permute(0, 3, 1, 2).double()
  resized = functional.interpolate(frames, size=(224, 224), mode="bilinear", align_corners=False)
  return (2.0 * resized / 255.0 - 1.0).permute(0, 2, 3, 1).reshape(*video.shape[:2], 224, 224, 3).numpy()


def short_side(video: np.ndarray) -> np.ndarray:
  """VideoGPT's `preprocess`, which common_metrics copies into both of its methods."""
  frames = torch.from_numpy(video.reshape(-1, *video.shape[2:])).permute(0, 3, 1, 2).double() / 255.0
  height, width = frames.shape[2:]
  scale = 224 / min(height, width)
  size = (224, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), 224)
  frames = functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
  top, left = (frames.shape[2] - 224) // 2, (frames.shape[3] - 224) // 2
  cropped = frames[:, :, top : top + 224, left : left + 224] - 0.5
  return (2.0 * cropped).permute(0, 2, 3, 1).reshape(*video.shape[:2], 224, 224, 3).numpy()


def by_numpy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Moments by np.cov, as in common_metrics: the covariance is divided by N - 1."""
  return x.mean(axis=0), np.cov(x, rowvar=False)


def by_sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Moments by `FeatureStats.get_mean_cov` of StyleGAN-V and cdfvd: the covariance is divided by N."""
  mean = x.sum(axis=0) / len(x)
  return mean, x.T @ x / len(x) - np.outer(mean, mean)


def by_products(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Moments by `cov` of VideoGPT, and by TF-GAN for the reference: the covariance is divided by N - 1."""
  centred = torch.from_numpy(x).t() - torch.from_numpy(x).mean(dim=0)[:, None]
  return x.mean(axis=0), (centred @ centred.t() / (len(x) - 1)).numpy()


class Protocol(NamedTuple):
  preprocess: Callable[[np.ndarray], np.ndarray]
  epsilon: float
  moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


PROTOCOLS = {
  "reference": Protocol(unterthiner, 1e-3, by_products),
  "styleganv": Protocol(stretched, 1e-3, by_sums),
  "videogpt": Protocol(short_side, 1e-5, by_products),
  "cdfvd": Protocol(stretched, 1e-5, by_sums),
  "common_metrics": Protocol(short_side, 1e-3, by_numpy),
  "common_metrics_videogpt": Protocol(short_side, 1e-5, by_products),
}


def distance(protocol: Protocol, real: np.ndarray, fake: np.ndarray) -> float:
  """The Frechet distance of logits [N, D], with SciPy's root of the product of the covariances."""
  (mean_a, cov_a), (mean_b, cov_b) = (protocol.moments(np.asarray(x, np.float64)) for x in (real, fake))
  root = scipy.linalg.sqrtm(cov_a @ cov_b)
  return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2.0 * np.real(root)))


def network(seed: int = 0) -> tuple[torch.nn.Module, WeightFile]:
  """A small I3D with random weights, in PyTorch and as a weight file."""
  reference = torch_networks.build(torch_networks.I3D(**SETTINGS), seed=seed, unit_gain=True)
  module = I3D(**SETTINGS)
  expected = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 10, 224, 224, 3), np.float32))
  variables = mapping.to_flax(
    reference.state_dict(), expected, mapping.i3d_name, unused=lambda name: name.endswith("bn.weight")
  )
  weights = WeightFile(
    network="i3d", settings=SETTINGS, variables=variables, preprocessing={}, source="random", source_hash="0" * 64
  )
  return reference, weights


def logits_by_torch(reference: torch.nn.Module, protocol: Protocol, video: np.ndarray) -> np.ndarray:
  for module in reference.modules():
    if isinstance(module, torch.nn.BatchNorm3d):
      module.eps = protocol.epsilon
  with torch.inference_mode():
    clips = torch.from_numpy(protocol.preprocess(video)).permute(0, 4, 1, 2, 3).float()
    return torch.cat([reference(clip[None])[0] for clip in clips]).numpy()


def extractor_of(name: str, weights: WeightFile) -> FeatureExtractor:
  # Small batches, because a batch is padded with copies of its last clip.
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  return FeatureExtractor(weights, mesh=mesh, batch_size=2, fvd_protocol=name)


def fvd_of(name: str, weights: WeightFile, real: Features, fake: Features) -> float:
  """The package's FVD of these features."""
  extractor = extractor_of(name, weights)
  options, fields = SetOptions(intervals=False), {"split": "real", "num_clips": len(real)}
  scorer = SetScorer(extractor, real, clip_shape=SHAPE, options=options, real_fields=fields)
  return next(score.value for score in scorer.score("fake", [fake]) if score.metric == "fvd")


def random_features(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Logits [60, 20] and [80, 20] of different means and covariances."""
  generator = np.random.default_rng(seed)
  real, fake = (
    generator.normal(size=(count, 20)) @ generator.normal(size=(20, 20)) + generator.normal(size=20)
    for count in (60, 80)
  )
  return real.astype(np.float32), fake.astype(np.float32)


def random_clips(count: int, seed: int) -> np.ndarray:
  """uint8 clips of a colour with a little noise each, so that their features differ."""
  generator = np.random.default_rng(seed)
  colours = generator.integers(40, 200, size=(count, 1, 1, 1, 3)) + generator.normal(0, 12, size=(count, *SHAPE))
  return np.clip(colours, 0, 255).astype(np.uint8)


def on_features(name: str, weights: WeightFile) -> tuple[float, float]:
  """(independent value, the package's value) on random features."""
  real, fake = random_features()
  ours = fvd_of(name, weights, *(Features(features=x, logits=x) for x in (real, fake)))
  return distance(PROTOCOLS[name], real, fake), ours


def on_network(name: str, reference: torch.nn.Module, weights: WeightFile, count: int) -> tuple[float, float]:
  """(independent value, the package's value) on `count` clips a side and a random-weight I3D."""
  protocol = PROTOCOLS[name]
  clips = random_clips(count, 1), 255 - random_clips(count, 2) // 2
  expected = distance(protocol, *(logits_by_torch(reference, protocol, video) for video in clips))
  extractor = extractor_of(name, weights)
  return expected, fvd_of(name, weights, *map(extractor.extract, clips))


def table(count: int = 4) -> Iterator[str]:
  """Lines of a Markdown table of all protocols."""
  yield "| protocol | features, independent | here | difference | I3D, independent | here | difference |"
  yield "|---|---|---|---|---|---|---|"
  reference, weights = network()
  for name in FVD_PROTOCOLS:
    cells = [name]
    for expected, ours in (on_features(name, weights), on_network(name, reference, weights, count)):
      cells += [f"{expected:.9g}", f"{ours:.9g}", f"{abs(ours / expected - 1):.1e}"]
    yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  sys.stdout.writelines(f"{line}\n" for line in table())
