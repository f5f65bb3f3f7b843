"""Which errors show that another process of the job exited."""

import jax
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.parallel.processes import all_processes, broadcast_from_process_0, peer_failure


def _caused(error: Exception, cause: Exception) -> Exception:
  error.__cause__ = cause
  return error


@pytest.mark.parametrize(
  ("error", "expected"),
  [
    (jax.errors.JaxRuntimeError("UNAVAILABLE: connection"), "UNAVAILABLE: connection"),
    (ValueError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"), "Gloo AllGather"),
    (_caused(TimeoutError("Timed out"), jax.errors.JaxRuntimeError("ABORTED: a task died")), "ABORTED"),
    (_caused(UserError("x"), _caused(OSError("y"), ValueError("Gloo AllReduce failed"))), "Gloo AllReduce"),
    (ValueError("OUT_OF_RANGE: Error writing: File too large"), None),
    (TimeoutError("Timed out"), None),
    (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory on HBM"), None),
    (_caused(UserError("x"), OSError(28, "No space left on device")), None),
    (None, None),
  ],
)
def test_a_peer_failure_is_found_in_the_chain_of_causes(error, expected):
  found = peer_failure(error)
  assert (found is None) if expected is None else (expected in str(found))


def test_a_single_process_needs_no_communication():
  assert all_processes(True)
  assert not all_processes(False)
  assert broadcast_from_process_0({"steps": [1, 2]}) == {"steps": [1, 2]}
