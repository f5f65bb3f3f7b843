"""MUG facial expressions: a folder of images for every take of a person and an expression.

The images are `<subject>/<expression>/take<number>/img_0000.jpg` and so on, possibly with a folder `session<number>`
below the subject. Other folders, such as those of mixed expressions, are not used.

SR-cGAN uses six expressions without the neutral face, cuts the takes into clips of 16 frames and trains on 80 % of
them; it does not say whether people are separated. The default rule `takes` therefore divides the takes of those six
expressions; all clips of a take have the same split. `subjects` divides the people. The rules `*_neutral` add neutral
faces.
"""

import re

from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import first_by_hash, found, images_by_folder, published
from vidgen_jax.data.listing import Source, SourceFile

_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_NEUTRAL = "neutral"
_TAKE = re.compile(
  r"(?:.*/)?(?!session\d+/)(?P<subject>[^/]+)/(?P<session>session\d+/)?"
  rf"(?P<expression>{'|'.join((*_EXPRESSIONS, _NEUTRAL))})/(?P<take>take\d+)"
)


@published(
  name="mug",
  title="MUG facial expressions (Aifanti et al. 2010)",
  # No list says how many takes there are.
  split_rules={
    "takes": SplitRule("20 % of the takes for testing", {}),
    "subjects": SplitRule("20 % of the people for testing", {}),
    "takes_neutral": SplitRule("takes, with neutral faces", {}),
    "subjects_neutral": SplitRule("subjects, with neutral faces", {}),
  },
  obtain=(
    "fetch the image sequences of the subjects (about 38 GB; the owners give access on application) from "
    "mug.ee.auth.gr/fed into <data_dir>/downloads/manual/mug, with archives other than .zip and .tar unpacked, so that "
    "it holds <subject>/<expression>/take<number>/*.jpg at any depth; a build with --size=64 takes about 2 GB and "
    "about an hour of one core"
  ),
  source_fps=19.0,
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  images = images_by_folder(stamps)
  takes = {}
  for folder in images:
    match = _TAKE.fullmatch(folder)
    if match and (match["expression"] != _NEUTRAL or rule.endswith(f"_{_NEUTRAL}")):
      takes["{subject}/{}{expression}/{take}".format(match["session"] or "", **match.groupdict())] = (folder, match)
  groups = {name: match["subject"] if rule.startswith("subjects") else name for name, (_, match) in takes.items()}
  names = set(groups.values())
  testing = first_by_hash(names, round(len(names) * 20 / 100))
  split_of = {name: "test" if group in testing else "train" for name, group in groups.items()}
  return [
    found(folder, name, stamps, class_name=match["expression"], split=split_of[name], images=images)
    for name, (folder, match) in sorted(takes.items())
  ]
