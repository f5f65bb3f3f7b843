"""Types of the GANs' configs, and what these configs share. Imports no JAX, so that mistakes are reported at once."""

import importlib
import math
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidgen_jax.errors import UserError

REGISTERED: dict[str, type] = {}
"""Types that `gans.base.register` has added."""

FROM_DATA = "data"
"""Value of `algorithm.num_classes` in an experiment file: the number of classes of the data set."""


def class_count(*, template: int | str = 1) -> Any:
  """A dataclass field for a number of classes, 1 by default, which an experiment file may set to `FROM_DATA`.

  `template` is its value in the experiment file's template.
  """
  return field(default=1, metadata={FROM_DATA: template})


def config_type(name: str) -> type:
  """The type of a GAN's settings; UserError for an unknown GAN.

  The folder `gans/NAME` is not registered until its networks are imported; its `config.py` defines one class,
  `...Config`.
  """
  if name in REGISTERED:
    return REGISTERED[name]
  folders = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg]
  if name not in folders:
    raise UserError(f"config.algorithm_name={name!r} must be one of {', '.join(sorted({*folders, *REGISTERED}))}")
  module = importlib.import_module(f"vidgen_jax.gans.{name}.config")
  types = (value for value in vars(module).values() if isinstance(value, type))
  (found,) = (found for found in types if found.__module__ == module.__name__)
  return found


def check_positive(config: Any, *names: str) -> None:
  """Checks that the named fields are positive, finite numbers or tuples of them, not empty."""
  for name in names:
    value = getattr(config, name)
    if not value or not 0 < min(value if isinstance(value, tuple) else (value,)) < math.inf:
      raise UserError(f"algorithm.{name}={value} must be positive")


def check_not_negative(config: Any, *names: str) -> None:
  """Checks that the named fields are finite and not negative."""
  for name in names:
    if not 0 <= getattr(config, name) < math.inf:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class View:
  """The input of one discriminator.

  Attributes:
    net: name of the discriminator.
    on: 'frames' for randomly drawn frames, scored one by one; 'video' for whole clips.
    spatial: 'full', 'downsampled' (average pooling) or 'cropped' (a random window); the latter two by the factor s.
  """

  net: str
  on: Literal["frames", "video"]
  spatial: Literal["full", "downsampled", "cropped"]

  @property
  def abbreviation(self) -> str:
    """Symbol in Table 1: F for frames, dF for downsampled frames; clV, dV, crV for full, downsampled, cropped video."""
    kind = {"full": "" if self.on == "frames" else "cl", "downsampled": "d", "cropped": "cr"}[self.spatial]
    return f"{kind}{'F' if self.on == 'frames' else 'V'}"

  def pixels(self, clip: tuple[int, int, int], *, num_frames: int, factor: int) -> int:
    """Pixels per clip (T, H, W) in this view: K x H x W for full frames, T x H/s x W/s for a downsampled video.

    `num_frames` is K, the number of frames drawn; `factor` is s, the divisor in downsampled and cropped views.
    """
    frames, height, width = clip
    divisor = 1 if self.spatial == "full" else factor
    return (num_frames if self.on == "frames" else frames) * (height // divisor) * (width // divisor)
