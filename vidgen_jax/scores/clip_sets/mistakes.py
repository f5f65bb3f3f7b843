"""Warnings about sets of clips that are usable but probably not the ones that were meant."""

from collections.abc import Sequence

from absl import logging

from vidgen_jax.scores.clip_sets.clip_set import ClipSet


def warn_of_mistakes(real: ClipSet, fake: ClipSet) -> None:
  """Logs clips that occur twice in a set, generated clips that are real ones, and different frame rates.

  Clips are equal if all their decoded frames are. Reads the clips of both sets that were not read before.
  """
  first: dict[bytes, str] = {}
  for what, clips in (("--real", real), ("--fake", fake)):
    seen: dict[bytes, str] = {}
    pairs = []
    for digest, name in zip(clips.digests(), clips.clip_names, strict=True):
      pairs += [(name, seen[digest])] if digest in seen else []
      seen.setdefault(digest, name)
    _warn(pairs, f"{what}: %d of {len(clips)} clips repeat another clip of the set", "remove the copies")
    if clips is real:
      first = seen
  copies = [(name, first[d]) for d, name in zip(fake.digests(), fake.clip_names, strict=True) if d in first]
  _warn(copies, f"--fake: %d of {len(fake)} clips are real clips", "score clips that the model generated")
  rates = [clips.frame_rates for clips in (real, fake)]
  # 29.97 and 30 are no mistake.
  if all(rates) and any(abs(rates[0][end] / rates[1][end] - 1) > 0.01 for end in (0, -1)):
    texts = [", ".join(f"{rate:g}" for rate in found) for found in rates]
    logging.warning(
      "--real has %s frames per second, --fake %s: motion differs in speed; write both at one rate", *texts
    )


def _warn(pairs: Sequence[tuple[str, str]], message: str, remedy: str) -> None:
  if pairs:
    logging.warning(f"{message}, such as %s, which equals %s; {remedy}", len(pairs), *pairs[0])
