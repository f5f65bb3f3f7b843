"""Registry of the data sets that `vidgen data build NAME` builds, one module per data set.

To add a data set, add a module to this package that calls `register` or, for a published data set of videos, decorates
its listing function with `published.published`.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vidgen_jax.data.listing import MISSING, Source, SourceFile
from vidgen_jax.errors import UserError


class ListError(Exception):
  """A list that the owners distribute is missing or malformed; the message completes 'the source ...'."""


class SplitRule(NamedTuple):
  """A division of a published data set."""

  description: str
  """Videos of each split, in words."""
  num_videos: Mapping[str, int]
  """Number of videos of the complete data set by split, as far as known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """A kind of data set that can be built.

  Attributes:
    name: argument of `vidgen data build`, 'builder' of the manifest and default name of the data set.
    title: short description, with the publication if there is one.
    options_type: dataclass of the build options; its fields are the flags that apply.
    build: function that builds the data set from an instance of `options_type` and returns its folder.
    list_files: for a published data set, function (source, rule) that lists its videos, including missing ones.
    split_rules: for a published data set, rules by name; the first is the default.
    obtain: for a published data set, download instructions with disk space and build time, which begin with 'fetch'.
  """

  name: str
  title: str
  options_type: type[Any]
  build: Callable[[Any], Path]
  list_files: Callable[[Source, str], list[SourceFile]] | None = None
  split_rules: Mapping[str, SplitRule] = dataclasses.field(default_factory=dict)
  obtain: str = ""

  def files(self, source: Source, rule: str) -> list[SourceFile]:
    """Lists the videos of a split rule, in a fixed order.

    Raises UserError if the rule is unknown, or the source lacks the data set or one of its lists.
    """
    if self.list_files is None or rule not in self.split_rules:
      raise UserError(f"--split_rule={rule} must be one of {', '.join(self.split_rules)} for {self.name}")
    try:
      files = self.list_files(source, rule)
    except ListError as error:
      raise UserError(f"--source {source.path} {error}: {self.obtain}") from error
    if all(file.stamp == MISSING for file in files):
      raise UserError(f"--source {source.path} does not contain {self.name}: {self.obtain}")
    return files


_REGISTRY: dict[str, Dataset] = {}


def register(dataset: Dataset) -> None:
  """Adds a data set to the registry; raises ValueError if the name is taken."""
  if dataset.name in _REGISTRY:
    raise ValueError(f"data set {dataset.name!r} is registered twice")
  _REGISTRY[dataset.name] = dataset


def all_datasets() -> Mapping[str, Dataset]:
  """All registered data sets by name, sorted; imports every module of this package."""
  for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
  return dict(sorted(_REGISTRY.items()))
