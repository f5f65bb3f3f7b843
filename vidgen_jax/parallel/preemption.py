"""Noticing that the process was asked to stop."""

import os
import signal
from types import FrameType

import jax

PREEMPTED_EXIT_CODE = os.EX_TEMPFAIL
"""Exit status of a run that the platform stopped before its last step: its state is saved, start it again.

75. The scripts in launch/ start the same command again on this status and on no other.
"""


class StopSignals:
  """While in use, SIGTERM and SIGINT are noted instead of ending the process; a second SIGINT interrupts at once.

  In a job of several processes nothing is noted here: JAX has taken SIGTERM over when they joined, and lets them agree
  upon a step (see `Checkpointer.preempted`).
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self) -> None:
    """Notes nothing until it is entered."""
    self._previous: dict[int, object] = {}
    self.received: signal.Signals | None = None
    """The first signal that came; None so far."""

  def __enter__(self) -> "StopSignals":
    """Takes the signals over."""
    taken = self.SIGNALS if jax.process_count() == 1 else ()
    self._previous = {number: signal.signal(number, self._note) for number in taken}
    return self

  def __exit__(self, *unused: object) -> None:
    """Gives the signals back."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    if self.received is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.received = self.received or signal.Signals(number)
