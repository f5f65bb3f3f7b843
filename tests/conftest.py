"""Settings of all tests: eight CPU devices, strict array ranks, a cache of compiled programs, slow tests on request."""

import logging
import os
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
_DEVICES_FLAG = "--xla_force_host_platform_device_count"

# JAX reads all of these when it is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if _DEVICES_FLAG not in os.environ.get("XLA_FLAGS", ""):
  # Tests compile much and compute little: without LLVM's optimisations a train step compiles in half the time.
  _QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 12):
    # Halves the compile time again; jaxlib 0.12 does not have the option.
    _QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
  # Eight devices on a few busy cores may wait for each other; by default XLA ends the process after 40 seconds.
  _PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
  _FLAGS = f"{_DEVICES_FLAG}=8 {_QUICK_COMPILATION} {_PATIENCE}"
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import logging as absl_logging  # noqa: E402

# Some tests read its constants before another one loads it as a plugin.
pytest.register_assert_rewrite("tests.tiny_experiment")

jax.config.update("jax_numpy_rank_promotion", "raise")

_LOG_LEVELS = {logger: logger.level for logger in (logging.getLogger(), absl_logging.get_absl_logger())}


def pytest_addoption(parser: pytest.Parser) -> None:
  parser.addoption("--slow", action="store_true", help="also run the tests marked slow, as VIDGEN_SLOW=1 does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  if config.getoption("--slow") or os.environ.get("VIDGEN_SLOW") == "1":
    return
  slow = {item for item in items if item.get_closest_marker("slow")}
  if slow:
    config.hook.pytest_deselected(items=list(slow))
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def log_levels():
  """Resets the loggers' levels, which commands change, also those that fixtures of wider scope run.

  absl cannot: it reports its unset level as WARNING, and then sets that.
  """
  for logger, level in _LOG_LEVELS.items():
    logger.setLevel(level)
  yield
  for logger, level in _LOG_LEVELS.items():
    logger.setLevel(level)


@pytest.fixture(autouse=True, scope="session")
def stored_programs_folder():
  """Turns the store of programs off, because tests replace functions that programs contain; returns what does so."""
  from vidgen_jax.runs import programs

  folder = programs.folder
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(programs, "folder", lambda: None)
    yield folder


@pytest.fixture(autouse=True, scope="session")
def feature_cache_folder(tmp_path_factory):
  """Features of earlier test runs would hide changes."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("VIDGEN_CACHE", str(tmp_path_factory.mktemp("feature_cache")))
    yield


@pytest.fixture(scope="session")
def repository() -> Path:
  """The root of the checkout."""
  return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
  """The folder ../shared/data with real videos; tests that need it are skipped if it is missing."""
  folder = REPOSITORY.parent / "shared" / "data"
  if not folder.is_dir():
    pytest.skip("../shared/data, the folder of real videos, does not exist")
  return folder
