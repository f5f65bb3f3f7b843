"""Running an exported generator. Needs jax and numpy (and flatbuffers, with which jax reads the program), nothing else.

An export is a folder:

- `generator.jaxexport`: the compiled function's program for CPU, CUDA and TPU, for any batch size;
- `weights.npz`: its weights, the standing batch statistics included, by flat name;
- `signature.json`: what goes in and comes out, and where the weights came from;
- `config.json`: the run's config;
- `README.md`: how to use it without this package.
"""

import functools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from vidgen_jax.errors import UserError

PROGRAM_FILE = "generator.jaxexport"
WEIGHTS_FILE = "weights.npz"
SIGNATURE_FILE = "signature.json"
CONFIG_FILE = "config.json"
README_FILE = "README.md"

FORMAT = 2
"""Of the folder; a folder of another format is refused."""


@dataclass(frozen=True)
class ExportedGenerator:
  """A generator that was read from an export."""

  signature: Mapping[str, Any]
  """Content of `signature.json`."""
  weights: Mapping[str, jax.Array]
  """By flat name, on the default device."""
  program: jax_export.Exported
  """(weights, given, latent, label) -> whole clips."""

  @property
  def conditioning_indices(self) -> tuple[int, ...]:
    """0-based indices in the clip of the frames that must be given; () for none."""
    return tuple(self.signature["conditioning_indices"])

  @property
  def num_frames(self) -> int:
    """Length of a whole clip, the conditioning frames included. It cannot be changed: see `vidgen export --num_frames`."""
    return self.signature["num_frames"]

  @property
  def latent_features(self) -> int:
    """D, the width of a latent."""
    return self.signature["inputs"]["latent"]["shape"][-1]

  @property
  def class_names(self) -> tuple[str, ...]:
    """Of the labels; empty for a model without classes."""
    return tuple(self.signature["class_names"])

  def __call__(self, conditioning: np.ndarray, latent: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Makes clips.

    Args:
      given: uint8 [B, G, H, W, C], the frames that `conditioning_indices` names, in that order.
      latent: float32 [B, D], standard normal.
      label: int32 [B]; zeros for a model without classes.

    Returns:
      Whole clips, uint8 [B, num_frames, H, W, C], the conditioning frames in their places.

    Raises:
      ValueError: naming the argument whose shape, dtype or label is not the signature's.
    """
    arguments = {"conditioning": conditioning, "latent": latent, "label": label}
    for name, value in arguments.items():
      self._check(name, value, batch=len(conditioning))
    return np.asarray(self._compiled(dict(self.weights), conditioning, latent, label))

  @functools.cached_property
  def _compiled(self) -> Callable[..., jax.Array]:
    return jax.jit(self.program.call)

  def _check(self, name: str, value: np.ndarray, *, batch: int) -> None:
    expected = self.signature["inputs"][name]
    shape = (batch, *expected["shape"][1:])
    if value.shape != shape or str(value.dtype) != expected["dtype"]:
      raise ValueError(f"{name} must be {expected['dtype']} {list(shape)}, got {value.dtype} {list(value.shape)}")
    # An unknown class would give black frames without a word.
    if name == "label" and batch and (value.min() < 0 or value.max() > expected["range"][1]):
      raise ValueError(f"label must lie in {expected['range']}, got {value.min()} to {value.max()}")


def load_export(folder: str | os.PathLike[str]) -> ExportedGenerator:
  """Reads an export.

  Args:
    folder: written by `vidgen export`.

  Raises:
    UserError: if it is no export or one of another format, a file of it is missing or damaged, or this platform is not
      among its own.
  """
  folder = Path(folder)
  signature = _read_json(folder / SIGNATURE_FILE)
  found = signature.get("format", 0)
  if found != FORMAT:
    remedy = "update vidgen_jax" if found > FORMAT else "export the run again with --overwrite"
    raise UserError(f"export {folder} has format {found}, this version reads {FORMAT}; {remedy}")
  platform = jax.default_backend()
  # Backends call CUDA and ROCm 'gpu', exported programs tell them apart.
  if {"gpu": "cuda"}.get(platform, platform) not in signature["platforms"]:
    raise UserError(f"export {folder} runs on {', '.join(signature['platforms'])}, not on {platform}")
  try:
    program = jax_export.deserialize(bytearray((folder / PROGRAM_FILE).read_bytes()))
    with (folder / WEIGHTS_FILE).open("rb") as file, np.load(file) as stored:
      weights = {name: jax.numpy.asarray(stored[name]) for name in stored.files}
  except ImportError as error:
    raise UserError(
      f"reading {folder / PROGRAM_FILE} needs the package flatbuffers: pip install flatbuffers"
    ) from error
  except (OSError, zipfile.BadZipFile) as error:
    raise UserError(f"export {folder} is damaged: {_one_line(error)}; export again with --overwrite") from error
  except Exception as error:
    # Flatbuffers, jax and numpy raise many kinds on damaged bytes.
    reason = _one_line(error)
    raise UserError(f"export {folder} cannot be read by jax {jax.__version__}: {reason}; export again") from error
  return ExportedGenerator(signature=signature, weights=weights, program=program)


def load_config_json(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """The plain config of the run that was exported.

  Raises:
    UserError: if it is missing or damaged.
  """
  return _read_json(Path(folder) / CONFIG_FILE)


def _read_json(path: Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise UserError(f"{path.parent} is no export: it has no {path.name}; make one with `vidgen export`") from error
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read: {_one_line(error)}; export again with --overwrite") from error


def _one_line(error: Exception) -> str:
  return (" ".join(str(error).split()) or type(error).__name__)[:300]
