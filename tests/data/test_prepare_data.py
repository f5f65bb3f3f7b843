from pathlib import Path

import numpy as np
import pytest
from absl import flags
from PIL import Image

from vidgen_jax.commands import data as prepare_data
from vidgen_jax.data import sources
from vidgen_jax.errors import UserError


def run(*words):
  flag_values = flags.FlagValues()
  flag_values.set_gnu_getopt(True)
  prepare_data.define_flags(flag_values)
  prepare_data.run(flag_values, flag_values(["vidgen", *map(str, words)])[1:])


def test_build_shape_motion(tmp_path, capsys):
  run("build", "shape_motion", f"--data_dir={tmp_path}", "--num_clips=10", "--seed=3")
  printed = capsys.readouterr()
  assert str(sources.load_info("shape_motion", tmp_path).directory) in printed.out
  assert "test: 2 clips of 32..32 frames (up " in printed.out
  assert "10/10" in printed.err


def test_build_and_inspect_video_folder(tmp_path, capsys, strip, marked_clip):
  for clip in range(4):
    (tmp_path / "source" / "wave").mkdir(parents=True, exist_ok=True)
    (tmp_path / "source" / "wave" / f"{clip}.png").write_bytes(strip(marked_clip(40 + clip, 9)))
  (tmp_path / "source" / "wave" / "broken.mp4").write_bytes(b"")
  run(
    "build",
    "video_folder",
    f"--source={tmp_path / 'source'}",
    "--name=waves",
    f"--data_dir={tmp_path}",
    "--encoding=png",
  )
  out = capsys.readouterr().out
  assert "train: 3 clips of 9..9 frames (wave 3)" in out
  assert "wave/broken.mp4: empty file" in out
  sheet = tmp_path / "sheet.png"
  run(
    *("inspect", "waves", f"--data_dir={tmp_path}", f"--output={sheet}"), *("--clips=2", "--frames=3", "--resolution=8")
  )
  assert str(sheet) in capsys.readouterr().out
  info = sources.load_info("waves", tmp_path)
  videos = prepare_data.sample_videos(info, "train", num_clips=2, num_frames=3, resolution=8)
  # Three of nine frames, evenly spread: 0, 4, 8.
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
    (["build", "kinetics"], "no builder 'kinetics'; choose one of shape_motion, video_folder"),
    (["build", "video_folder"], "needs --source"),
    (["build", "video_folder", "--source=/does/not/exist"], "--source /does/not/exist does not exist"),
    (["build", "video_folder", "--source=.", "--num_clips=3"], "--num_clips does not apply"),
    (["build", "shape_motion", "--size=32"], "--size does not apply"),
    (["build", "shape_motion", "--num_clips=1"], "--num_clips must be at least 5"),
    (["inspect", "nothing"], "vidgen data build video_folder --source=FOLDER --name=nothing"),
    (["inspect", "nothing", "--clips=0"], "--clips must be at least 1"),
  ],
)
def test_mistakes_are_one_line_with_a_remedy(tmp_path, words, message):
  with pytest.raises(UserError, match=message) as error:
    run(*words, f"--data_dir={tmp_path}")
  assert "\n" not in str(error.value)


def test_inspect_says_what_is_wrong_with_split_and_output(tmp_path, marked_dataset):
  with pytest.raises(UserError, match="no split 'validation'"):
    run("inspect", "marked", f"--data_dir={marked_dataset}", "--split=validation", f"--output={tmp_path / 'a.png'}")
  with pytest.raises(UserError, match="cannot write --output"):
    run("inspect", "marked", f"--data_dir={marked_dataset}", f"--output={tmp_path / 'missing' / 'a.png'}")
  assert list(Path(tmp_path).iterdir()) == []


def test_a_damaged_data_set_says_how_to_build_it_again(tmp_path):
  run("build", "shape_motion", f"--data_dir={tmp_path}", "--num_clips=5")
  directory = sources.load_info("shape_motion", tmp_path).directory
  (directory / "index-train.npz").write_bytes(b"half")
  with pytest.raises(UserError, match=r"damaged .* vidgen data build shape_motion .*--overwrite"):
    run("inspect", "shape_motion", f"--data_dir={tmp_path}")
