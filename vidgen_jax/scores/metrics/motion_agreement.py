"""Agreement of predicted motion fields with the motion of a clip's one bright object (Shape Motion).

No loss trains the motion fields of a generator directly (TrIVD-GAN-FP, 3.2.1), so agreement is a finding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidgen_jax.ops.conditioning import take_frames
from vidgen_jax.scores.metric import Kind, Metric, Need
from vidgen_jax.scores.metrics.trajectory import Track, object_centroid, object_weight

LEAST_MOTION = 0.5
"""Pixels per frame that the true object must have moved for its direction to be compared."""


class MotionAgreement(NamedTuple):
  """Agreement of predicted with true motions over the frames that count; all four values are NaN without a frame."""

  cosine: float
  """Mean cosine of the angle between the two, in [-1, 1]: 1 same direction, 0 at random."""
  angle: float
  """Mean angle in degrees, in [0, 180]: 90 at random."""
  length_ratio: float
  """Sum of the predicted lengths over the sum of the true ones."""
  correlation: float
  """Correlation of the motion vectors p (predicted) and t (true), in [-1, 1], ignoring motion that all clips share:
  sum (p - mean p) . (t - mean t) / sqrt(sum |p - mean p|^2 sum |t - mean t|^2); 0 if one of them does not vary."""
  frames: int
  """Number of frames that count."""
  still: int
  """Frames left out because the object moved less than the threshold."""
  absent: int
  """Frames left out because an object is missing: in the true frame, in the one before, or in the generated frame."""


def compare_motion(flow: np.ndarray, video: np.ndarray, truth: np.ndarray, frames: Sequence[int]) -> MotionAgreement:
  """Compares the mean flow over the generated object's pixels with the displacement of the true object.

  Args:
    flow: float32[B, F, H, W, 2], (dx, dy) in pixels since the previous frame.
    video: uint8[B, T, H, W, C], whole generated clips.
    truth: uint8[B, T, H, W, C], real clips; or `video`, to compare the fields with the generated motion.
    frames: F indices of the flow's frames in the clips, ascending. Frame 0 has no previous frame and counts as absent.
  """
  predicted, seen = mean_motion(flow, take_frames(video, frames))
  true, moved = displacements(object_centroid(truth), frames)
  return compare_vectors(predicted, true, known=seen & moved)


def drift(flow: np.ndarray) -> np.ndarray:
  """The mean of the fields float32[B, F, H, W, 2] over clips and pixels, float32[F, 1, 1, 2]; to be subtracted.

  A GAN loss does not prevent drift: later layers can undo a constant shift.
  """
  return flow.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None].astype(np.float32)


def mean_motion(flow: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The mean flow over the object's pixels in `video` uint8[B, F, H, W, C], weighted by brightness.

  Returns:
    float64[B, F, 2], 0 without an object; bool[B, F], whether there is an object.
  """
  weight = np.asarray(object_weight(video), np.float64)[..., None]
  total = weight.sum(axis=(2, 3))
  return (weight * flow).sum(axis=(2, 3)) / np.where(total > 0, total, 1.0), total[..., 0] > 0


def displacements(track: Track, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """Motion of the object since the previous frame, in F of its T frames.

  Returns:
    float64[B, F, 2], (dx, dy) in pixels; bool[B, F], whether the object is in both frames.
  """
  after = np.asarray(frames, np.intp)
  before = np.maximum(after - 1, 0)
  position, presence = np.asarray(track.centroid, np.float64), np.asarray(track.presence)
  moved = (position[:, after] - position[:, before])[..., ::-1]
  return moved, presence[:, after] & presence[:, before] & (after > 0)


def compare_vectors(predicted: np.ndarray, true: np.ndarray, *, known: np.ndarray) -> MotionAgreement:
  """Compares motions [B, F, 2] where both have an object (`known`, bool[B, F]).

  A predicted motion of length 0 counts as 90 degrees off.
  """
  length, true_length = np.linalg.norm(predicted, axis=-1), np.linalg.norm(true, axis=-1)
  counts = known & (true_length >= LEAST_MOTION)
  numbers = {"frames": int(counts.sum()), "still": int((known & ~counts).sum()), "absent": int((~known).sum())}
  if not counts.any():
    return MotionAgreement(cosine=np.nan, angle=np.nan, length_ratio=np.nan, correlation=np.nan, **numbers)
  product = (length * true_length)[counts]
  cosine = np.sum(predicted * true, axis=-1)[counts] / np.where(product > 0, product, 1.0)
  cosine = np.clip(cosine, -1.0, 1.0)
  return MotionAgreement(
    cosine=float(cosine.mean()),
    angle=float(np.degrees(np.arccos(cosine)).mean()),
    length_ratio=float(length[counts].sum() / true_length[counts].sum()),
    correlation=_correlation(predicted[counts], true[counts]),
    **numbers,
  )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  a, b = (np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64) for x in (a, b))
  scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
  # Equal vectors leave rounding errors, which are no variation.
  return float(np.sum(a * b) / scale) if scale > 1e-12 else 0.0


def motion_baselines(truth: np.ndarray, frames: Sequence[int], *, seed: int) -> dict[str, MotionAgreement]:
  """Agreement of trivial motions and of the true motion of real clips uint8[B, T, H, W, C]; `frames` as above.

  Returns:
    'zero': no motion; 'random': a random direction per frame, 1 pixel long; 'constant': the one direction with the best
    mean cosine, 1 pixel long; 'truth': the true motion.
  """
  true, known = displacements(object_centroid(truth), frames)
  turns = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, size=known.shape)
  length = np.linalg.norm(true, axis=-1, keepdims=True)
  counted = known[..., None] & (length >= LEAST_MOTION)
  # The sum of the cosines with a direction is its scalar product with the sum of the directions.
  mean = np.sum(np.where(counted, true / np.where(length > 0, length, 1.0), 0.0), axis=(0, 1))
  guesses = {
    "zero": np.zeros_like(true),
    "random": np.stack([np.cos(turns), np.sin(turns)], axis=-1),
    "constant": np.broadcast_to(mean / max(np.linalg.norm(mean), np.finfo(float).tiny), true.shape),
    "truth": true,
  }
  return {name: compare_vectors(guess, true, known=known) for name, guess in guesses.items()}


METRICS = (
  Metric(
    name="motion_agreement",
    description="agreement of a generator's motion fields with the motion of the object: mean cosine and angle of the "
    "directions, ratio of the lengths, correlation (motion.json of vidgen sample --motion)",
    source="this project; motion fields of TrIVD-GAN-FP, 3.2.1",
    protocol="mean flow over the generated object's pixels against the true object's displacement",
    function=compare_motion,
    higher_is_better=None,
    kind=Kind.SET,
    needs=(Need.TRUTH, Need.OBJECT, Need.MOTION),
    selectable=False,
  ),
)
