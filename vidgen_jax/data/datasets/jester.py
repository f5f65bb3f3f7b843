"""Jester: 27 hand gestures in front of a camera, as folders of images with a height of 100 pixels.

The videos are `20bn-jester-v1/<id>/00001.jpg` and so on; the lists have lines 'id;label'. The owners' validation list
is the split 'test': their test list has no labels and is not used.
"""

from vidgen_jax.data.datasets import ListError, SplitRule
from vidgen_jax.data.datasets.published import by_file_name, found, images_by_folder, published, read_list
from vidgen_jax.data.listing import Source, SourceFile

_LISTS = {"train": "jester-v1-train.csv", "test": "jester-v1-validation.csv"}


@published(
  name="jester",
  title="Jester (Materzynska et al. 2019)",
  split_rules={"owners": SplitRule("their validation list for testing", {"train": 118562, "test": 14787})},
  obtain=(
    "fetch the parts 20bn-jester-v1-00 and so on (about 23 GB in all), jester-v1-train.csv and "
    "jester-v1-validation.csv from developer.qualcomm.com/software/ai-datasets/jester into "
    "<data_dir>/downloads/manual/jester and unpack the former there with `cat 20bn-jester-v1-?? | tar zx` (about as "
    "much again, in more than four million files); a build with --size=64 takes about 45 GB, twice that while it "
    "runs, and about 2 hours of one core"
  ),
  source_fps=12.0,
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  del rule  # There is only one.
  stamps = source.stamps()
  lists = by_file_name(stamps, (".csv",))
  images = images_by_folder(stamps)
  folders = {folder.rpartition("/")[2]: folder for folder in images}
  return [
    found(folders.get(name), name, stamps, class_name=label, split=split, images=images)
    for split, file_name in _LISTS.items()
    for name, label in _rows(file_name, read_list(source, lists, file_name))
  ]


def _rows(file_name: str, text: str) -> list[tuple[str, str]]:
  rows = []
  for number, line in enumerate(text.splitlines(), 1):
    name, _, label = line.strip().partition(";")
    if line.strip() and not label:
      raise ListError(f"has a {file_name} whose line {number} is not 'id;label'")
    if label:
      rows.append((name, label))
  return rows
