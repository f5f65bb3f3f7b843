"""Warnings about sets of clips that are usable but probably not the ones that were meant."""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from vidgen_jax.scores.clip_sets.clip_set import ClipSet


def warn_of_mistakes(real: ClipSet, fake: ClipSet) -> None:
  """Logs clips that occur twice in a set, generated clips that are real ones, and different frame rates.

  Clips are equal if all their decoded frames are. Reads the clips of both sets that were not read before.
  """
  first = _warn_of_repeats("--real", real)
  _warn_of_repeats("--fake", fake)
  copies = [(name, first[d]) for d, name in zip(fake.digests(), fake.clip_names, strict=True) if d in first]
  _warn(copies, f"--fake: %d of {len(fake)} clips are real clips", "score clips that the model generated")
  _warn_of_rates(real.frame_rates, fake.frame_rates)


def warn_of_mistakes_by_facts(real: Mapping[str, Any], fake: ClipSet) -> None:
  """Like `warn_of_mistakes` with the facts of a real set, see `ClipSet.facts`, that is not at hand."""
  _warn_of_repeats("--fake", fake)
  if real.get("content") is not None and real["content"] == fake.facts["content"]:
    logging.warning("--fake: all clips are those of --real; score clips that the model generated")
  strides = real["frame_stride"], fake.options.frame_stride
  pairs = zip((real["fps"], fake.frame_rates), strides, strict=True)
  rates = [[rate / stride for rate in found] for found, stride in pairs]
  if not all(rates) and strides[0] != strides[1]:
    logging.warning("--real was made with --frame_stride=%d, --fake with %d: motion may differ in speed", *strides)
  _warn_of_rates(*rates)


def _warn_of_repeats(what: str, clips: ClipSet) -> dict[bytes, str]:
  """Returns the first name of each content."""
  seen: dict[bytes, str] = {}
  pairs = []
  for digest, name in zip(clips.digests(), clips.clip_names, strict=True):
    pairs += [(name, seen[digest])] if digest in seen else []
    seen.setdefault(digest, name)
  _warn(pairs, f"{what}: %d of {len(clips)} clips repeat another clip of the set", "remove the copies")
  return seen


def _warn_of_rates(*rates: Sequence[float]) -> None:
  # 29.97 and 30 are no mistake.
  if all(rates) and any(abs(rates[0][end] / rates[1][end] - 1) > 0.01 for end in (0, -1)):
    texts = [", ".join(f"{rate:g}" for rate in found) for found in rates]
    logging.warning(
      "--real has %s frames per second, --fake %s: motion differs in speed; write both at one rate", *texts
    )


def _warn(pairs: Sequence[tuple[str, str]], message: str, remedy: str) -> None:
  if pairs:
    logging.warning(f"{message}, such as %s, which equals %s; {remedy}", len(pairs), *pairs[0])
