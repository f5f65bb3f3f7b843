"""Checks of settings and clip shapes that several GANs share; every failure is a UserError that names the field."""

import math
from collections.abc import Mapping
from typing import Any

from vidgen_jax.errors import UserError


def check_counts(config: Any, *names: str) -> None:
  """Checks that the named fields are at least 1."""
  for name in names:
    if getattr(config, name) < 1:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be at least 1")


def check_entries(config: Any, *names: str) -> None:
  """Checks that the named fields are tuples of positive, finite numbers, not empty."""
  for name in names:
    if not getattr(config, name) or not 0 < min(getattr(config, name)) < math.inf:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must hold positive numbers")


def check_weights(config: Any, *names: str) -> None:
  """Checks that the named fields are finite and not negative."""
  for name in names:
    if not 0 <= getattr(config, name) < math.inf:
      raise UserError(f"algorithm.{name}={getattr(config, name)} must be 0 or more")


def check_channels(config: Any, channels: int) -> None:
  """Checks that the clips have the model's number of channels."""
  if channels != config.channels:
    raise UserError(f"data.channels={channels} and algorithm.channels={config.channels} must be equal")


def check_resolution(config: Any, height: int, width: int, factors: Mapping[str, int]) -> None:
  """Checks that frames can be halved as often as the networks halve them.

  Args:
    config: settings of the GAN.
    height: height of the frames.
    width: width of the frames.
    factors: required divisors of height and width, by the field whose entries cause them.
  """
  for name, factor in factors.items():
    if height % factor or width % factor:
      raise UserError(
        f"data.resolution gives frames of {height}x{width}, but the {len(getattr(config, name))} entries of "
        f"algorithm.{name} need multiples of {factor}"
      )
