"""`vidgen data build` and `inspect`."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags
from PIL import Image

from tests.data.conftest import make_marked_clip, make_strip
from vidgen_jax.commands import data as data_command
from vidgen_jax.commands import data_description
from vidgen_jax.commands.flag_parsing import parse_flags
from vidgen_jax.data import records
from vidgen_jax.data.datasets.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.errors import UserError


def run(*words):
  flag_values = flags.FlagValues()
  flag_values.set_gnu_getopt(True)
  data_command.define_flags(flag_values)
  data_command.run(flag_values, parse_flags([*map(str, words)], flag_values, command="data"))


@pytest.fixture
def shapes(tmp_path):
  """data_dir of a small data set 'shapes'."""
  build_shape_motion(ShapeMotionOptions(name="shapes", data_dir=str(tmp_path / "built"), num_clips=5))
  return tmp_path / "built"


def test_build_shape_motion(tmp_path, capsys):
  run("build", "shape_motion", f"--data_dir={tmp_path}", "--num_clips=10", "--seed=3")
  printed = capsys.readouterr()
  assert str(records.load_info("shape_motion", tmp_path).directory) in printed.out
  assert "test: 2 clips of 32..32 frames (up " in printed.out
  assert "10/10" in printed.err


def test_build_and_inspect_video_folder(tmp_path, capsys):
  (tmp_path / "waves" / "wave").mkdir(parents=True)
  for clip in range(4):
    (tmp_path / "waves" / "wave" / f"{clip}.png").write_bytes(make_strip(make_marked_clip(40 + clip, 9)))
  (tmp_path / "waves" / "wave" / "broken.mp4").write_bytes(b"")
  # The name is that of the folder.
  words = ["build", "video_folder", f"--source={tmp_path / 'waves'}", f"--data_dir={tmp_path / 'built'}"]
  run(*words, "--encoding=png", "--num_workers=1", "--source_fps=12", "--fps=12")
  out = capsys.readouterr().out
  assert "\n  frames per second: 12\n  encoding: PNG\n" in out
  assert "train: 3 clips of 9..9 frames (wave 3)" in out
  assert "wave/broken.mp4: empty file" in out
  sheet = tmp_path / "sheet.png"
  words = ["inspect", "waves", f"--data_dir={tmp_path / 'built'}", f"--out={sheet}"]
  run(*words, "--clips=2", "--frames=3", "--resolution=8")
  assert str(sheet) in capsys.readouterr().out
  info = records.load_info("waves", tmp_path / "built")
  videos = data_command.sample_videos(info, "train", num_clips=2, num_frames=3, resolution=8)
  # Three of nine frames, evenly spaced: 0, 4, 8.
  assert videos[:, :, 0, 0, 1].tolist() == [[0, 4, 8], [0, 4, 8]]
  image = np.asarray(Image.open(sheet))
  # Two rows of three 8x8 frames with gaps of 2: (2 + 2 (8 + 2), 2 + 3 (8 + 2)).
  assert image.shape == (22, 32, 3)
  np.testing.assert_array_equal(image[12:20, 22:30], videos[1, 2])


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "usage: vidgen data build"),
    (["build"], "usage: .*got build"),
    (["inspect"], "usage: "),
    (
      ["build", "kinetics"],
      r"no data set 'kinetics' to build \(did you mean kinetics\d00 or kinetics\d00\?\); choose one of bair, gen",
    ),
    (["build", "video_folder"], "needs --source"),
    (["build", "video_folder", "--source=/does/not/exist"], "--source /does/not/exist does not exist"),
    (["build", "video_folder", "--source=.", "--fps=nan"], r"--fps must be in 0\.01\.\.1000, or 0 .*, got nan"),
    (["build", "kinetics600", "--source=.", "--fps=-1"], r"--fps must be in 0\.01\.\.1000, or 0 .*, got -1"),
    (["build", "mug", "--source=.", "--source_fps=inf"], r"--source_fps must be in .*, got inf"),
    (["build", "video_folder", "--source=.", "--fps=5", "--stride=2"], "--fps=5 and --stride=2 exclude each other"),
    (["build", "kinetics600", "--source=.", "--stride=2"], "--fps=25 and --stride=2 exclude each other"),
    (["build", "video_folder", "--source=.", "--num_clips=3"], "--num_clips does not apply"),
    (["build", "shape_motion", "--size=32"], "--size does not apply"),
    (["build", "shape_motion", "--num_clips=1"], "--num_clips must be at least 5"),
    (["build", "shape_motion", "--seed=-1"], "--seed must be at least 0, got -1"),
    (["inspect", "nothing"], "vidgen data build video_folder --source=FOLDER --name=nothing"),
    (["inspect", "nothing", "--clips=0"], "--clips=0"),
  ],
)
def test_user_errors_are_one_line_with_a_remedy(tmp_path, words, message):
  with pytest.raises(UserError, match=message) as error:
    run(*words, f"--data_dir={tmp_path}")
  assert "\n" not in str(error.value)


def test_list_and_similar_names(shapes, capsys):
  (shapes / "half" / "1.0.0").mkdir(parents=True)
  (shapes / "half" / "1.0.0" / "manifest.json").write_text("{")
  run("list", f"--data_dir={shapes}")
  header, row, damaged = capsys.readouterr().out.splitlines()
  assert header.split() == ["name", "clips", "size", "fps", "classes", "MB", "splits", "folder"]
  info = records.load_info("shapes", shapes)
  expected = ["shapes", "5", "64x64", "unknown", str(len(info.class_names))]
  assert row.split()[:5] == expected
  assert "train 4" in row
  assert row.endswith(str(info.directory))
  assert damaged.startswith(f"data set 'half' at {shapes / 'half' / '1.0.0'} is damaged")
  with pytest.raises(UserError, match=r"data set 'Shape' is not in .* \(did you mean shapes\?\); build it"):
    run("inspect", "Shape", f"--data_dir={shapes}")
  run("list", f"--data_dir={shapes / 'nothing'}")
  assert "no data sets in" in capsys.readouterr().out


def test_inspect_counts_what_happened_to_the_sources():
  def used(name, **facts):
    return {"source": name, "status": "used", "width": 64, "height": 48, **facts}

  turned = {"orientation": "rotated clockwise"}
  sources = [
    used("a", split="train", conversions=turned | {"sample_aspect_ratio": "64:51"}),
    used("a", split="test", conversions=turned | {"sample_aspect_ratio": "64:51"}),  # Divided in time.
    used("b", conversions=turned, damage="3 of 4 frames"),
    used("c", conversions={"orientation": "transposed"}, variable_rate="33 to 100 ms between frames"),
    used("d") | {"width": 32},
    {"source": "e", "status": "skipped", "reason": "empty file"},
  ]
  info = SimpleNamespace(manifest={"sources": sources}, directory=Path("x"))
  assert data_description._source_lines(info) == [
    "  size of the sources: 64x48 (3), 32x48 (1)",
    "  orientation: 3 of 4 source files: rotated clockwise (2), transposed (1)",
    "  sample aspect ratio: 1 of 4 source files: 64:51 (1)",
    "  1 source files have a variable frame rate; the first:",
    "    c: 33 to 100 ms between frames",
    "  skipped 1 source files, see x/manifest.json; the first:",
    "    e: empty file",
    "  1 source files are damaged but usable; the first:",
    "    b: 3 of 4 frames",
  ]


def test_inspect_names_a_missing_split_and_an_unwritable_output(tmp_path, shapes):
  with pytest.raises(UserError, match="no split 'validation'"):
    run("inspect", "shapes", f"--data_dir={shapes}", "--split=validation", f"--out={tmp_path / 'a.png'}")
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="cannot be written"):
    run("inspect", "shapes", f"--data_dir={shapes}", f"--out={tmp_path / 'file' / 'a.png'}")
  assert {path.name for path in tmp_path.iterdir()} == {"built", "file"}


def test_the_error_for_a_damaged_data_set_contains_the_build_command(shapes):
  (records.load_info("shapes", shapes).directory / "index-train.npz").write_bytes(b"half")
  with pytest.raises(UserError, match=r"damaged .* vidgen data build shape_motion .*--overwrite"):
    run("inspect", "shapes", f"--data_dir={shapes}")


def test_help_lists_every_data_set_and_documents_every_option():
  flag_values = flags.FlagValues()
  data_command.define_flags(flag_values)
  for name, dataset in data_command.all_datasets().items():
    assert f"\n  {name}: {dataset.title}" in data_command.SUMMARY
    for option in dataset.options_type.__dataclass_fields__:
      assert flag_values[option].help
  assert flag_values["size"].help.startswith("build PUBLISHED, video_folder: smallest side of the stored frames")
