"""What a score needs to be repeated, apart from its protocol: versions, device, command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import jax
import numpy as np
import PIL

import vidgen_jax


def versions() -> dict[str, str]:
  """Versions of the package and of the libraries that decode and compute."""
  return {
    "vidgen_jax": vidgen_jax.__version__,
    "jax": jax.__version__,
    "numpy": np.__version__,
    "pillow": PIL.__version__,
    "av": av.__version__,
    "ffmpeg": av.ffmpeg_version_info,
  }


def recorded_inputs(sets: Mapping[str, Mapping[str, Any]], *, command: Sequence[str] = ()) -> dict[str, Any]:
  """The field `Score.inputs`.

  Args:
    sets: facts about the sets of clips, by name.
    command: words of a command that computes the score again, without `vidgen`; none if no single command does.
  """
  place = {"command": list(command), "folder": str(Path.cwd())} if command else {}
  return {**place, **sets, "device": jax.devices()[0].device_kind, "versions": versions()}


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any], *, prefix: str = "") -> list[str]:
  """'name: recorded -> found' for each entry of nested dictionaries that differs."""
  lines = []
  for name in dict.fromkeys([*recorded, *found]):
    old, new = recorded.get(name), found.get(name)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
      lines += differences(old, new, prefix=f"{prefix}{name}.")
    elif old != new:
      lines.append(f"{prefix}{name}: {old!r} -> {new!r}")
  return lines
