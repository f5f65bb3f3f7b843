"""A clock that advances only when a test says so. Loaded as a plugin."""

import time

import pytest


class FakeClock:
  """Replaces `time.perf_counter`; `now` is in seconds."""

  def __init__(self) -> None:
    self.now = 0.0

  def __call__(self) -> float:
    return self.now


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
  fake = FakeClock()
  monkeypatch.setattr(time, "perf_counter", fake)
  return fake
