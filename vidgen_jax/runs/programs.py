"""Compiled programs on disk, so that a repeated start neither traces nor lowers them.

JAX's compilation cache finds a program by a hash of its lowered form, so a start that uses it still traces and lowers.
This module finds a program by everything that its trace depends on: the folder `programs` of JAX's cache contains a
link from a hash of these inputs to the program. After a change of the source that does not change the lowered form only
the link is missing. All other programs remain in JAX's cache.
"""

import collections
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import re
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import serialize_executable

import vidgen_jax
from vidgen_jax.buckets import AnyPath, user_path
from vidgen_jax.errors import UserError
from vidgen_jax.files import atomic_write

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
_STARTED = time.time()
"""Source that changed later, or shortly before, may not be the imported one, so its hash would name a stale program."""
_CACHE_HITS: collections.Counter[int] = collections.Counter()
"""Programs found in JAX's cache, by thread."""


def load_or_compile(
  name: str, inputs: str, lower: Callable[[], jax.stages.Lowered], mesh: jax.sharding.Mesh
) -> jax.stages.Compiled:
  """The stored program, or the newly compiled one, which is then stored.

  Nothing is stored without a compilation cache, on accelerators, and in a job of several processes. A file that is
  damaged or cannot be read is replaced, and one that cannot be written is a warning. `name` is part of the file's name,
  another one for other compiler options; `inputs` is text that determines the program, in addition to the package's
  source, versions, JAX's options and devices; `lower` traces and lowers it.
  """
  start, root = time.monotonic(), folder()
  devices = list(mesh.devices.flat)
  program = link = target = None
  if root is not None:
    environment = repr((_environment(), mesh, devices))
    link = root / f"{name}-{_digest(inputs, _source(), environment)}.link"
    target = root / (_read(link) or b"missing").decode(errors="replace")
    program = _load(target, devices)
  done = "loaded"
  if program is None:
    lowered = lower()
    if root is not None and link is not None:
      target = root / f"{name}-{_digest(lowered.as_text(), str(lowered.in_tree), str(lowered.out_tree), environment)}"
      program = _load(target, devices)
      _write(link, target.name.encode())
    if program is None:
      program, done = _compile(lowered, target), "compiled"
  logging.info("%s the program %s in %.1f s", done, name, time.monotonic() - start)
  return program


def _compile(lowered: jax.stages.Lowered, path: AnyPath | None) -> jax.stages.Compiled:
  """Compiles a program, and stores it in a file unless that is impossible, or `path` is None."""
  _count_cache_hits()
  known = _CACHE_HITS[threading.get_ident()]
  program = lowered.compile()
  # jaxlib 0.10.2 for CPUs loses functions of a program that it has loaded and serialises again.
  if path is None or _CACHE_HITS[threading.get_ident()] > known:
    return program
  # Only XLA's own functions, and LAPACK's, are known to be registered where nothing is lowered.
  calls = set(re.findall(r'custom_call_target="([^"]*)"', program.as_text() or ""))
  if foreign := [name for name in calls if not name.startswith(("__", "lapack_"))]:
    logging.info("the program is not stored: it calls %s", ", ".join(foreign))
  else:
    _write(path, zlib.compress(pickle.dumps(serialize_executable.serialize(program)), level=1))
  return program


def folder() -> AnyPath | None:
  """The folder of the stored programs; None if nothing is stored."""
  parent = jax.config.values["jax_compilation_cache_dir"]
  enabled = parent and jax.config.values["jax_enable_compilation_cache"]
  # Not tested on accelerators, whose programs call functions that are registered elsewhere.
  if not enabled or jax.process_count() > 1 or jax.default_backend() != "cpu":
    return None
  newest = max(file.stat().st_mtime for file in _source_files())
  if newest > _STARTED - 10:
    logging.info("compiled programs are not stored: the package changed shortly before or after this start")
    return None
  try:
    return user_path(parent) / "programs"
  except UserError as error:
    logging.warning("compiled programs are not stored: %s", error)
    return None


def _digest(*texts: str) -> str:
  return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _source_files() -> list[Path]:
  return sorted(Path(vidgen_jax.__file__).parent.rglob("*.py"))


@functools.cache
def _source() -> str:
  root = Path(vidgen_jax.__file__).parent
  return _digest(*(f"{file.relative_to(root)}\0{file.read_text(encoding='utf-8')}" for file in _source_files()))


def _environment() -> str:
  """Everything outside the experiment that changes a program, as text."""
  # Where programs are cached does not change them.
  options = {name: value for name, value in jax.config.values.items() if "cache" not in name}
  flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
  # XLA_FLAGS may also be the name of a file with flags.
  flags += [Path(name).read_text(encoding="utf-8") for name in flags[:1] if name[:1] != "-" and Path(name).is_file()]
  versions = [platform.python_version(), *map(importlib.metadata.version, _PACKAGES)]
  # A CPU of another type may lack instructions that the program uses.
  cpu = Path("/proc/cpuinfo")
  lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
  machine = [platform.machine(), *sorted({line for line in lines if line.startswith(("flags", "Features"))})]
  return repr((sorted(options.items()), flags, versions, machine))


def _load(path: AnyPath, devices: list[jax.Device]) -> Any:
  """The program in a file; None if the file is missing or, with a warning, damaged."""
  if (packed := _read(path)) is None:
    return None
  try:
    _register_lapack()
    # Trusted like JAX's cache, in whose folder the file is: both contain machine code.
    program, in_tree, out_tree = pickle.loads(zlib.decompress(packed))  # noqa: S301
    return serialize_executable.deserialize_and_load(program, in_tree, out_tree, execution_devices=devices)
  except Exception as error:  # noqa: BLE001 - pickle and XLA raise many kinds
    logging.warning("the stored program %s cannot be loaded and is compiled again: %s", path, _first_line(error))
    return None


def _read(path: AnyPath) -> bytes | None:
  """The content of a file that `_write` wrote; None if the file is missing or, with a warning, damaged."""
  try:
    if not path.exists():
      return None
    digest, content = path.read_bytes().split(b"\n", 1)
    if hashlib.sha256(content).hexdigest().encode() == digest:
      return content
    raise ValueError("its checksum differs")
  except Exception as error:  # noqa: BLE001 - clients of buckets raise many kinds
    logging.warning("%s cannot be read and is written again: %s", path, _first_line(error))
    return None


def _write(path: AnyPath, content: bytes) -> None:
  try:
    with atomic_write(path) as temporary:
      temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
  except Exception as error:  # noqa: BLE001 - a run does not need the file
    logging.warning("%s cannot be written, the next start compiles again: %s", path, _first_line(error))


@functools.cache
def _register_lapack() -> None:
  # JAX registers LAPACK for CPUs when it lowers such an operation; a call without it is a segmentation fault.
  jax.jit(jax.numpy.linalg.qr).lower(jax.ShapeDtypeStruct((1, 1), "float32"))


def _first_line(error: Exception) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


@functools.cache
def _count_cache_hits() -> None:
  def count(event: str, **_unused: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
      _CACHE_HITS[threading.get_ident()] += 1

  jax.monitoring.register_event_listener(count)
