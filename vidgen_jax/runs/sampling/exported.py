"""Running an exported generator. Needs only jax, numpy, and flatbuffers, with which jax reads the program.

An export is a folder:

- `generator.jaxexport`: the compiled function for CPU, CUDA and TPU and any batch size;
- `weights.npz`: the weights and the standing batch statistics, by flat name;
- `signature.json`: inputs, outputs, and the origin of the weights;
- `config.json`: config of the run;
- `README.md`: how to use the export without this package.
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

FORMAT = 3
"""Version of the folder's layout."""


@dataclass(frozen=True)
class ExportedGenerator:
  """A generator read from an export.

  Attributes:
    signature: content of `SIGNATURE_FILE`.
    weights: weights by flat name, on the default device.
    program: (weights, conditioning, latent, label) -> whole clips.
  """

  signature: Mapping[str, Any]
  weights: Mapping[str, jax.Array]
  program: jax_export.Exported

  def __call__(self, conditioning: np.ndarray, latent: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Generates clips.

    Args:
      conditioning: uint8 [B, G, H, W, C], the frames of the signature's `conditioning_indices`, in that order.
      latent: float32 [B, D], standard normal.
      label: int32 [B]; zeros for a model without classes.

    Returns:
      Whole clips, uint8 [B, num_frames, H, W, C], conditioning frames included.

    Raises:
      ValueError: shape, dtype or label of an argument differs from the signature.
    """
    first, last = self.signature["inputs"]["label"]["range"]
    # For an unknown class the program returns black frames without an error.
    if not ((first <= label) & (label <= last)).all():
      raise ValueError(f"label must be in {[first, last]}, got {label.min()} to {label.max()}")
    return np.asarray(self._compiled(dict(self.weights), conditioning, latent, label))

  @functools.cached_property
  def _compiled(self) -> Callable[..., jax.Array]:
    return jax.jit(self.program.call)


def load_export(folder: str | os.PathLike[str]) -> ExportedGenerator:
  """Reads a folder written by `vidgen export`; UserError if it is not one, or has another format or platforms."""
  folder = Path(folder)
  signature = read_json(folder, SIGNATURE_FILE)
  found = signature.get("format", 0)
  if found != FORMAT:
    remedy = "update vidgen_jax" if found > FORMAT else "export the run again with --overwrite"
    raise UserError(f"export {folder} has format {found}, this version reads {FORMAT}; {remedy}")
  platform = jax.default_backend()
  # JAX calls both CUDA and ROCm backends 'gpu'; exported programs distinguish them.
  if {"gpu": "cuda"}.get(platform, platform) not in signature["platforms"]:
    raise UserError(f"export {folder} runs on {', '.join(signature['platforms'])}, not on {platform}")
  try:
    program = jax_export.deserialize(bytearray((folder / PROGRAM_FILE).read_bytes()))
    with (folder / WEIGHTS_FILE).open("rb") as file, np.load(file) as stored:
      weights = {name: jax.numpy.asarray(stored[name]) for name in stored.files}
  except ImportError as error:
    raise UserError(f"reading {folder / PROGRAM_FILE} needs flatbuffers: pip install flatbuffers") from error
  except (OSError, zipfile.BadZipFile) as error:
    raise UserError(f"export {folder} is damaged: {_one_line(error)}; export again with --overwrite") from error
  except Exception as error:  # Flatbuffers, jax and numpy raise many types of exceptions on damaged bytes.
    reason = _one_line(error)
    raise UserError(f"export {folder} cannot be read by jax {jax.__version__}: {reason}; export again") from error
  return ExportedGenerator(signature=signature, weights=weights, program=program)


def read_json(folder: str | os.PathLike[str], name: str) -> dict[str, Any]:
  """The content of `SIGNATURE_FILE` or `CONFIG_FILE` of an export; UserError if it is missing or damaged."""
  path = Path(folder) / name
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise UserError(f"{path.parent} is not an export, {path.name} is missing; make one with `vidgen export`") from error
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read: {_one_line(error)}; export again with --overwrite") from error


def _one_line(error: Exception) -> str:
  return (" ".join(str(error).split()) or type(error).__name__)[:300]
