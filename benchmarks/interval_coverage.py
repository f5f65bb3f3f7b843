"""Coverage and width of the 95 % intervals of scores, by simulation.

    python -m benchmarks.interval_coverage

Each trial draws new sets and computes a score and its interval. `coverage` is the fraction of the intervals that
contain the mean score of all trials, `width` their mean width over 2 x 1.96 standard deviations of the scores. The
bootstrap of 200 resamples, which for distances is shifted by its bias, is shown for comparison where it is fast.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from vidgen_jax.scores.metrics.classifier_scores import inception_interval, inception_score, s3_interval, s3_score
from vidgen_jax.scores.metrics.diversity import pairwise_cosine_distance
from vidgen_jax.scores.metrics.intervals import mean_interval
from vidgen_jax.scores.metrics.set_distance import frechet_distance, frechet_interval, kernel_distance, kernel_interval

Interval = tuple[float, float]
Draw = Callable[[np.random.Generator], tuple[np.ndarray, ...]]
Score = Callable[..., Any]
Method = Callable[..., Interval]

_TRIALS = flags.DEFINE_integer("trials", 1000, "draws of each case", lower_bound=2)
_LARGE_TRIALS = flags.DEFINE_integer(
  "large_trials", 300, "largest number for 2,048 clips of 400 features", lower_bound=2
)
_ONLY = flags.DEFINE_list("only", [], "scores to simulate, such as frechet; default: all")

MAX_RESAMPLED = 200
SIZES = ((200, 20), (40, 30), (30, 64), (2048, 400))


def resampled(statistic: Score, value: float, *sets: np.ndarray, centred: bool = True) -> Interval:
  """Percentiles of 200 resamples, shifted if `centred` so that their mean is the value."""
  generator = np.random.default_rng(0)
  draws = [statistic(*(x[generator.integers(len(x), size=len(x))] for x in sets)) for _ in range(200)]
  low, high = np.percentile(draws, (2.5, 97.5)) + centred * (value - np.mean(draws))
  return float(low), float(high)


def simulate(name: str, draw: Draw, statistic: Score, methods: Mapping[str, Method], *, trials: int) -> None:
  """Prints one row per method."""
  generator, values = np.random.default_rng(0), []
  found: dict[str, list[Interval]] = {method: [] for method in methods}
  for _ in range(trials):
    sets = draw(generator)
    values.append(statistic(*sets))
    for method, interval in methods.items():
      found[method].append(interval(values[-1], *sets))
  truth, spread = np.mean(values), 2 * 1.96 * np.std(values)
  for method, intervals in found.items():
    low, high = np.array(intervals).T
    inside, width = np.mean((low <= truth) & (truth <= high)), np.mean(high - low) / spread
    sys.stdout.write(f"| {name} | {method} | {inside:.3f} | {width:.2f} |\n")
    sys.stdout.flush()


def draw_features(
  generator: np.random.Generator, *, count: int, size: int, kind: str, shifted: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Two sets [count, size]; the standard deviations of 'decaying' features are 1, 1/2^.5, 1/3^.5, ..."""
  scale = np.arange(1, size + 1.0) ** (0.0 if kind == "flat" else -0.5)
  a, b = generator.normal(size=(2, count, size)) * scale
  if shifted:
    b = 1.2 * b + 0.3 * np.sqrt(scale.sum() / size)
  if kind == "rectified":  # Not negative, as after a network's ReLU.
    mixing = np.random.default_rng(99).normal(size=(size, size)) / np.sqrt(size)
    return np.maximum(a @ mixing, 0.0), np.maximum(b @ mixing, 0.0)
  return a, b


def draw_values(generator: np.random.Generator, *, count: int, kind: str) -> tuple[np.ndarray]:
  """Scores of clips or runs [count]."""
  return (generator.exponential(size=count) if kind == "exponential" else generator.normal(size=count),)


def draw_diversities(generator: np.random.Generator) -> tuple[np.ndarray]:
  """Diversities [20] of 5 samples per condition."""
  return (pairwise_cosine_distance(generator.normal(size=(20, 1, 8)) + generator.normal(size=(20, 5, 8))),)


def draw_logits(generator: np.random.Generator, *, count: int, classes: int, scale: float) -> tuple[np.ndarray]:
  """Logits [count, classes]."""
  return (scale * generator.normal(size=(count, classes)),)


def draw_counts(generator: np.random.Generator, *, count: int, rates: Sequence[float]) -> tuple[np.ndarray, ...]:
  """Numbers of clips that count for SeR, ReS and ReR, and the number of clips."""
  return (*np.maximum(generator.binomial(count, rates), 1), np.array(count))


def s3_of_counts(ser: int, res: int, rer: int, count: int) -> float:
  """S3 from the result of `draw_counts`."""
  return s3_score(ser=ser / count, res=res / count, rer=rer / count)


def interval_of_counts(_: float, ser: int, res: int, rer: int, count: int) -> Interval:
  """The interval of S3 from the result of `draw_counts`."""
  return s3_interval(ser=(ser, count), res=(res, count), rer=(rer, count))


def cases() -> Iterator[tuple[str, str, Draw, Score, dict[str, Method]]]:
  """Kind of the score, label, and arguments of `simulate`."""
  bootstrap = functools.partial(resampled, frechet_distance)
  frechet: dict[str, Method] = {"here": frechet_interval}
  for kind, shifted, (count, size) in itertools.product(("flat", "decaying", "rectified"), (False, True), SIZES):
    label = f"{count} x {size} {kind}, {'shifted' if shifted else 'equal'}"
    draw = functools.partial(draw_features, count=count, size=size, kind=kind, shifted=shifted)
    if kind == "decaying":
      compared = frechet | ({"bootstrap": bootstrap} if count <= MAX_RESAMPLED else {})
      yield "frechet", f"Frechet distance, {label}", draw, frechet_distance, compared
      yield "kernel", f"kernel distance, {label}", draw, kernel_distance, {"here": kernel_interval}
    elif count <= MAX_RESAMPLED:
      yield "frechet", f"Frechet distance, {label}", draw, frechet_distance, frechet
  for count, classes, scale in ((200, 10, 2.0), (200, 10, 20.0), (2048, 101, 5.0)):
    draw = functools.partial(draw_logits, count=count, classes=classes, scale=scale)
    label = f"inception score, {count} x {classes}, deviation {scale:g}"
    yield "inception", label, draw, inception_score, {"here": inception_interval}
  student: dict[str, Method] = {"here": lambda _, values: mean_interval(values) or (np.nan, np.nan)}
  percentile = {"bootstrap": functools.partial(resampled, np.mean, centred=False)}
  for count, kind in itertools.product((3, 5, 10, 20), ("normal", "exponential")):
    draw = functools.partial(draw_values, count=count, kind=kind)
    yield "mean", f"mean of {count}, {kind}", draw, np.mean, student | percentile
  yield "diversity", "diversity, 20 x 5 samples", draw_diversities, np.mean, student
  for count, rates in ((20, (0.6, 0.7, 0.8)), (100, (0.6, 0.7, 0.8)), (100, (0.2, 0.9, 0.98)), (400, (0.3, 0.5, 0.9))):
    draw = functools.partial(draw_counts, count=count, rates=rates)
    yield "s3", f"S3, {count} clips, rates {rates}", draw, s3_of_counts, {"here": interval_of_counts}


def main(_: list[str]) -> None:
  """Prints the table."""
  sys.stdout.write("| score | interval | coverage | width |\n|---|---|---|---|\n")
  for kind, label, draw, statistic, methods in cases():
    if not _ONLY.value or kind in _ONLY.value:
      trials = _TRIALS.value if "2048 x 400" not in label else min(_TRIALS.value, _LARGE_TRIALS.value)
      simulate(label, draw, statistic, methods, trials=trials)


if __name__ == "__main__":
  app.run(main)
