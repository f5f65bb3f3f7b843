"""Settings of a classifier and its training."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError

NETWORK_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
  {
    # Munoz et al., Temporal Shift GAN for Large Scale Video Generation, appendix B.1.
    "r3d18": {"batch_size": 32, "learning_rate": 1e-3, "dropout": 0.6, "width": 64},
    # As r3d18, except for the dropout: Wang et al., Temporal Segment Networks, section 4.1 (RGB).
    "tsn": {"batch_size": 14, "learning_rate": 1e-2, "dropout": 0.8, "width": 64},
    # Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, sections 3.1 and 3.3.
    "c3d": {"batch_size": 30, "learning_rate": 3e-3, "dropout": 0.5, "width": 1},
  }
)
"""Networks that can be trained, by name, with published fields of `ClassifierConfig` and the batch size."""

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
"""Input range of classifiers that start from random weights: RGB in [-1, 1]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
  """A classifier, its optimizer and its schedule.

  The schedule follows Munoz et al., Temporal Shift GAN for Large Scale Video Generation, appendix B.1: the learning
  rate falls to a tenth when the best test accuracy has not improved for four epochs. Settings that they do not specify
  are marked [choice].

  Attributes:
    num_classes: number of classes of the data set.
    network: architecture: 'r3d18', 'tsn' or 'c3d'.
    width: number of channels of the first block; for 'c3d' a multiple of all channels.
    dropout: dropout probability before the last layer, in [0, 1).
    segments: number of segments of 'tsn', of each of which it sees one frame; 0 for its default, 3.
    stem: stem of 'r3d18', 'torchvision' or 'hara'; '' for its default, 'torchvision'.
    init: hash of the weights that the training starts from; '' for random ones.
    mean: mean by RGB channel, in [0, 1], that is subtracted from the input.
    std: deviation by channel, by which the input is divided.
    learning_rate: initial learning rate.
    optimizer: 'sgd' with momentum 0.9, as in the networks' own papers, or 'adam' [choice].
    weight_decay: decay of kernels, not of biases and norms; 5e-4 as in the released settings of Wang et al., Temporal
      Segment Networks [choice]. With SGD it is part of the gradient, with Adam it is decoupled.
    steps_per_epoch: number of train steps between two tests.
    patience: number of epochs without a better test accuracy after which the learning rate falls.
    max_reductions: number of such plateaus that end the training; with 3 the last epochs run at a hundredth of the
      learning rate [choice].
    test_data: name of the data set whose `evaluation.split` measures the test accuracy; '' for the training data set.
    test_resize: `DataConfig.resize` of `test_data`.
    test_resize_to: `DataConfig.resize_to` of `test_data`.
    test_windows: number of windows of each test clip, evenly spread, whose probabilities are averaged; 1 is the centre.
  """

  num_classes: int
  network: str = "r3d18"
  width: float = 64
  dropout: float = 0.6
  segments: int = 0
  stem: str = ""
  init: str = ""
  mean: tuple[float, ...] = MEAN
  std: tuple[float, ...] = STD
  learning_rate: float = 1e-3
  optimizer: Literal["sgd", "adam"] = "sgd"
  weight_decay: float = 5e-4
  steps_per_epoch: int = 1
  patience: int = 4
  max_reductions: int = 3
  test_data: str = ""
  test_resize: str = "smallest_side"
  test_resize_to: int = 0
  test_windows: int = 1

  def __post_init__(self) -> None:
    # Flags check the other ranges.
    if self.network not in NETWORK_DEFAULTS:
      raise UserError(f"--network must be one of {', '.join(NETWORK_DEFAULTS)}, got {self.network!r}")
    for field in ("learning_rate", "width"):
      if not getattr(self, field) > 0:
        raise UserError(f"--{field} must be above 0, got {getattr(self, field)}")
    if self.network != "c3d" and self.width != int(self.width):
      raise UserError(f"--width of {self.network} must be a whole number, got {self.width}")
    for field, owner in (("segments", "tsn"), ("stem", "r3d18")):
      if getattr(self, field) and self.network != owner:
        raise UserError(f"--{field} applies to {owner}, not to {self.network}; leave it out")
    if not 0 <= self.dropout < 1:
      raise UserError(f"--dropout must be in [0, 1), got {self.dropout}")

  @property
  def settings(self) -> dict[str, Any]:
    """Constructor arguments of the network."""
    width = int(self.width) if float(self.width).is_integer() else self.width
    others = {field: value for field in ("segments", "stem") if (value := getattr(self, field))}
    return {"num_classes": self.num_classes, "width": width, "dropout": self.dropout, **others}


def window_of(data: DataConfig) -> dict[str, int]:
  """The fields of a data config that determine the shape and speed of the input of a classifier."""
  return {field: getattr(data, field) for field in ("num_frames", "frame_stride", "resolution", "channels")}
