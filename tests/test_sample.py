"""Sampling from a run and from its export: the same pictures, from evaluation clips or from the user's videos."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from vidgen_jax import cli, clips
from vidgen_jax import sample as sampling
from vidgen_jax.clips import Clips
from vidgen_jax.data.config import DataConfig
from vidgen_jax.errors import UserError
from vidgen_jax.sample import Sampler, class_index, sample, write_samples

pytest_plugins = ("tests.runs",)

DATA = DataConfig(name="none", num_frames=5, resolution=16)


def save_strip(path, frames):
  """uint8[T, H, H, 3] as a picture of square frames, side by side."""
  Image.fromarray(np.concatenate(list(frames), axis=1)).save(path, "PNG")


def random_video(num_frames, size=16, *, seed=0):
  return np.random.default_rng(seed).integers(256, size=(num_frames, size, size, 3), dtype=np.uint8)


def read(folder):
  with np.load(folder / "samples.npz") as stored:
    return {name: stored[name] for name in stored.files}


def dispatch(*words):
  assert cli.dispatch(["sample", *map(str, words)]) == 0


def test_run_and_export_give_the_same_pictures_for_a_seed(run_folder, export_folder, tmp_path):
  options = ("--num_clips=3", "--samples=2", "--seed=5", "--truncation=0.8")
  dispatch(f"--workdir={run_folder}", f"--out={tmp_path / 'run'}", *options)
  dispatch(f"--export={export_folder}", f"--out={tmp_path / 'export'}", *options)
  run, export = read(tmp_path / "run"), read(tmp_path / "export")
  assert {name: value.shape for name, value in run.items()} == {
    "conditioning": (3, 2, 16, 16, 3),
    "samples": (3, 2, 3, 16, 16, 3),
    "truth": (3, 3, 16, 16, 3),
    "label": (3,),
  }
  assert run["samples"].dtype == np.uint8
  assert run["samples"].std() > 1
  for name in ("conditioning", "truth", "label"):
    np.testing.assert_array_equal(run[name], export[name])
  np.testing.assert_allclose(run["samples"].astype(int), export["samples"], atol=1)
  assert not np.array_equal(run["samples"][:, 0], run["samples"][:, 1])
  files = sorted(path.name for path in (tmp_path / "run").iterdir())
  expected = ["clip_000.gif", "clip_001.gif", "clip_002.gif", "contact_sheet.png", "samples.gif", "samples.npz"]
  assert files == expected


def test_truncation_zero_is_the_same_picture_whatever_the_seed(export_folder, tmp_path):
  options = (f"--export={export_folder}", "--num_clips=2", "--truncation=0", "--class=left")
  dispatch(*options, f"--out={tmp_path / 'a'}", "--samples=2")
  dispatch(*options, f"--out={tmp_path / 'b'}", "--seed=9")
  first, second = read(tmp_path / "a"), read(tmp_path / "b")
  np.testing.assert_array_equal(first["samples"][:, 0], first["samples"][:, 1])
  np.testing.assert_array_equal(first["samples"][:, 0], second["samples"][:, 0])
  assert first["label"].tolist() == [1, 1]


def test_longer_than_trained_from_the_users_own_frames(run_folder, tmp_path):
  video = random_video(12)
  save_strip(tmp_path / "mine.jpg", video)
  out = tmp_path / "out"
  words = (f"--workdir={run_folder}", f"--input={tmp_path / 'mine.jpg'}", "--class=up", "--num_frames=9")
  dispatch(*words, f"--out={out}")
  made = read(out)
  np.testing.assert_array_equal(made["conditioning"][0], video[:2])
  np.testing.assert_array_equal(made["truth"][0], video[2:9])
  assert made["samples"].shape == (1, 1, 7, 16, 16, 3)
  with Image.open(out / "clip_000.gif") as gif:
    assert gif.n_frames == 9


def test_a_wide_video_is_cut_to_its_middle_square_and_strided(tmp_path):
  # Thirds of 16 pixels: red, green, blue; the middle square of 32 pixels, halved, is 4 red, 8 green and 4 blue columns.
  colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
  wide = np.broadcast_to(colours.repeat(16, axis=0)[None], (32, 48, 3))
  frames = [Image.fromarray((wide // (index + 1)).astype(np.uint8)) for index in range(4)]
  path = tmp_path / "wide.gif"
  frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=100)
  data = DataConfig(name="none", num_frames=5, resolution=16, frame_stride=2)
  found = clips.video_clips(path, data, num_clips=1, num_frames=5, conditioning_frames=2)
  assert found.truth is None  # only frames 0 and 2 are there
  expected = colours.repeat([4, 8, 4], axis=0)
  np.testing.assert_array_equal(found.conditioning[0, 0], np.broadcast_to(expected, (16, 16, 3)))
  np.testing.assert_array_equal(found.conditioning[0, 1], np.broadcast_to(expected // 3, (16, 16, 3)))


def test_a_folder_gives_its_usable_videos_in_order(tmp_path):
  videos = {"a/one.png": random_video(4, seed=1), "b.png": random_video(9, seed=2), "c.png": random_video(9, seed=3)}
  (tmp_path / "a").mkdir()
  for name, video in videos.items():
    save_strip(tmp_path / name, video)
  (tmp_path / "a" / "broken.mp4").write_bytes(b"no video at all")
  (tmp_path / "a" / "empty.avi").write_bytes(b"")
  save_strip(tmp_path / "a" / "short.png", random_video(1))
  found = clips.video_clips(tmp_path, DATA, num_clips=2, num_frames=5, conditioning_frames=2)
  np.testing.assert_array_equal(found.conditioning, np.stack([videos[name][:2] for name in ("a/one.png", "b.png")]))
  assert found.truth is None  # the first has four frames
  longer = clips.video_clips(tmp_path, DATA, num_clips=8, num_frames=4, conditioning_frames=2)
  assert longer.truth.shape == (3, 2, 16, 16, 3)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("v.mp4", b"nothing", "v.mp4 cannot be used: corrupt or not a video"),
    ("v.mp4", b"", "v.mp4 cannot be used: empty file"),
    ("folder/v.mp4", b"nothing", "folder holds no video of at least 2 frames that can be read"),
    ("", b"", "does not exist; give a video file, a frame strip or a folder of them"),
  ],
)
def test_unusable_input_is_one_line(name, content, message, tmp_path):
  path = tmp_path / (name or "missing.mp4")
  if name:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
  given = path.parent if "/" in name else path
  with pytest.raises(UserError, match=message):
    clips.video_clips(given, DATA, num_clips=2, num_frames=5, conditioning_frames=2)


def test_truth_is_left_out_where_the_data_set_has_no_clip_as_long(run_config):
  arguments = {"num_clips": 2, "conditioning_frames": 2}
  whole = clips.evaluation_clips(run_config.data, num_frames=32, **arguments)
  assert whole.truth.shape == (2, 30, 16, 16, 3)
  beyond = clips.evaluation_clips(run_config.data, num_frames=33, **arguments)
  assert beyond.truth is None
  assert beyond.conditioning.shape == (2, 2, 16, 16, 3)


def test_every_clip_gets_its_own_latents_in_order():
  seen = []

  def draw(batch, key):
    seen.append((len(batch), tuple(jax.random.key_data(key).tolist())))
    number = len(seen)
    return np.stack([np.full((1, 4, 4, 3), 10 * number + value, np.uint8) for value in batch.label])

  sampler = Sampler(draw=draw, batch_size=2, conditioning_frames=1, num_frames=2, class_names=(), data=DATA)
  given = Clips(conditioning=np.zeros((3, 1, 4, 4, 3), np.uint8), truth=None, label=np.arange(3, dtype=np.int32))
  made = sample(sampler, given, samples=2, seed=0)
  assert made.shape == (3, 2, 1, 4, 4, 3)
  # Clips 0 and 1 are drawn in calls 1 and 2, clip 2 in calls 3 and 4.
  assert made[:, :, 0, 0, 0, 0].tolist() == [[10, 20], [11, 21], [32, 42]]
  assert [count for count, _ in seen] == [2, 2, 1, 1]
  assert len({key for _, key in seen}) == 4


def test_the_sheet_has_a_row_for_the_truth_and_for_each_sample(tmp_path):
  frames = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * 40
  video = np.broadcast_to(frames, (6, 64, 64, 3))
  given = Clips(conditioning=video[None, :1], truth=video[None, 1:3], label=np.zeros(1, np.int32))
  write_samples(tmp_path, given, np.stack([video[2:4], video[4:6]])[None])
  sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
  # A strip of 14 pixels for labels; frames of 64 with a border of 2 and a gap of 2.
  assert sheet.shape == (14 + 2 + 3 * 70, 2 + 3 * 70, 3)
  centres = sheet[14 + 2 + 34 :: 70, 2 + 34 :: 70, 0]
  assert centres.tolist() == [[0, 40, 80], [0, 80, 120], [0, 160, 200]]
  assert sheet[16, 36].tolist() == list(sampling.CONDITIONING_COLOUR)
  with Image.open(tmp_path / "clip_000.gif") as gif:
    assert (gif.n_frames, gif.size) == (3, (2 + 3 * 70, 2 + 70))


@pytest.mark.parametrize(("text", "index"), [("up", 0), ("left", 1), ("0", 0), ("1", 1)])
def test_a_class_is_a_name_or_an_index(text, index):
  assert class_index(text, ("up", "left")) == index


@pytest.mark.parametrize("text", ["2", "-1", "Up", ""])
def test_unknown_classes_are_answered_with_the_known_ones(text):
  with pytest.raises(UserError, match="is not a class of the model; it has 0 = up, 1 = left"):
    class_index(text, ("up", "left"))
  with pytest.raises(UserError, match="trained without classes"):
    class_index(text, ())


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("", "give either --workdir of a run or --export"),
    ("--workdir={run} --export={export}", "give either --workdir of a run or --export"),
    ("--export={run}", "is no export: it has no signature.json; make one with `vidgen export`"),
    ("--export={export} --num_frames=9", "makes clips of 5 frames; export the run again with --num_frames=9"),
    ("--export={export} --step=2", "--step belongs to --workdir"),
    ("--export={export} --class=down", "--class=down is not a class of the model; it has 0 = up, 1 = left"),
    ("--export={export} --input={run}", "--class is missing: what --input shows is one of up, left"),
    ("--export={export} --class=0 --input={run}/config.json", "config.json cannot be used: "),
    ("--export={export} --data_dir={run}", "data set 'shape_motion' is not in "),
    ("--workdir={run} --class=1 --input={run}/nothing.mp4", "nothing.mp4 does not exist; give a video file"),
    ("--workdir={run}/nothing", "holds no config.json: no run was started there"),
    ("--workdir={run} --step=3", "has no checkpoint of step 3; it has [2, 4]"),
    ("--workdir={run} --num_frames=2", "num_frames=2 leaves nothing to predict after the 2 given frames"),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, run_folder, export_folder, vidgen, tmp_path):
  given = words.format(run=run_folder, export=export_folder).split()
  assert message in vidgen("sample", f"--out={tmp_path / 'out'}", *given)
  assert list(tmp_path.iterdir()) == []


def test_a_run_without_checkpoints_says_so(run_folder, vidgen, tmp_path):
  workdir = tmp_path / "young"
  workdir.mkdir()
  shutil.copy(run_folder / "config.json", workdir)
  assert "young holds no checkpoint yet" in vidgen("sample", f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
  (workdir / "config.json").write_text(json.dumps({"name": 3})[:-1])
  assert "config.json is damaged: " in vidgen("sample", f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
