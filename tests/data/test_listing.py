import io
import pickle
import tarfile
import zipfile

import pytest

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


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_the_error_names_an_unusable_source(tmp_path, kind):
  source = tmp_path / kind
  if kind == "empty":
    source.mkdir()
  if kind == "text":
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
