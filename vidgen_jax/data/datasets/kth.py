"""KTH: 25 people, six actions, four settings; one of the 600 videos does not exist.

The owners distribute a zip file per action, with `person01_boxing_d1_uncomp.avi`, and `00sequences.txt`, which lists
the frame ranges of the action in each video.
"""

import itertools
import re

from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import by_file_name, found, published, read_list
from vidgen_jax.data.listing import Source, SourceFile

_ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
_VIDEO = re.compile(rf"person(\d\d)_({'|'.join(_ACTIONS)})_d([1-4])(?:_uncomp)?\.avi")
_LINE = re.compile(r"(person\d\d_\w+_d[1-4])\s+frames\s+([\d\s,-]+)")


@published(
  name="kth",
  title="KTH (Schuldt et al. 2004), cut where 00sequences.txt says",
  split_rules={
    # Inbetweening.
    "people": SplitRule(
      "persons 1-15, 16 for validation and 17-25 for testing", {"train": 359, "validation": 24, "test": 216}
    ),
    # SR-cGAN: 80 and 20 %.
    "handwaving": SplitRule("that action alone, persons 1-20 and 21-25 for testing", {"train": 80, "test": 20}),
  },
  obtain=(
    "fetch boxing.zip, handclapping.zip, handwaving.zip, jogging.zip, running.zip and walking.zip (about 1.1 GB) and "
    "00sequences.txt from www.csc.kth.se/cvap/actions into <data_dir>/downloads/manual/kth, where they are read "
    "without unpacking; a build with --size=64 takes about 1.5 GB and about 5 minutes of one core"
  ),
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  videos = {}
  for name, path in by_file_name(stamps, (".avi",)).items():
    if match := _VIDEO.fullmatch(name):
      videos["person{}_{}_d{}".format(*match.groups())] = path
  parts = _sequences(read_list(source, by_file_name(stamps, (".txt",)), "00sequences.txt"))
  actions = ("handwaving",) if rule == "handwaving" else _ACTIONS
  return [
    found(videos.get(name), name, stamps, class_name=action, split=_split(rule, person), parts=parts.get(name, ()))
    for person, action, setting in itertools.product(range(1, 26), actions, range(1, 5))
    if (name := f"person{person:02d}_{action}_d{setting}") != "person13_handclapping_d3"
  ]


def _split(rule: str, person: int) -> str:
  if rule == "handwaving":
    return "train" if person <= 20 else "test"
  return "train" if person <= 15 else "validation" if person == 16 else "test"


def _sequences(text: str) -> dict[str, tuple[tuple[int, int], ...]]:
  """Frame ranges by video, 0-based and end-exclusive: '1-95, 96-185' -> ((0, 95), (95, 185))."""
  sequences = {}
  for line in text.splitlines():
    if match := _LINE.match(line.strip()):
      ranges = re.findall(r"(\d+)\s*-\s*(\d+)", match[2])
      sequences[match[1]] = tuple((int(first) - 1, int(last)) for first, last in ranges)
  return sequences
