"""Known answers of imported networks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.networks import FLOW_NETWORKS
from vidgen_jax.scores.weights.weight_file import WeightFile

RGB_SCRATCH_FVD = 131.0
"""FVD between all-black and all-white clips with rgb_scratch, computed by the reference implementation."""

RGB_IMAGENET_FVD = 219.0

_TOLERANCE = 0.02  # relative: the answers are published without decimals and depend on the hardware's convolutions
_SHIFT = (3.0, -2.0)  # pixels (x, y) by which the texture of the flow network's self-test moves


def selftest(extractor: FeatureExtractor) -> tuple[bool, str]:
  """Checks a feature network by known answers: (whether all are right, one line for each)."""
  answers = [_same_clip_twice(extractor)]
  if extractor.network == "i3d" and extractor.weights.settings.get("num_classes", 400) == 400:
    answers.append(_black_against_white(extractor))
  return _report(answers)


def flow_selftest(weights: WeightFile) -> tuple[bool, str]:
  """Like `selftest` for a flow network, by the known motion of a texture, since no answers are published."""
  module = FLOW_NETWORKS[weights.network](**weights.settings)
  variables = jax.tree.map(jnp.asarray, weights.variables)
  found = jax.jit(module.apply)(variables, _texture(np.zeros(2)), _texture(np.array(_SHIFT)))
  middle = np.asarray(found)[0, 32:-32, 32:-32].reshape(-1, 2)
  error = float(np.median(np.linalg.norm(middle - _SHIFT, axis=-1)))
  motion = ", ".join(f"{value:.2f}" for value in np.median(middle, axis=0))
  text = f"found ({motion}) px for ({_SHIFT[0]:g}, {_SHIFT[1]:g}), median error {error:.2f}"
  # Published networks are well below half a pixel on such motion.
  return _report([("texture", error <= 0.5, text)])


def _texture(shift: np.ndarray, *, size: int = 128) -> jax.Array:
  """A smooth texture [1, size, size, 3] in [-1, 1], shifted by (x, y) pixels: the sum of waves in random directions."""
  random = np.random.default_rng(0)
  waves, amplitudes = random.normal(scale=0.25, size=(64, 2)), random.normal(scale=0.1, size=(64, 3))
  phases = random.uniform(0.0, 2.0 * np.pi, 64)
  positions = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) - shift
  image = np.cos(positions @ waves.T + phases) @ amplitudes
  return jnp.asarray(np.clip(image, -1.0, 1.0)[None], jnp.float32)


def _report(answers: Sequence[tuple[str, bool, str]]) -> tuple[bool, str]:
  lines = [f"{'ok' if passed else 'WRONG':<6}{name}: {text}\n" for name, passed, text in answers]
  return all(passed for _, passed, _ in answers), "".join(lines)


def _same_clip_twice(extractor: FeatureExtractor) -> tuple[str, bool, str]:
  """Checks that a clip's features do not depend on its batch, and differ between clips."""
  shape = (16, 112, 112, 3) if extractor.network == "c3d" else (16, 64, 64, 3)
  clips = np.random.default_rng(0).integers(256, size=(3, *shape), dtype=np.uint8)
  together, alone = extractor.extract(clips), extractor.extract(clips[1:2])
  scale = max(float(np.abs(together.logits).max()), 1e-30)
  difference = float(np.abs(together.logits[1] - alone.logits[0]).max()) / scale
  apart = float(np.abs(together.logits[0] - together.logits[1]).max()) / scale
  text = f"a clip alone and in a batch differ by {difference:.1e}, two noise clips by {apart:.1e} of the largest logit"
  return "batches", difference < 1e-4 < apart, text


def _black_against_white(extractor: FeatureExtractor) -> tuple[str, bool, str]:
  black, white = (extractor.extract(np.full((16, 15, 64, 64, 3), value, np.uint8)).logits for value in (0, 255))
  value = frechet_distance(black, white)
  expected = f"about {RGB_SCRATCH_FVD:g} with rgb_scratch"
  passed = abs(value - RGB_SCRATCH_FVD) <= _TOLERANCE * RGB_SCRATCH_FVD
  if abs(value - RGB_IMAGENET_FVD) <= _TOLERANCE * RGB_IMAGENET_FVD:
    expected += f"; {RGB_IMAGENET_FVD:g} is the answer of rgb_imagenet: these are the wrong weights for FVD"
  return "FVD, black against white", passed, f"{value:.2f}, {expected}"
