"""What each paper says, and what is done here: the items of `gans/NAME/fidelity.toml`, as text."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from flax.traverse_util import flatten_dict

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig, to_dict

PAPERS: Mapping[str, str] = {
  "trivd": "TrIVD-GAN-FP",
  "inbetween": "Inbetweening",
  "mvt": "MVT-GAN",
  "sr_cgan": "SR-cGAN",
}
"""Title of each paper's system, by name of the GAN."""

STATUSES: Mapping[str, str] = {
  "published": "as published",
  "chosen": "chosen where the paper is silent",
  "departs": "different from the paper",
  "absent": "not reproduced",
}
"""Meaning of the statuses of an item."""

DECLARED = ("chosen", "departs", "absent")
"""Statuses of items that are not done exactly as the paper says."""


@dataclass(frozen=True, kw_only=True)
class Item:
  """One fact of a paper, and what is done here.

  Attributes:
    part: part of the system, such as 'Generator'.
    name: short name of the fact.
    source: section, table, figure or equation of the paper.
    paper: what the paper says.
    status: a name in `STATUSES`.
    here: what is done here and why; '' if as published.
    fields: values of dotted config fields in the paper variants.
    configs: variants, as FILE.py:VARIANT, that have these values.
    reference: the paper's main variant.
    code: FILE:NAME, a file below vidgen_jax and the function or class in it; or ''.
    test: the test that shows it, PATH::NAME; or ''.
    command: the command that does it or changes it; or ''.
  """

  part: str
  name: str
  source: str
  paper: str
  status: str
  here: str = ""
  fields: Mapping[str, Any] = field(default_factory=dict)
  configs: tuple[str, ...] = ()
  reference: str = ""
  code: str = ""
  test: str = ""
  command: str = ""

  @property
  def done(self) -> str:
    """What is done here, in words."""
    return self.here or STATUSES[self.status]

  @property
  def where(self) -> tuple[str, ...]:
    """Config fields with their values and the command, or else the code."""
    found = (*(f"{name}={_text(value)}" for name, value in self.fields.items()), *filter(None, [self.command]))
    return found or tuple(filter(None, [self.code]))


def read_items(gan: str) -> tuple[Item, ...]:
  """The items of a GAN's paper; UserError for a GAN without any."""
  if gan not in PAPERS:
    raise UserError(f"there is no paper of {gan!r}; choose {', '.join(PAPERS)}")
  text = resources.files("vidgen_jax").joinpath(f"gans/{gan}/fidelity.toml").read_text(encoding="utf-8")
  values = tomllib.loads(text)
  items = [{"configs": [values["config"]], "reference": values["config"]} | item for item in values["item"]]
  return tuple(Item(**item | {"configs": tuple(item["configs"])}) for item in items)


def differing_fields(
  items: Sequence[Item], config: ExperimentConfig, against: ExperimentConfig
) -> Iterator[tuple[str, Any, Any, str]]:
  """Fields of the items that differ between two experiments.

  Yields:
    Dotted field, its value in `config`, its value in `against`, and the name and source of the first item with it.
  """
  values, others = field_values(config), field_values(against)
  first: dict[str, Item] = {}
  for item in items:
    for name in item.fields:
      first.setdefault(name, item)
  for name, item in first.items():
    if values.get(name) != others.get(name):
      yield name, values.get(name), others.get(name), f"{item.name}, {item.source}"


def field_values(config: ExperimentConfig) -> dict[str, Any]:
  """Plain values of all fields by dotted name; tuples become lists."""
  return flatten_dict(to_dict(config), sep=".")


def counts(items: Sequence[Item]) -> dict[str, int]:
  """Number of items by status."""
  return {status: sum(item.status == status for item in items) for status in STATUSES}


def as_text(items: Sequence[Item]) -> str:
  """The items as indented text, in the order of the file."""
  lines: list[str] = []
  part = ""
  for item in items:
    if item.part != part:
      part = item.part
      lines += ["", part]
    lines.append(f"  {item.name} ({item.source}): {item.paper}")
    lines.append(f"    {'; '.join([item.done, *item.where])}")
  return "\n".join(lines).strip()


def _text(value: Any) -> str:
  return f"({', '.join(map(_text, value))})" if isinstance(value, list) else str(value)
