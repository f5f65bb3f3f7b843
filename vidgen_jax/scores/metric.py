"""The description of one metric. Each module of `vidgen_jax.scores.metrics` lists its own in a tuple `METRICS`."""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Kind(enum.StrEnum):
  """What one value of a metric belongs to."""

  FRAME = "frame"
  CLIP = "clip"
  SET = "set of clips"


class Need(enum.StrEnum):
  """What a metric is computed from, in addition to the clips themselves."""

  TRUTH = "the true clip of each clip"
  REAL_SET = "a set of real clips"
  OBJECT = "one bright object per clip"
  CONDITIONING = "conditioning frames as drawn by the model"
  SAMPLES = "several samples per condition"
  FEATURES = "features of a network (last layer but one)"
  LOGITS = "logits of a network"
  LABELS = "class labels"
  MOTION = "motion fields"


@dataclass(frozen=True, kw_only=True)
class Metric:
  """A metric: how it is computed, reported and compared.

  Attributes:
    name: key in `vidgen_jax.scores.registry.METRICS` and in the training log.
    description: what it measures, for the documentation.
    source: publication, for the documentation.
    protocol: part of `Score.protocol`; `{divisor}` (of covariances), `{samples}`, `{splits}` and `{k}` are filled in.
    function: pure function that computes it. Its signature depends on `needs`:
      TRUTH, also with CONDITIONING: (prediction, truth) -> [B, T] for kind FRAME, [B] for kind CLIP;
      TRUTH and OBJECT: (predicted track, true track, frame size) -> [B];
      FEATURES or LOGITS: ([N, D]) -> float; with REAL_SET: (real [N, D], generated [M, D]) -> float; with SAMPLES:
      ([N, samples, D]) -> [N]; options that it may have: unbiased (see `frechet_distance`), seed, num_splits, k
      (number of neighbours).
    higher_is_better: direction; None where neither end of the scale is better.
    kind: what one value belongs to.
    needs: inputs in addition to the clips.
    reported_as: name in reports, if two protocols share one; '' for `name`.
    unit: unit of the value; '' for a number without one.
    networks: feature networks on which the metric has this name; () for all that no other metric names.
    selectable: whether the best sample of a clip and the best checkpoint of a run may be chosen by it.
    min_side: smallest frame side in pixels.
    at_least: lower bound of the value, which its interval respects.
    max_interval_clips: size of the largest set that is resampled for an interval; None for any size.
    in_common_span: whether few vectors may be transformed by `in_common_span`, which is faster.
    enabled_by: option of `SetOptions` without which it is not computed; '' for none.
  """

  name: str
  description: str
  source: str
  protocol: str
  function: Callable[..., Any]
  higher_is_better: bool | None
  kind: Kind
  needs: tuple[Need, ...] = ()
  reported_as: str = ""
  unit: str = ""
  networks: tuple[str, ...] = ()
  selectable: bool = True
  min_side: int = 1
  at_least: float = -math.inf
  max_interval_clips: int | None = None
  in_common_span: bool = False
  enabled_by: str = ""

  @property
  def row(self) -> str:
    """Value of `Score.metric` in reports."""
    return self.reported_as or self.name
