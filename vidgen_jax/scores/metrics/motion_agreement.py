"""Whether predicted motion fields point where a clip's one bright object goes (Shape Motion).

Nothing teaches a generator its motion fields (TrIVD-GAN-FP, 3.2.1), so how well they agree with the true motion is a
finding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidgen_jax.ops.conditioning import take_frames
from vidgen_jax.scores.metrics.trajectory import Track, object_centroid, object_weight

LEAST_MOTION = 0.5
"""Pixels a frame: an object that moved less has no direction worth comparing."""


class MotionAgreement(NamedTuple):
  """How well motions agree with true ones, over the frames that count."""

  cosine: float
  """Mean cosine of the angle between the two, in [-1, 1]: 1 same direction, 0 at random; NaN without a frame."""
  angle: float
  """Mean angle in degrees, in [0, 180]: 90 at random; NaN without a frame."""
  length_ratio: float
  """Sum of the predicted lengths over the sum of the true ones; NaN without a frame."""
  correlation: float
  """Sum of (p - mean p) . (t - mean t) over the square root of the product of the sums of their squares, p predicted
  and t true, in [-1, 1]: whether motion differs from clip to clip as the true one does, whatever is common to all; 0
  where one of the two does not vary; NaN without a frame."""
  frames: int
  """How many count."""
  still: int
  """Left out: the object moved less than the threshold."""
  absent: int
  """Left out: no object in the true frame, the one before, or where the predicted motion is read."""


def compare_motion(
  flow: np.ndarray, video: np.ndarray, truth: np.ndarray, frames: Sequence[int], *, least_motion: float = LEAST_MOTION
) -> MotionAgreement:
  """Compares the mean flow over the generated object's pixels with the true object's displacement.

  Args:
    flow: float32[B, F, H, W, 2], (dx, dy) in pixels since the frame before, of the clips' generated frames.
    video: uint8[B, T, H, W, C], the whole generated clips: the object's pixels, weighed by their brightness, are those
      of the frame that the flow belongs to.
    truth: uint8[B, T, H, W, C], the real clips; or `video` itself, to ask whether fields agree with what was generated.
    frames: the F indices in the clips that the flow belongs to, in ascending order. Frame 0, before which there is no
      other, does not count: it is absent.
    least_motion: pixels, > 0, that the true object must have moved for a frame to count.

  Raises:
    ValueError: if shapes do not fit together, or `least_motion` is not positive.
  """
  expected = (len(video), len(frames), *video.shape[2:4], 2)
  if flow.shape != expected or video.shape != truth.shape:
    raise ValueError(f"flow {flow.shape}, video {video.shape}, truth {truth.shape}: flow must be {expected}")
  predicted, seen = mean_motion(flow, take_frames(video, frames))
  true, moved = displacements(object_centroid(truth), frames)
  return compare_vectors(predicted, true, known=seen & moved, least_motion=least_motion)


def drift(flow: np.ndarray) -> np.ndarray:
  """What the fields of all clips have in common: in every frame the mean over clips and pixels.

  Nothing in a GAN's losses forbids it: a shift of all features by a constant can be undone by the layers behind.

  Args:
    flow: float32[B, F, H, W, 2].

  Returns:
    float32[F, 1, 1, 2], to be subtracted.
  """
  return flow.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None].astype(np.float32)


def mean_motion(flow: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The mean flow over the object's pixels, weighed by their brightness.

  Args:
    flow: float32[B, F, H, W, 2].
    video: uint8[B, F, H, W, C], the frames that it belongs to.

  Returns:
    float64[B, F, 2], 0 where there is no object; bool[B, F], whether there is one.
  """
  weight = np.asarray(object_weight(video), np.float64)[..., None]
  total = weight.sum(axis=(2, 3))
  return (weight * flow).sum(axis=(2, 3)) / np.where(total > 0, total, 1.0), total[..., 0] > 0


def displacements(track: Track, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """How far the object has moved since the frame before.

  Args:
    track: of T frames.
    frames: F indices in 0..T - 1.

  Returns:
    float64[B, F, 2], (dx, dy) in pixels; bool[B, F], whether the object is in both frames.
  """
  after = np.asarray(frames, np.intp)
  before = np.maximum(after - 1, 0)
  place, presence = np.asarray(track.centroid, np.float64), np.asarray(track.presence)
  moved = (place[:, after] - place[:, before])[..., ::-1]
  return moved, presence[:, after] & presence[:, before] & (after > 0)


def compare_vectors(
  predicted: np.ndarray, true: np.ndarray, *, known: np.ndarray, least_motion: float = LEAST_MOTION
) -> MotionAgreement:
  """Compares motions, one for each frame.

  Args:
    predicted: [B, F, 2]. A motion of length 0 has no direction, and counts as 90 degrees off.
    true: [B, F, 2].
    known: bool[B, F]: both have an object.
    least_motion: pixels, > 0, that a true motion must have to count.

  Raises:
    ValueError: if `least_motion` is not positive.
  """
  if not least_motion > 0:
    raise ValueError(f"compare_vectors needs least_motion > 0, got {least_motion}")
  length, true_length = np.linalg.norm(predicted, axis=-1), np.linalg.norm(true, axis=-1)
  counts = known & (true_length >= least_motion)
  left_out = {"frames": int(counts.sum()), "still": int((known & ~counts).sum()), "absent": int((~known).sum())}
  if not counts.any():
    return MotionAgreement(cosine=np.nan, angle=np.nan, length_ratio=np.nan, correlation=np.nan, **left_out)
  product = (length * true_length)[counts]
  cosine = np.sum(predicted * true, axis=-1)[counts] / np.where(product > 0, product, 1.0)
  cosine = np.clip(cosine, -1.0, 1.0)
  return MotionAgreement(
    cosine=float(cosine.mean()),
    angle=float(np.degrees(np.arccos(cosine)).mean()),
    length_ratio=float(length[counts].sum() / true_length[counts].sum()),
    correlation=_correlation(predicted[counts], true[counts]),
    **left_out,
  )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  """Of vectors [n, 2] without their means; see `MotionAgreement.correlation`."""
  a, b = (np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64) for x in (a, b))
  scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
  # What rounding leaves of equal vectors is no variation.
  return float(np.sum(a * b) / scale) if scale > 1e-12 else 0.0


def motion_baselines(
  truth: np.ndarray, frames: Sequence[int], *, seed: int, least_motion: float = LEAST_MOTION
) -> dict[str, MotionAgreement]:
  """What fields have that know nothing, or everything.

  Args:
    truth: uint8[B, T, H, W, C], real clips.
    frames: see `compare_motion`.
    seed: of the random directions.
    least_motion: see `compare_motion`.

  Returns:
    'zero', no motion at all; 'random', a direction drawn for each frame, 1 pixel long; 'constant', the one direction
    that agrees best with all of these clips, 1 pixel long: a field that does not look at its clip can be as good when
    most objects go the same way; 'truth', the true motion itself.
  """
  true, known = displacements(object_centroid(truth), frames)
  turns = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, size=known.shape)
  length = np.linalg.norm(true, axis=-1, keepdims=True)
  counted = known[..., None] & (length >= least_motion)
  # The sum of the cosines with a direction is its product with the sum of the directions.
  mean = np.sum(np.where(counted, true / np.where(length > 0, length, 1.0), 0.0), axis=(0, 1))
  guesses = {
    "zero": np.zeros_like(true),
    "random": np.stack([np.cos(turns), np.sin(turns)], axis=-1),
    "constant": np.broadcast_to(mean / max(np.linalg.norm(mean), np.finfo(float).tiny), true.shape),
    "truth": true,
  }
  return {name: compare_vectors(guess, true, known=known, least_motion=least_motion) for name, guess in guesses.items()}
