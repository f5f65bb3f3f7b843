"""SIGTERM and SIGINT during training."""

import os
import signal
from types import FrameType
from typing import Any

import jax

PREEMPTED_EXIT_CODE = os.EX_TEMPFAIL
"""Exit status (75) of a run that was stopped before its last step and whose state is saved.

The scripts in launch/ restart the same command on this status and on no other.
"""


class StopSignals:
  """A context in which SIGTERM and SIGINT are recorded instead of ending the process; a second SIGINT interrupts.

  In a job of several processes it records nothing: JAX handles SIGTERM there and lets the processes agree on a step
  (see `Checkpointer.preempted`).
  """

  SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __init__(self) -> None:
    self._previous: dict[int, Any] = {}
    self.received: signal.Signals | None = None
    """First received signal; None if there was none."""

  def __enter__(self) -> "StopSignals":
    handled = self.SIGNALS if jax.process_count() == 1 else ()
    self._previous = {number: signal.signal(number, self._record) for number in handled}
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _record(self, number: int, frame: FrameType | None) -> None:
    del frame
    if self.received is not None and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.received = self.received or signal.Signals(number)
