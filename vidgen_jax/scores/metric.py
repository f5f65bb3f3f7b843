"""The description of one metric. Each module of `vidgen_jax.scores.metrics` lists its own in a tuple `METRICS`."""

import enum
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
  PERCEPTION = "a network that compares images"


@dataclass(frozen=True, kw_only=True)
class Metric:
  """A metric: how it is computed, reported and compared.

  Attributes:
    name: key in `vidgen_jax.scores.registry.METRICS` and in the training log.
    description: what it measures, for the documentation.
    source: publication, for the documentation.
    protocol: part of `Score.protocol`; `{divisor}` (of covariances), `{samples}` and `{k}` are filled in.
    function: pure function that computes it. Its signature depends on `needs`:
      TRUTH, also with CONDITIONING: (prediction, truth) -> [B, T] for kind FRAME, [B] for kind CLIP;
      TRUTH and PERCEPTION: (prediction, truth, network) -> [B, T], see `frame_lpips`;
      TRUTH and OBJECT: (predicted track, true track, frame size) -> [B];
      FEATURES or LOGITS: ([N, D]) -> float; with REAL_SET: (real [N, D], generated [M, D]) -> float; with SAMPLES:
      ([N, samples, D]) -> [N]; options that it may have: unbiased (see `frechet_distance`), seed, k (neighbours).
    higher_is_better: direction; None where neither end of the scale is better.
    kind: what one value belongs to.
    needs: inputs in addition to the clips.
    reported_as: name in reports, if two protocols share one; '' for `name`.
    unit: unit of the value; '' for a number without one.
    networks: feature networks on which the metric has this name; () for all that no other metric names.
    selectable: whether the best sample of a clip and the best checkpoint of a run may be chosen by it.
    min_side: smallest frame side in pixels.
    interval: 95 % interval of a value of kind SET: (value, *sets) -> (low, high) with the sets of `function`; None for
      no interval of a single set.
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
  interval: Callable[..., tuple[float, float]] | None = None
  enabled_by: str = ""

  @property
  def row(self) -> str:
    """Value of `Score.metric` in reports."""
    return self.reported_as or self.name
