"""MUG facial expressions (Aifanti et al. 2010): a folder of images for every take of a person and an expression.

`<subject>/<expression>/take<number>/img_0000.jpg` and so on, or with a folder `session<number>` behind the subject's.
Other folders, as of mixed expressions, are not used.

SR-cGAN uses six expressions, not the neutral face, cuts the takes into clips of 16 frames and takes 80 % of them for
training; of people it says nothing. So the default, `takes`, divides the takes of those six expressions; a take stays
whole, so that its clips are on one side. `subjects` has nobody on both sides. The rules that end in `_neutral` use
neutral faces as well.
"""

import re
from collections.abc import Mapping

from vidgen_jax.data.datasets.layout import Layout, first_by_hash, found_images, images_by_folder
from vidgen_jax.data.listing import Source, SourceFile

_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_NEUTRAL = "neutral"
_TEST_PERCENT = 20
_TAKE = re.compile(
  r"(?:.*/)?(?!session\d+/)(?P<subject>[^/]+)/(?P<session>session\d+/)?"
  rf"(?P<expression>{'|'.join((*_EXPRESSIONS, _NEUTRAL))})/(?P<take>take\d+)"
)


def _files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  images = images_by_folder(stamps)
  takes = {}
  for folder in images:
    match = _TAKE.fullmatch(folder)
    if match and (match["expression"] != _NEUTRAL or rule.endswith(f"_{_NEUTRAL}")):
      takes["{subject}/{}{expression}/{take}".format(match["session"] or "", **match.groupdict())] = (folder, match)
  split_of = _splits(rule, {name: match["subject"] for name, (_, match) in takes.items()})
  return [
    found_images(folder, name, stamps, images, class_name=match["expression"], split=split_of[name])
    for name, (folder, match) in sorted(takes.items())
  ]


def _splits(rule: str, subjects: Mapping[str, str]) -> dict[str, str]:
  """The split of every take, given its subject."""
  groups = subjects if rule.startswith("subjects") else {name: name for name in subjects}
  names = set(groups.values())
  testing = first_by_hash(names, round(len(names) * _TEST_PERCENT / 100))
  return {name: "test" if group in testing else "train" for name, group in groups.items()}


MUG = Layout(
  name="mug",
  list_files=_files,
  # There is no list that says how many takes there are.
  num_videos={"takes": {}, "subjects": {}, "takes_neutral": {}, "subjects_neutral": {}},
  obtain=(
    "fetch the image sequences of the subjects (about 38 GB; the owners give access on application) from "
    "mug.ee.auth.gr/fed into <data_dir>/downloads/manual/mug, with archives other than .zip and .tar unpacked, so that "
    "it holds <subject>/<expression>/take<number>/*.jpg at any depth; a build with --size=64 takes about 1 GB and "
    "about an hour of one core"
  ),
  fps=19.0,
)
"""The layout."""
