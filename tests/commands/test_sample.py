"""`vidgen sample` with a run and with its export: the same images, from evaluation clips or from the user's files."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from absl import flags
from PIL import Image

from tests.strips import random_video, save_strip
from vidgen_jax import cli
from vidgen_jax.commands import sample
from vidgen_jax.commands.sample import class_index
from vidgen_jax.errors import UserError

pytest_plugins = ("tests.trained_runs",)


def read(folder):
  with np.load(folder / "samples.npz") as stored:
    return {name: stored[name] for name in stored.files}


def dispatch(*words):
  assert cli.dispatch(["sample", *map(str, words)]) == 0


def test_run_and_export_generate_the_same_images_for_a_seed(run_folder, export_folder, tmp_path):
  options = ("--num_clips=3", "--samples=2", "--seed=5", "--truncation=0.8")
  dispatch(f"--workdir={run_folder}", f"--out={tmp_path / 'run'}", *options)
  dispatch(f"--export={export_folder}", f"--out={tmp_path / 'export'}", *options)
  run, export = read(tmp_path / "run"), read(tmp_path / "export")
  assert {name: value.shape for name, value in run.items()} == {
    "conditioning": (3, 2, 16, 16, 3),
    "conditioning_indices": (2,),
    "samples": (3, 2, 5, 16, 16, 3),
    "truth": (3, 5, 16, 16, 3),
    "label": (3,),
  }
  assert (run["conditioning_indices"].tolist(), run["conditioning_indices"].dtype) == ([0, 1], np.int32)
  assert run["samples"].dtype == np.uint8
  assert run["samples"][:, :, 2:].std() > 1
  for name in ("conditioning", "conditioning_indices", "truth", "label"):
    np.testing.assert_array_equal(run[name], export[name])
  np.testing.assert_array_equal(run["conditioning"], run["truth"][:, :2])
  for found in (run, export):
    for index in range(2):
      np.testing.assert_array_equal(found["samples"][:, index, :2], found["conditioning"])
  np.testing.assert_allclose(run["samples"].astype(int), export["samples"], atol=1)
  assert not np.array_equal(run["samples"][:, 0, 2:], run["samples"][:, 1, 2:])
  files = sorted(path.name for path in (tmp_path / "run").iterdir())
  expected = ["clip_000.gif", "clip_001.gif", "clip_002.gif", "contact_sheet.png", "samples.gif", "samples.npz"]
  assert files == expected


def test_truncation_zero_gives_the_same_image_for_every_seed(export_folder, tmp_path):
  options = (f"--export={export_folder}", "--num_clips=2", "--truncation=0", "--classes=left")
  dispatch(*options, f"--out={tmp_path / 'a'}", "--samples=2")
  dispatch(*options, f"--out={tmp_path / 'b'}", "--seed=9")
  first, second = read(tmp_path / "a"), read(tmp_path / "b")
  np.testing.assert_array_equal(first["samples"][:, 0], first["samples"][:, 1])
  np.testing.assert_array_equal(first["samples"][:, 0], second["samples"][:, 0])
  assert first["label"].tolist() == [1, 1]


def test_every_clip_is_generated_in_each_class(export_folder, tmp_path):
  options = (f"--export={export_folder}", "--num_clips=2", "--truncation=0")
  dispatch(*options, "--classes=left,0", f"--out={tmp_path / 'both'}")
  dispatch(*options, "--classes=up", f"--out={tmp_path / 'up'}")
  both, up = read(tmp_path / "both"), read(tmp_path / "up")
  assert both["label"].tolist() == [1, 1, 0, 0]
  np.testing.assert_array_equal(both["samples"][2:], up["samples"])
  np.testing.assert_array_equal(both["conditioning"][:2], both["conditioning"][2:])


def test_clips_longer_than_in_training_from_a_video_of_the_user(run_folder, tmp_path):
  video = random_video(12)
  save_strip(tmp_path / "mine.jpg", video)
  out = tmp_path / "out"
  words = (f"--workdir={run_folder}", f"--input={tmp_path / 'mine.jpg'}", "--classes=up", "--num_frames=9")
  dispatch(*words, f"--out={out}")
  found = read(out)
  np.testing.assert_array_equal(found["conditioning"][0], video[:2])
  np.testing.assert_array_equal(found["truth"][0], video[:9])
  np.testing.assert_array_equal(found["samples"][0, 0, :2], video[:2])
  assert found["samples"].shape == (1, 1, 9, 16, 16, 3)
  with Image.open(out / "clip_000.gif") as gif:
    assert gif.n_frames == 9


def test_frames_between_two_images(inbetween_folder, tmp_path):
  first, last = random_video(2, seed=3)
  wide = np.pad(first, [(0, 0), (4, 4), (0, 0)])
  Image.fromarray(wide).save(tmp_path / "first.png")
  Image.fromarray(last).save(tmp_path / "last.tif")
  out = tmp_path / "out"
  images_flag = f"--conditioning_images={tmp_path / 'first.png'},{tmp_path / 'last.tif'}"
  options = (f"--workdir={inbetween_folder}", "--samples=3", "--formats=gif,mp4,png", "--fps=5")
  dispatch(*options, f"--out={out}", images_flag)
  found = read(out)
  assert "truth" not in found
  assert found["samples"].shape == (1, 3, 8, 16, 16, 3)
  for clip in found["samples"][0]:
    np.testing.assert_array_equal(clip[[0, -1]], [first, last])
  for one, other in ((0, 1), (0, 2), (1, 2)):
    assert np.mean(found["samples"][0, one, 1:-1] != found["samples"][0, other, 1:-1]) > 0.1
  files = {f"clip_000_sample_{sample:02d}.{kind}" for sample in range(3) for kind in ("gif", "mp4", "png")}
  assert {path.name for path in (out / "clips").iterdir()} == files
  with Image.open(out / "clip_000.gif") as gif:
    assert gif.info["duration"] == 200
  # The strip is a video: the whole clip is read back, and its ends are conditioning frames.
  again = tmp_path / "again"
  strip = out / "clips" / "clip_000_sample_01.png"
  dispatch(f"--workdir={inbetween_folder}", f"--out={again}", f"--input={strip}")
  np.testing.assert_array_equal(read(again)["truth"][0], found["samples"][0, 1])
  np.testing.assert_array_equal(read(again)["samples"][0, 0, [0, -1]], [first, last])
  assert not (again / "clips").exists()


def test_an_export_accepts_images(export_folder, tmp_path):
  video = random_video(2, seed=4)
  names = [str(tmp_path / f"{index}.png") for index in range(2)]
  for name, frame in zip(names, video, strict=True):
    Image.fromarray(frame).save(name)
  out = tmp_path / "out"
  dispatch(
    f"--export={export_folder}",
    f"--conditioning_images={','.join(names)}",
    "--classes=up",
    "--samples=2",
    f"--out={out}",
  )
  found = read(out)
  assert found["samples"].shape == (1, 2, 5, 16, 16, 3)
  np.testing.assert_array_equal(found["samples"][0, :, :2], [video, video])
  assert not np.array_equal(found["samples"][0, 0], found["samples"][0, 1])


@pytest.mark.parametrize(("text", "index"), [("up", 0), ("left", 1), ("0", 0), ("1", 1)])
def test_class_names_and_indices(text, index):
  assert class_index(text, ("up", "left")) == index


@pytest.mark.parametrize("text", ["2", "-1", "Up", ""])
def test_the_error_for_an_unknown_class_lists_the_known_ones(text):
  with pytest.raises(UserError, match="is not a class of the model; it has 0 = up, 1 = left"):
    class_index(text, ("up", "left"))
  with pytest.raises(UserError, match="trained without classes"):
    class_index(text, ())


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("", "give either --workdir, a run, or --export"),
    ("--workdir={run} --export={export}", "give either --workdir, a run, or --export"),
    ("--export={run}", "is not an export, signature.json is missing; make one with `vidgen export`"),
    (
      "--export={export} --num_frames=9",
      "generates clips of 5 frames; if the model supports other lengths, export it again",
    ),
    ("--export={export} --step=2", "--step and --weights need --workdir"),
    ("--export={export} --classes=down", "--classes=down is not a class of the model; it has 0 = up, 1 = left"),
    ("--export={export} --input={run}", "--input needs --classes, the class to generate: one of up, left"),
    ("--export={export} --classes=0 --input={run}/config.json", "config.json cannot be used: "),
    (
      "--export={export} --conditioning_images=a.png,b.png",
      "--conditioning_images needs --classes, the class to generate: one of up, left",
    ),
    (
      "--export={export} --classes=0 --conditioning_images=a.png",
      "--conditioning_images: got 1 image, the model needs 2: frames 0, 1 of 5",
    ),
    (
      "--export={export} --classes=0 --conditioning_images=a.png,b.png",
      "a.png cannot be read as an image: No such file",
    ),
    (
      "--export={export} --conditioning_images=a.png --input={run}",
      "--conditioning_images and --input exclude each other",
    ),
    ("--export={export} --formats=png,webm", "--formats: 'webm' must be one of gif, mp4, png"),
    ("--export={export} --fps=60", "fps"),
    ("--export={export} --conditioning_images=a.png --num_clips=3", "--conditioning_images makes a single clip"),
    ("--export={export} --data_dir={run}", "data set 'shape_motion' is not in "),
    ("--workdir={run} --classes=1 --input={run}/nothing.mp4", "nothing.mp4 does not exist; give a video file"),
    ("--workdir={run}/nothing", "has no config.json: no run was started there"),
    ("--workdir={run} --step=3", "has no checkpoint of step 3; it has [2, 4]"),
    ("--export={export} --samples=1000000000", "8 clips x 1000000000 samples of 5 frames need 57,220 GiB of memory"),
    ("--export={export} --classes=0 --input=a.mp4 --data=other", "--input and --data exclude each other"),
    ("--export={export} --data=other", "data set 'other' is not in "),
    ("--export={export} --standing_statistics_data=a", "--standing_statistics_data needs --workdir"),
    ("--workdir={run} --num_frames=2", "num_frames=2 leaves nothing to predict after the 2 conditioning frames"),
  ],
)
def test_errors_are_one_line_and_leave_no_files(words, message, run_folder, export_folder, vidgen, tmp_path):
  given = words.format(run=run_folder, export=export_folder).split()
  assert message in vidgen("sample", f"--out={tmp_path / 'out'}", *given)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["data", "split", "input"])
def test_a_model_that_generates_from_noise_takes_no_clips(flag):
  flag_values = flags.FlagValues()
  sample.define_flags(flag_values)
  flag_values(["sample", "--out=unused", f"--{flag}=mine"])
  with pytest.raises(UserError, match=f"--{flag}: the model generates from noise; leave the flag out"):
    sample._clips(flag_values, SimpleNamespace(class_names=(), conditioning_indices=()))


@pytest.mark.parametrize(("command", "source"), [("sample", "workdir"), ("sample", "export"), ("export", "workdir")])
def test_the_data_set_must_have_the_classes_of_the_model(
  command, source, run_folder, export_folder, relabelled_data_dir, vidgen, tmp_path
):
  model = {"workdir": run_folder, "export": export_folder}[source]
  message = vidgen(command, f"--{source}={model}", f"--data_dir={relabelled_data_dir}", f"--out={tmp_path / 'out'}")
  assert "has the classes left, up, but the model has up, left" in message
  assert not (tmp_path / "out").exists()


def test_a_run_without_checkpoints_or_with_a_damaged_config(run_folder, vidgen, tmp_path):
  young = tmp_path / "young"
  young.mkdir()
  shutil.copy(run_folder / "config.json", young)
  assert "young has no checkpoint yet" in vidgen("sample", f"--workdir={young}", f"--out={tmp_path / 'out'}")
  (young / "config.json").write_text(json.dumps({"name": 3})[:-1])
  assert "config.json is damaged: " in vidgen("sample", f"--workdir={young}", f"--out={tmp_path / 'out'}")
