"""Which clip of one set belongs to which of another."""

import re
from collections.abc import Callable, Sequence

from absl import logging


def pair_clips(real: Sequence[str], fake: Sequence[str]) -> list[int]:
  """Index of the fake clip of each real one, from their names; the sets have equally many.

  Clips are paired by name if both sets have the same names: with folders but without the suffix, or else without
  folders too. Otherwise they are paired in order, and the first pair of files with different names is logged. Clips in
  one file or data set are named by their positions, which are the order.
  """
  for name_of in (_path, _stem):
    order = _matched(real, fake, name_of)
    if order is not None:
      if order != list(range(len(order))):
        logging.info("pairs: by name, such as %s with %s", real[0], fake[order[0]])
      return order
  pairs = ((first, second) for first, second in zip(real, fake, strict=True) if _path(first) != _path(second))
  first, second = next(pairs, ("", ""))
  if len(real) > 1 and first and not (_is_position(first) or _is_position(second)):
    logging.warning(
      "pairs: in the order of the names, as these differ: %s is compared with %s; give the clips of a pair the same "
      "name if they do not belong together",
      *(first, second),
    )
  return list(range(len(real)))


def _matched(real: Sequence[str], fake: Sequence[str], name_of: Callable[[str], str]) -> list[int] | None:
  places = {name_of(name): index for index, name in enumerate(fake)}
  wanted = [name_of(name) for name in real]
  return [places[name] for name in wanted] if places.keys() == {*wanted} and len(places) == len(real) else None


def _path(name: str) -> str:
  folder, slash, file = name.rpartition("/")
  return folder + slash + re.sub(r"\.\w+(?=(\[\d+\])?$)", "", file)


def _stem(name: str) -> str:
  return _path(name).rpartition("/")[2]


def _is_position(name: str) -> bool:
  return name.endswith("]")
