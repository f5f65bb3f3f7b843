import collections
import io
import pickle
import tarfile
import zipfile

import pytest
from PIL import Image

from vidgen_jax.data import listing
from vidgen_jax.data.listing import Source
from vidgen_jax.errors import UserError


def write(root, *paths):
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(path.encode())
  return root


def read(source):
  with listing.Source(source) as opened:
    return [(file.path, file.class_name, file.split) for file in opened.files()]


def test_class_folders(tmp_path):
  write(tmp_path, "wave/b.mp4", "wave/a.mp4", "bend/deep/c.mp4", ".hidden", "wave/.DS_Store", "loose.mp4")
  assert read(tmp_path) == [
    ("bend/deep/c.mp4", "bend", None),
    ("loose.mp4", None, None),
    ("wave/a.mp4", "wave", None),
    ("wave/b.mp4", "wave", None),
  ]


def test_flat_folder_is_one_class(tmp_path):
  write(tmp_path, "b.mp4", "a.mp4")
  assert read(tmp_path) == [("a.mp4", listing.UNLABELLED, None), ("b.mp4", listing.UNLABELLED, None)]


def test_split_folders(tmp_path):
  write(tmp_path, "train/wave/a.mp4", "test/wave/b.mp4", "val/wave/c.mp4")
  assert [entry[1:] for entry in read(tmp_path)] == [("wave", "test"), ("wave", "train"), ("wave", "validation")]


def test_split_folders_without_classes(tmp_path):
  write(tmp_path, "train/a.mp4", "test/b.mp4")
  assert [entry[1:] for entry in read(tmp_path)] == [(listing.UNLABELLED, "test"), (listing.UNLABELLED, "train")]


def test_a_class_may_be_called_train(tmp_path):
  write(tmp_path, "train/a.mp4", "bus/b.mp4")
  assert [entry[1:] for entry in read(tmp_path)] == [("bus", None), ("train", None)]


def test_a_zip_lists_the_same_files_as_its_folder(tmp_path):
  folder = write(tmp_path / "folder", "wave/a.mp4", "bend/b.mp4", "__MACOSX/wave/a.mp4")
  archive = tmp_path / "folder.bin"
  with zipfile.ZipFile(archive, "w") as unwritten:
    for path in folder.rglob("*"):
      unwritten.write(path, path.relative_to(folder))
  assert read(archive) == read(folder)
  with listing.Source(archive) as source, source.open("wave/a.mp4") as file:
    assert file.read() == b"wave/a.mp4"
    file.seek(0)
    assert file.read(4) == b"wave"


def test_a_changed_file_has_another_stamp(tmp_path):
  def stamp():
    with listing.Source(tmp_path) as source:
      return source.files()[0].stamp

  write(tmp_path, "a.mp4")
  before = stamp()
  assert stamp() == before
  (tmp_path / "a.mp4").write_bytes(b"longer than it was")
  assert stamp() != before


@pytest.mark.parametrize("kind", ["missing", "empty", "text.zip"])
def test_the_error_names_an_unusable_source(tmp_path, kind):
  source = tmp_path / kind
  if kind == "empty":
    source.mkdir()
  if kind == "text.zip":
    source.write_text("no zip")
  with pytest.raises(UserError, match=f"--source .*{kind}"):
    read(source)


def _archive(path, kind):
  """'x/a.txt' and 'b.txt' in a zip or tar file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if kind == "zip":
    with zipfile.ZipFile(path, "w") as written:
      written.writestr("x/a.txt", "first")
      written.writestr("b.txt", "second")
    return
  with tarfile.open(path, "w") as written:
    for name, text in (("./x/a.txt", b"first"), ("./b.txt", b"second")):
      member = tarfile.TarInfo(name)
      member.size = len(text)
      written.addfile(member, io.BytesIO(text))


def _content(source, path):
  with source.open(path) as file:
    return file.read()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nested_archives_are_listed_as_folders(tmp_path, kind):
  _archive(tmp_path / "in" / f"walk.{kind}", kind)
  (tmp_path / "list.txt").write_text("third")
  with Source(tmp_path, nested=True) as source:
    names = [f"in/walk.{kind}/b.txt", f"in/walk.{kind}/x/a.txt", "list.txt"]
    assert sorted(source.stamps()) == names
    assert [_content(source, name) for name in names] == [b"second", b"first", b"third"]
    # Another process opens the archives itself.
    with pickle.loads(pickle.dumps(source)) as again:  # noqa: S301
      assert _content(again, names[1]) == b"first"
  assert sorted(Source(tmp_path).stamps()) == [f"in/walk.{kind}", "list.txt"]


def test_a_tar_file_is_a_source(tmp_path):
  _archive(tmp_path / "all.tar", "tar")
  with Source(tmp_path / "all.tar") as source:
    assert sorted(source.stamps()) == ["b.txt", "x/a.txt"]
    assert _content(source, "b.txt") == b"second"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_error_names_a_damaged_archive(tmp_path, kind):
  path = tmp_path / f"walk.{kind}"
  _archive(path, kind)
  path.write_bytes(path.read_bytes()[: 200 if kind == "zip" else 700])
  with Source(tmp_path, nested=True) as source, pytest.raises(UserError, match=rf"cannot be listed.*walk\.{kind}"):
    source.stamps()


@pytest.mark.parametrize(
  ("paths", "expected"),
  [
    (["train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4", "README.txt"], {"train": 2, "test": 1}),
    (["train/a/1.mp4", "valid/a/2.mp4"], {"train": 1, "validation": 1}),
    (["train/a/1.mp4", "val/a/2.mp4", "annotations/a.json"], {"train": 1, "validation": 1}),
    (["train/a/1.mp4", "val/a/2.mp4", "extra/b/3.mp4", "loose.mp4"], {"train": 1, "validation": 1}),
    (["Train/a/1.mp4", "TEST/a/2.mp4", "Validation/a/3.mp4"], {"train": 1, "test": 1, "validation": 1}),
    (["train/a/1.mp4", "notes/list.csv"], {"train": 1}),
  ],
)
def test_splits_with_other_files_next_to_them(tmp_path, paths, expected):
  write(tmp_path, *paths)
  with Source(tmp_path) as source:
    files = source.files()
  used = [file for file in files if not file.excluded]
  assert dict(collections.Counter(file.split for file in used)) == expected
  assert {file.class_name for file in used} <= {"a", "b"}
  assert {file.path for file in files} == set(paths)


def test_text_next_to_videos_makes_no_classes(tmp_path):
  write(tmp_path, "a.mp4", "b.mp4", "docs/readme.md")
  with Source(tmp_path) as source:
    assert {file.class_name for file in source.files() if not file.excluded} == {listing.UNLABELLED}


def test_links_are_followed_but_no_circles(tmp_path, caplog):
  write(tmp_path / "elsewhere", "jump/1.mp4", "2.mp4", "split/walk/3.mp4")
  root = write(tmp_path / "source", "train/walk/0.mp4", "train/.cache/9.mp4")
  (root / "train" / "jump").symlink_to(tmp_path / "elsewhere" / "jump")
  (root / "train" / "walk" / "2.mp4").symlink_to(tmp_path / "elsewhere" / "2.mp4")
  (root / "train" / "walk" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
  (root / "train" / "walk" / "again").symlink_to(root)
  (root / "test").symlink_to(tmp_path / "elsewhere" / "split")
  with caplog.at_level("INFO"):
    assert read(root) == [
      ("test/walk/3.mp4", "walk", "test"),
      ("train/jump/1.mp4", "jump", "train"),
      ("train/walk/0.mp4", "walk", "train"),
      ("train/walk/2.mp4", "walk", "train"),
      ("train/walk/gone.mp4", "walk", "train"),
    ]
  assert "again links to a folder that contains it" in caplog.text
  assert "1 hidden files are skipped" in caplog.text
  with Source(root) as source:
    assert source.stamps()["train/walk/gone.mp4"] == listing.MISSING


def images(folder, *sizes, name="{:04d}.png"):
  folder.mkdir(parents=True, exist_ok=True)
  for index, size in enumerate(sizes):
    Image.new("L", size).save(folder / name.format(index))


@pytest.mark.parametrize("size", [(16, 8), (8, 16), (8, 8), (12, 8)])
def test_a_folder_of_frames_is_one_clip(tmp_path, size):
  images(tmp_path / "walk" / "clip1", *[size] * 4)
  images(tmp_path / "walk" / "clip2", *[size] * 4)
  images(tmp_path / "run" / "clip3", *[size] * 12, name="{}.png")
  with Source(tmp_path) as source:
    files = source.files()
    assert [(file.path, file.class_name, len(file.images)) for file in files] == [
      *(("run/clip3", "run", 12), ("walk/clip1", "walk", 4), ("walk/clip2", "walk", 4))
    ]
    assert [path.rpartition("/")[2] for path in files[0].images] == [f"{index}.png" for index in range(12)]
  # Without class folders; and the source itself as the clip.
  assert read(tmp_path / "walk") == [("clip1", listing.UNLABELLED, None), ("clip2", listing.UNLABELLED, None)]
  assert read(tmp_path / "walk" / "clip1") == [("clip1", listing.UNLABELLED, None)]


@pytest.mark.parametrize("sizes", [[(16, 8), (16, 8), (24, 8)], [(16, 8), (8, 8)], [(24, 8)] * 3, [(8, 16), (8, 32)]])
def test_strips_are_proven_by_a_sibling_of_another_length(tmp_path, sizes):
  images(tmp_path / "a", *sizes)
  with Source(tmp_path) as source:
    assert [file.path for file in source.files()] == [f"a/{index:04d}.png" for index in range(len(sizes))]
    assert not any(file.images or file.excluded for file in source.files())


def test_strips_of_two_must_be_asked_for(tmp_path):
  images(tmp_path, (16, 8))
  with Source(tmp_path) as source:
    assert "--images=strips" in source.files()[0].excluded
    assert not source.files(images="strips")[0].excluded
  images(tmp_path, *[(16, 8)] * 3)
  with Source(tmp_path) as source:
    assert len(source.files()[0].images) == 3
    assert len(source.files(images="strips")) == 3
  images(tmp_path, *[(24, 8)] * 3)
  with Source(tmp_path) as source:
    assert len(source.files()) == 3
    assert len(source.files(images="frames")[0].images) == 3


def test_frames_with_a_gap_are_listed_with_the_reason(tmp_path):
  images(tmp_path / "a" / "clip", *[(8, 8)] * 4)
  (tmp_path / "a" / "clip" / "0001.png").unlink()
  with Source(tmp_path) as source:
    (file,) = source.files()
  assert (file.path, file.excluded) == ("a/clip", "the frame after number 0 is missing")


def test_a_single_video_is_a_source(tmp_path):
  write(tmp_path, "film.mp4")
  assert read(tmp_path / "film.mp4") == [("film.mp4", listing.UNLABELLED, None)]
  with Source(tmp_path / "film.mp4") as source:
    assert _content(source, "film.mp4") == b"film.mp4"


def test_previews_of_videos_are_no_frames(tmp_path):
  images(tmp_path, *[(8, 8)] * 3, name="clip{}.png")
  write(tmp_path, *(f"clip{index}.mp4" for index in range(3)))
  with Source(tmp_path) as source:
    assert not any(file.images for file in source.files())
