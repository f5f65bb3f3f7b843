"""Weizmann: nine people, ten actions; 93 videos, as one person runs, skips and walks twice.

The owners distribute a zip file per action: `walk.zip` with `daria_walk.avi`. The papers do not say which people are
for testing: moshe and shahar, the last two, are our choice.
"""

from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import by_file_name, found, published
from vidgen_jax.data.listing import Source, SourceFile

_PEOPLE = ("daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar")
_TESTING = ("moshe", "shahar")
_ACTIONS = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")
_TWICE = {("lena", "run"), ("lena", "skip"), ("lena", "walk")}


@published(
  name="weizmann",
  title="Weizmann actions (Gorelick et al. 2007)",
  split_rules={
    "people": SplitRule("moshe and shahar for testing", {"train": 73, "test": 20}),
    # MVT-GAN trains its generators on all videos.
    "all": SplitRule("all for training", {"train": 93}),
  },
  obtain=(
    "fetch the zip files of the ten actions, bend, jack, jump, pjump, run, side, skip, walk, wave1 and wave2 (about "
    "0.4 GB in all), from www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html into "
    "<data_dir>/downloads/manual/weizmann, where they are read without unpacking; a build with --size=64 takes about "
    "45 MB and less than a minute of one core"
  ),
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  videos = by_file_name(stamps, (".avi",))
  testing = _TESTING if rule == "people" else ()
  return [
    found(videos.get(f"{name}.avi"), name, stamps, class_name=action, split="test" if person in testing else "train")
    for person in _PEOPLE
    for action in _ACTIONS
    for name in [f"{person}_{action}{time}" for time in ("12" if (person, action) in _TWICE else [""])]
  ]
