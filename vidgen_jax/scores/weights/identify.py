"""What a file is that is not one of our weight files: for messages to users who give it to a command."""

import contextlib
from pathlib import Path

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.arrays import read_arrays
from vidgen_jax.scores.weights.layouts import detect_naming
from vidgen_jax.scores.weights.sources import source_of_file

_MAX_BYTES = 1 << 30  # larger files are not read for a message


def how_to_import(path: Path) -> str:
  """The command that imports an existing file or checkpoint, with the network if the file can be read."""
  out = path.with_suffix(".safetensors") if path.is_file() else Path(f"{path.name}.safetensors")
  if out == path:
    out = path.with_name(f"{path.stem}_imported.safetensors")
  network, description = _describe(path)
  is_what = f"holds {description}" if description else "was not imported"
  unknown = "; `vidgen weights list` shows the networks" if network == "NETWORK" else ""
  return f"{path} {is_what}; run `vidgen weights import --network={network} --from={path} --out={out}`{unknown}"


def _describe(path: Path) -> tuple[str, str]:
  """The network of a file and what the file is, in words; ('NETWORK', '') if it cannot be read."""
  if not path.is_file() or path.suffix == ".index":
    # Reading it would load TensorFlow, which takes seconds; I3D is the only network with checkpoints.
    found = path.is_file() or not path.is_dir() or [*path.glob("*.index"), *path.glob("variables/*.index")]
    return ("i3d", "a TensorFlow checkpoint") if found else ("NETWORK", "")
  if path.stat().st_size <= _MAX_BYTES:
    with contextlib.suppress(UserError):
      source = read_arrays(path)
      if published := source_of_file(source.git_blob_sha1):
        return published.network, f"{published.files[-1].name} of {published.page}"
      if naming := detect_naming(source):
        return naming.network, f"{naming.network} of {naming.origin}"
  return "NETWORK", ""
