"""Stored programs: used by a second start, never stale, and harmless if damaged."""

import collections
import os
import pickle
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.bench.compilation import own_compilation_cache
from vidgen_jax.parallel.mesh import MeshConfig, batch_sharding, make_mesh
from vidgen_jax.runs import experiment as experiments
from vidgen_jax.runs import programs

pytest_plugins = ["tests.tiny_experiment", "tests.fake_storage"]

TRACE, COMPILE = (f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "backend_compile"))


@pytest.fixture
def folder(stored_programs_folder, monkeypatch):
  """The folder of the stored programs, in a compilation cache of the test's own."""
  monkeypatch.setattr(programs, "folder", stored_programs_folder)
  with own_compilation_cache() as cache:
    yield cache / "programs"


@pytest.fixture(scope="module")
def event_counter():
  events: collections.Counter[str] = collections.Counter()
  jax.monitoring.register_event_duration_secs_listener(lambda *values, **unused: events.update([values[0]]))
  return events


@pytest.fixture
def events(event_counter):
  """Counts of JAX's events by name."""
  event_counter.clear()
  return event_counter


def _program(inputs: str = "", *, factor: float = 2.0):
  """A program that multiplies by `factor`, and whether it was lowered."""
  lowered = []

  def lower():
    lowered.append(True)
    return jax.jit(lambda x: {"product": factor * x}).lower(jnp.zeros(3))

  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  return programs.load_or_compile("product", inputs, lower, mesh), bool(lowered)


def _check(program, factor: float = 2.0) -> None:
  np.testing.assert_array_equal(program(jnp.array([1.0, 2.0, 3.0]))["product"], factor * np.array([1.0, 2.0, 3.0]))


def _first_step(experiment):
  state = experiment.init_state()
  batch = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in experiment.batch_shape().items()}
  batch = experiment.put_batch(batch, microbatches=True)
  return experiment.compile_step("main")(state, batch, experiment.step_constants(0, "main"))


def test_a_second_start_neither_traces_nor_compiles_and_trains_bitwise_equally(folder, tiny, events):
  first = jax.tree.map(np.asarray, _first_step(tiny())[1])
  assert {path.name.rpartition("-")[0] for path in folder.iterdir()} == {"init", "train_step_main_quick"}
  again = tiny()
  _ = again.abstract_state  # Traces the initialisation for its shapes.
  jax.device_get(jax.random.key_data(jax.random.key(0)))
  programs._register_lapack()  # Traces a small program, once in a process.
  events.clear()
  state, metrics = _first_step(again)
  assert events[COMPILE] == events[TRACE] == 0
  assert jax.tree.structure(state) == jax.tree.structure(again.abstract_state)
  assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, again.abstract_state)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(metrics), first)
  other = tiny(algorithm__orthogonal_penalty=0.5)
  _ = other.compile_step("main")
  assert events[COMPILE] == 1


@pytest.mark.parametrize("changed", ["source", "version", "XLA_FLAGS", "option", "inputs", "nothing"])
def test_a_program_is_used_only_where_nothing_has_changed(changed, folder, monkeypatch):
  assert _program()[1]
  if changed == "source":
    monkeypatch.setattr(programs, "_source", lambda: "other")
  elif changed == "version":
    monkeypatch.setattr(programs.importlib.metadata, "version", lambda name: "0.0")
  elif changed == "XLA_FLAGS":
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp")
  elif changed == "option":
    jax.config.update("jax_default_matmul_precision", "float32")
  try:
    program, compiled = _program("other" if changed == "inputs" else "")
  finally:
    jax.config.update("jax_default_matmul_precision", None)
  assert compiled == (changed != "nothing")
  _check(program)


def test_quick_and_full_compilation_have_their_own_programs(folder, tiny):
  sizes = []
  for quick in (True, False, True):
    program = tiny(step__quick_compilation=quick).compile_step("main")
    sizes.append(program.as_text().count("fusion("))
  assert len(list(folder.glob("train_step_main-*.link"))) == len(list(folder.glob("train_step_main_quick-*.link"))) == 1
  targets = {path.read_bytes() for path in folder.glob("*.link")}
  assert len(targets) == 2
  assert sizes[0] == sizes[2]


def test_nothing_is_stored_while_the_source_changes(monkeypatch, stored_programs_folder):
  with own_compilation_cache():
    assert stored_programs_folder() is not None
    monkeypatch.setattr(programs, "_STARTED", 0.0)
    assert stored_programs_folder() is None


def test_an_unsupported_folder_is_a_warning(stored_programs_folder, caplog):
  with own_compilation_cache():
    jax.config.update("jax_compilation_cache_dir", "s3://bucket/x")
    assert stored_programs_folder() is None
  assert "not supported" in caplog.text


def test_every_file_of_the_package_counts(tmp_path, monkeypatch):
  (tmp_path / "ops").mkdir()
  (tmp_path / "__init__.py").touch()
  monkeypatch.setattr(programs.vidgen_jax, "__file__", str(tmp_path / "__init__.py"))
  digests = []
  for text in ("x = 1", "x = 2", "x = 1"):
    (tmp_path / "ops" / "loops.py").write_text(text)
    digests.append(programs._source.__wrapped__())
  assert digests[0] == digests[2] != digests[1]


def test_a_program_of_several_devices_is_loaded_for_these_devices(folder):
  devices = jax.devices()[1:3]
  mesh = make_mesh(MeshConfig(), devices=devices)
  x = jax.device_put(jnp.arange(8.0), batch_sharding(mesh, microbatches=False))

  def load():
    sums = jax.jit(lambda x: (2 * x, x.sum()), donate_argnums=0)
    return programs.load_or_compile("sums", "", lambda: sums.lower(x), mesh)

  load()
  program = load()
  doubled, total = program(x)
  np.testing.assert_array_equal(doubled, 2 * np.arange(8.0))
  assert (float(total), doubled.devices(), x.is_deleted()) == (28, set(devices), True)
  assert sorted(path.suffix for path in folder.iterdir()) == ["", ".link"]


def test_another_process_runs_a_stored_program_that_calls_lapack(tmp_path):
  script = """
    import jax, jax.numpy as jnp, sys
    from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
    from vidgen_jax.runs.programs import load_or_compile
    x = jnp.arange(9.0).reshape(3, 3) ** 2
    lowered = []
    def lower():
      lowered.append(True)
      return jax.jit(lambda x: jnp.linalg.qr(x)[1]).lower(x)
    program = load_or_compile("qr", "", lower, make_mesh(MeshConfig(), devices=jax.devices()[:1]))
    print(len(lowered), program(x).tolist())
  """
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
  command = [sys.executable, "-c", textwrap.dedent(script)]
  results = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
  (number, first), (number_again, second) = (result.stdout.split(" ", 1) for result in results)
  assert (number, number_again) == ("1", "0")
  assert first == second


def test_a_program_that_calls_a_function_of_unknown_origin_is_not_stored(folder, caplog):
  caplog.set_level("INFO")
  callback = jax.jit(lambda x: jax.pure_callback(lambda value: value, x, x))
  mesh = make_mesh(MeshConfig(), devices=jax.devices()[:1])
  programs.load_or_compile("callback", "", lambda: callback.lower(jnp.zeros(3)), mesh)
  assert "the program is not stored: it calls xla_ffi" in caplog.text
  assert not any(path.suffix != ".link" for path in folder.iterdir())


def test_another_source_with_the_same_program_only_needs_another_link(folder, monkeypatch, events):
  _program()
  monkeypatch.setattr(programs, "_source", lambda: "other")
  events.clear()
  program, lowered = _program()
  assert lowered
  assert events[COMPILE] == 0
  _check(program)
  assert not _program()[1]
  assert sorted(path.suffix for path in folder.iterdir()) == ["", ".link", ".link"]


def _damages(content: bytes) -> dict[str, bytes]:
  other = pickle.dumps("a word")
  return {
    "truncated": content[:-10],
    "one bit": content[:-10] + bytes([content[-10] ^ 1]) + content[-9:],
    "another kind": programs.hashlib.sha256(other).hexdigest().encode() + b"\n" + other,
    "empty": b"",
  }


@pytest.mark.parametrize("suffix", ["", ".link"])
@pytest.mark.parametrize("damage", ["truncated", "one bit", "another kind", "empty"])
def test_a_damaged_file_is_replaced(damage, suffix, folder, caplog):
  _program()
  (path,) = [path for path in folder.iterdir() if path.suffix == suffix]
  path.write_bytes(_damages(path.read_bytes())[damage])
  # A program from JAX's cache would not be stored.
  for file in folder.parent.glob("*-cache"):
    file.unlink()
  program, lowered = _program()
  assert lowered
  _check(program)
  # A link with a valid checksum to a program that does not exist is possible: its file was deleted.
  assert path.name in caplog.text or (damage, suffix) == ("another kind", ".link")
  program, lowered = _program()
  assert not lowered
  _check(program)


def test_a_program_from_the_cache_of_jax_is_not_stored(folder):
  _program()
  (path,) = [path for path in folder.iterdir() if not path.suffix]
  path.unlink()
  for _ in range(2):
    program, lowered = _program()
    assert lowered
    _check(program)
  assert not path.exists()


def test_a_folder_that_cannot_be_written_is_a_warning(folder, caplog):
  folder.write_text("a file")
  _check(_program()[0])
  assert "cannot be written, the next start compiles again" in caplog.text


def test_programs_and_the_cache_of_jax_can_be_in_a_bucket(storage, bucket, folder):
  # `folder` restores the options.
  jax.config.update("jax_compilation_cache_dir", f"{bucket}/run/cache")
  assert _program()[1]
  objects = storage.buckets[bucket.removeprefix("gs://")]
  kinds = {"programs" if "/programs/product-" in name else name.rpartition("-")[2] for name in objects}
  assert kinds == {"cache", "programs"}
  # Neither needs TensorFlow.
  assert {request.client for request in storage.requests if request.bucket == bucket.removeprefix("gs://")} == {"gcsfs"}
  program, compiled = _program()
  assert not compiled
  _check(program)


def test_jobs_of_several_processes_store_nothing(folder, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert programs.folder() is None
  _check(_program()[0])
  assert not folder.exists()


def test_programs_of_networks_outside_the_package_are_not_stored(folder, tiny, monkeypatch):
  experiment = tiny()
  unit = type("Unit", (), {"__module__": "mine"})
  monkeypatch.setitem(experiments.RECURRENT_UNITS, "mine", unit)
  monkeypatch.setattr(type(experiment), "step_fn", lambda self, phase: jax.jit(lambda *inputs: 0))
  experiment.compile_step("main")
  assert not folder.exists()
