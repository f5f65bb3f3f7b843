"""Moving MNIST (Srivastava et al. 2015): two digits that bounce in 64x64 pixels, 10,000 clips of 20 frames.

`mnist_test_seq.npy`, uint8 [time, clip, height, width], is the owners' test set; they make training clips on the fly.
The default rule, `nine_tenths`, takes the first 9,000 of it for training, so that a model can be trained.
"""

from vidgen_jax.data.datasets.layout import Layout, ListError, by_file_name
from vidgen_jax.data.decode import UnreadableVideoError
from vidgen_jax.data.listing import UNLABELLED, Source, SourceFile
from vidgen_jax.data.readers import moving_mnist_shape

_FILE = "mnist_test_seq.npy"
_PIECE = 500
"""Clips that are read at a time."""


def _files(source: Source, rule: str) -> list[SourceFile]:
  stamps = source.stamps()
  path = by_file_name(stamps, (".npy",)).get(_FILE)
  if path is None:
    raise ListError(f"has no {_FILE}")
  with source.open(path) as file:
    try:
      _, num_clips, _, _ = moving_mnist_shape(file)
    except UnreadableVideoError as error:
      raise ListError(f"has a {_FILE} that {error}") from error
  border = 9 * num_clips // 10 if rule == "nine_tenths" else 0
  starts = sorted({border, *range(0, num_clips, _PIECE)} - {num_clips})
  return [
    SourceFile(
      path=path,
      class_name=UNLABELLED,
      split="train" if first < border else "test",
      stamp=stamps[path],
      name=f"clips_{first}..{stop - 1}",
      reader="moving_mnist",
      clips=(first, stop),
    )
    for first, stop in zip(starts, [*starts[1:], num_clips], strict=True)
  ]


MOVING_MNIST = Layout(
  name="moving_mnist",
  list_files=_files,
  num_videos={"nine_tenths": {"train": 9000, "test": 1000}, "test": {"test": 10000}},
  obtain=(
    "fetch mnist_test_seq.npy (0.8 GB) from www.cs.toronto.edu/~nitish/unsupervised_video into "
    "<data_dir>/downloads/manual/moving_mnist; a build with --size=64 takes about 0.3 GB and about a minute of one core"
  ),
)
"""The layout."""
