"""What a classifier is trained with."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.scores.networks import NETWORKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkDefaults:
  """The settings a network is published with.

  Attributes:
    batch_size: clips of a step.
    learning_rate: at the start.
    dropout: probability before the last layer.
    width: constructor argument: channels of the first block, or for C3D their multiple.
  """

  batch_size: int
  learning_rate: float
  dropout: float
  width: float


NETWORK_DEFAULTS: Mapping[str, NetworkDefaults] = MappingProxyType(
  {
    # Munoz et al., Temporal Shift GAN for Large Scale Video Generation, appendix B.1.
    "r3d18": NetworkDefaults(batch_size=32, learning_rate=1e-3, dropout=0.6, width=64),
    # The same; its dropout is not given there: that of Wang et al., Temporal Segment Networks, section 4.1 (RGB).
    "tsn": NetworkDefaults(batch_size=14, learning_rate=1e-2, dropout=0.8, width=64),
    # Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, sections 3.1 and 3.3.
    "c3d": NetworkDefaults(batch_size=30, learning_rate=3e-3, dropout=0.5, width=1),
  }
)
"""The networks that can be trained, by name."""

_READING = ("data_dir", "num_threads", "prefetch", "workers")
RESUME_OVERRIDABLE = frozenset(
  {"epochs", "max_reductions", *(f"{data}.{field}" for data in ("data", "test_data") for field in _READING)}
)
"""Fields that may change when a training continues: they do not change what has been computed so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
  """A network, its data, and the course of its training.

  The schedule is that of Munoz et al., Temporal Shift GAN for Large Scale Video Generation, appendix B.1: the learning
  rate falls to a tenth when the best test accuracy has not been beaten for four epochs. What they leave open is marked
  [choice].

  Attributes:
    data: training clips (`train_split`), the windows, and unless `test_data` is given the test clips (`eval_split`).
    test_data: whose `eval_split` measures the test accuracy; None for `data`. Same windows, same classes.
    network: 'r3d18', 'tsn' or 'c3d'.
    width: of the network, see `NetworkDefaults`.
    dropout: probability that a feature is dropped in training, in [0, 1).
    batch_size: clips of a step, over all devices.
    learning_rate: at the start.
    optimizer: 'sgd' (momentum 0.9; [choice]: what the networks' own papers use) or 'adam'.
    weight_decay: pulls kernels, not biases and norms, towards zero [choice]; of SGD it is part of the gradient (5e-4 in
      Wang et al., Temporal Segment Networks' released settings), of Adam it is decoupled.
    epochs: at most so many.
    steps_per_epoch: train steps between two tests; 0 for once through the training clips.
    patience: epochs without a better test accuracy after which the learning rate falls to a tenth.
    max_reductions: training ends at this many plateaus [choice]: with 3, the last epochs run at a hundredth.
    test_windows: windows of each test clip, evenly spread over it, whose probabilities are averaged; 1 is the centre.
    seed: of the initial weights, the order of the clips, the windows, and dropout.
  """

  data: DataConfig
  test_data: DataConfig | None = None
  network: str = "r3d18"
  width: float = 64
  dropout: float = 0.6
  batch_size: int = 32
  learning_rate: float = 1e-3
  optimizer: Literal["sgd", "adam"] = "sgd"
  weight_decay: float = 5e-4
  epochs: int = 100
  steps_per_epoch: int = 0
  patience: int = 4
  max_reductions: int = 3
  test_windows: int = 1
  seed: int = 0

  def __post_init__(self):
    if self.network not in NETWORKS or self.network not in NETWORK_DEFAULTS:
      raise UserError(f"--network must be one of {', '.join(NETWORK_DEFAULTS)}, got {self.network!r}")
    if self.optimizer not in ("sgd", "adam"):
      raise UserError(f"--optimizer must be sgd or adam, got {self.optimizer!r}")
    for field in ("batch_size", "epochs", "patience", "max_reductions", "test_windows"):
      if getattr(self, field) < 1:
        raise UserError(f"--{field} must be at least 1, got {getattr(self, field)}")
    for field in ("steps_per_epoch", "weight_decay", "seed"):
      if not getattr(self, field) >= 0:
        raise UserError(f"--{field} must be 0 or more, got {getattr(self, field)}")
    for field in ("learning_rate", "width"):
      if not getattr(self, field) > 0:
        raise UserError(f"--{field} must be above 0, got {getattr(self, field)}")
    if self.network != "c3d" and self.width != int(self.width):
      raise UserError(f"--width of {self.network} must be a whole number, got {self.width}")
    if not 0 <= self.dropout < 1:
      raise UserError(f"--dropout must be in [0, 1), got {self.dropout}")

  @property
  def tested_on(self) -> DataConfig:
    """Whose `eval_split` measures the test accuracy."""
    return self.test_data or self.data

  def settings(self, num_classes: int) -> dict[str, Any]:
    """The network's constructor arguments."""
    width = int(self.width) if float(self.width).is_integer() else self.width
    return {"num_classes": num_classes, "width": width, "dropout": self.dropout}

  def to_dict(self) -> dict[str, Any]:
    """Nested plain values, for JSON."""
    return dataclasses.asdict(self)

  def window(self) -> dict[str, int]:
    """The fields of `data` that a classifier is bound to."""
    return window_of(self.data)


WINDOW_FIELDS = ("num_frames", "frame_stride", "resolution", "channels")


def window_of(data: DataConfig) -> dict[str, int]:
  """The part of a data config that decides what a clip looks like to a classifier."""
  return {field: getattr(data, field) for field in WINDOW_FIELDS}


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Fields of two plain configs that differ and may not when a training continues: {dotted name: (old, new)}."""
  flat_old, flat_new = _flatten(old), _flatten(new)
  return {
    name: (flat_old.get(name), flat_new.get(name))
    for name in sorted(flat_old | flat_new)
    if flat_old.get(name) != flat_new.get(name) and name not in RESUME_OVERRIDABLE
  }


def _flatten(plain: Mapping[str, Any]) -> dict[str, Any]:
  flat = {}
  for name, value in plain.items():
    if isinstance(value, Mapping):
      flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
    else:
      flat[name] = value
  return flat
