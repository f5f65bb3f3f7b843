"""Registry of the data sets that `vidgen data build NAME` builds, one module per data set.

To add a data set, add a module to this package that calls `register`, or, for a published data set of videos,
decorates its listing function with `published.published`. Nothing else needs to be edited.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vidgen_jax.data.datasets.layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """A kind of data set that can be built.

  Attributes:
    name: argument of `vidgen data build`, 'builder' of the manifest and default name of the data set.
    title: short description, with the publication if there is one.
    options_type: dataclass of the build options; its fields are the flags that apply.
    build: function that builds the data set from an instance of `options_type` and returns its folder.
    layout: files, split rules and download instructions of a published data set; None for others.
  """

  name: str
  title: str
  options_type: type
  build: Callable[[Any], Path]
  layout: Layout | None = None


_REGISTRY: dict[str, Dataset] = {}


def register(dataset: Dataset) -> None:
  """Adds a data set to the registry.

  Raises:
    ValueError: if the name is taken.
  """
  if dataset.name in _REGISTRY:
    raise ValueError(f"data set {dataset.name!r} is registered twice")
  _REGISTRY[dataset.name] = dataset


def all_datasets() -> Mapping[str, Dataset]:
  """All registered data sets by name, sorted; imports every module of this package."""
  for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
  return dict(sorted(_REGISTRY.items()))
