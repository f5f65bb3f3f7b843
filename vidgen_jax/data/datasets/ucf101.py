"""UCF-101: three splits by its owners, each of all 13,320 videos, that keep videos of one recording together."""

import math
from pathlib import PurePosixPath

from vidgen_jax.data.datasets import SplitRule
from vidgen_jax.data.datasets.published import by_file_name, first_by_hash, found, published, read_list
from vidgen_jax.data.listing import Source, SourceFile

_VALIDATION = "1_validation"


@published(
  name="ucf101",
  title="UCF-101 (Soomro et al. 2012)",
  split_rules={
    "1": SplitRule("owners' first split", {"train": 9537, "test": 3783}),
    "2": SplitRule("owners' second split", {"train": 9586, "test": 3734}),
    "3": SplitRule("owners' third split", {"train": 9624, "test": 3696}),
    # Inbetweening, section B.2.
    _VALIDATION: SplitRule(
      "first split with 5 % of its training videos for validation", {"train": 9060, "validation": 477, "test": 3783}
    ),
  },
  obtain=(
    "fetch UCF101.rar (6.5 GB) and UCF101TrainTestSplits-RecognitionTask.zip from crcv.ucf.edu/data/UCF101.php into "
    "<data_dir>/downloads/manual/ucf101 and unpack the former there with `unrar x UCF101.rar` (6.5 GB more), so it "
    "holds UCF-101/<class>/*.avi; the zip file is read as it is; a build with --size=64 takes about 24 GB, twice "
    "that while it runs, and about 30 minutes of one core"
  ),
)
def _list_files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  lists = by_file_name(stamps, (".txt",))
  videos = {"/".join(PurePosixPath(path).parts[-2:]): path for path in stamps if path.endswith(".avi")}
  number = rule.removesuffix("_validation")
  named = {}
  for split in ("train", "test"):
    lines = read_list(source, lists, f"{split}list0{number}.txt").splitlines()
    named |= {line.split()[0]: split for line in lines if line.strip()}
  if rule == _VALIDATION:
    # The paper samples lines of the list, so clips of one recording may be on both sides.
    training = [name for name, split in named.items() if split == "train"]
    named |= dict.fromkeys(first_by_hash(training, math.ceil(0.05 * len(training))), "validation")
  return [
    found(videos.get(name), name, stamps, class_name=PurePosixPath(name).parts[0], split=split)
    for name, split in sorted(named.items())
  ]
