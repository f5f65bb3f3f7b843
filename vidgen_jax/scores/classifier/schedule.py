"""When the learning rate falls, and when training ends."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plateau:
  """The test accuracies so far, as far as the schedule remembers them.

  Attributes:
    epoch: completed epochs.
    best_accuracy: the highest test accuracy, in [0, 1]; -1 before the first epoch.
    best_epoch: the first epoch that reached it; 0 before the first epoch.
    stale: epochs since then, or since the last reduction, without a higher one.
    reductions: plateaus that were met.
  """

  epoch: int = 0
  best_accuracy: float = -1.0
  best_epoch: int = 0
  stale: int = 0
  reductions: int = 0

  def after(self, accuracy: float, *, patience: int) -> "Plateau":
    """The state after one more epoch.

    Args:
      accuracy: test accuracy of the epoch, in [0, 1].
      patience: epochs without a better one that make a plateau; the count then begins anew.
    """
    epoch = self.epoch + 1
    if accuracy > self.best_accuracy:
      return dataclasses.replace(self, epoch=epoch, best_accuracy=accuracy, best_epoch=epoch, stale=0)
    if self.stale + 1 < patience:
      return dataclasses.replace(self, epoch=epoch, stale=self.stale + 1)
    return dataclasses.replace(self, epoch=epoch, stale=0, reductions=self.reductions + 1)

  def learning_rate(self, initial: float) -> float:
    """`initial`, divided by ten for each reduction."""
    return initial / 10**self.reductions

  def ended(self, *, epochs: int, max_reductions: int) -> bool:
    """Whether all epochs are done, or `max_reductions` plateaus were met."""
    return self.epoch >= epochs or self.reductions >= max_reductions

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON; `Plateau(**values)` is the way back."""
    return dataclasses.asdict(self)
