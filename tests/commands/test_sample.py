"""Sampling from a run and from its export: the same images, from evaluation clips or from the user's videos."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from vidgen_jax import cli
from vidgen_jax.commands.sample import class_index, sample, write_samples
from vidgen_jax.data import transforms
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.frames import FrameEncoding, resize_smallest_side
from vidgen_jax.errors import UserError
from vidgen_jax.media import images
from vidgen_jax.runs import workdir as workdirs
from vidgen_jax.runs.sampling import clips
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler

pytest_plugins = ("tests.trained_runs",)

DATA = DataConfig(name="none", num_frames=5, resolution=16)


def save_strip(path, frames):
  """uint8[T, H, H, 3] as an image of square frames, side by side."""
  Image.fromarray(np.concatenate(list(frames), axis=1)).save(path, "PNG")


def random_video(num_frames, size=16, *, seed=0):
  return np.random.default_rng(seed).integers(256, size=(num_frames, size, size, 3), dtype=np.uint8)


def read(folder):
  with np.load(folder / "samples.npz") as stored:
    return {name: stored[name] for name in stored.files}


def dispatch(*words):
  assert cli.dispatch(["sample", *map(str, words)]) == 0


def test_run_and_export_give_the_same_images_for_a_seed(run_folder, export_folder, tmp_path):
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
  for made in (run, export):
    for index in range(2):
      np.testing.assert_array_equal(made["samples"][:, index, :2], made["conditioning"])
  np.testing.assert_allclose(run["samples"].astype(int), export["samples"], atol=1)
  assert not np.array_equal(run["samples"][:, 0, 2:], run["samples"][:, 1, 2:])
  files = sorted(path.name for path in (tmp_path / "run").iterdir())
  expected = ["clip_000.gif", "clip_001.gif", "clip_002.gif", "contact_sheet.png", "samples.gif", "samples.npz"]
  assert files == expected


def test_truncation_zero_is_the_same_image_whatever_the_seed(export_folder, tmp_path):
  options = (f"--export={export_folder}", "--num_clips=2", "--truncation=0", "--classes=left")
  dispatch(*options, f"--out={tmp_path / 'a'}", "--samples=2")
  dispatch(*options, f"--out={tmp_path / 'b'}", "--seed=9")
  first, second = read(tmp_path / "a"), read(tmp_path / "b")
  np.testing.assert_array_equal(first["samples"][:, 0], first["samples"][:, 1])
  np.testing.assert_array_equal(first["samples"][:, 0], second["samples"][:, 0])
  assert first["label"].tolist() == [1, 1]


def test_every_clip_is_made_in_each_of_several_classes(export_folder, tmp_path):
  options = (f"--export={export_folder}", "--num_clips=2", "--truncation=0")
  dispatch(*options, "--classes=left,0", f"--out={tmp_path / 'both'}")
  dispatch(*options, "--classes=up", f"--out={tmp_path / 'up'}")
  both, up = read(tmp_path / "both"), read(tmp_path / "up")
  assert both["label"].tolist() == [1, 1, 0, 0]
  np.testing.assert_array_equal(both["samples"][2:], up["samples"])
  np.testing.assert_array_equal(both["conditioning"][:2], both["conditioning"][2:])


def test_longer_than_trained_from_the_users_own_frames(run_folder, tmp_path):
  video = random_video(12)
  save_strip(tmp_path / "mine.jpg", video)
  out = tmp_path / "out"
  words = (f"--workdir={run_folder}", f"--input={tmp_path / 'mine.jpg'}", "--classes=up", "--num_frames=9")
  dispatch(*words, f"--out={out}")
  made = read(out)
  np.testing.assert_array_equal(made["conditioning"][0], video[:2])
  np.testing.assert_array_equal(made["truth"][0], video[:9])
  np.testing.assert_array_equal(made["samples"][0, 0, :2], video[:2])
  assert made["samples"].shape == (1, 1, 9, 16, 16, 3)
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
  found = clips.video_clips(path, data, num_clips=1, num_frames=5, conditioning_indices=(0, 1))
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
  found = clips.video_clips(tmp_path, DATA, num_clips=2, num_frames=5, conditioning_indices=(0, 1))
  np.testing.assert_array_equal(found.conditioning, np.stack([videos[name][:2] for name in ("a/one.png", "b.png")]))
  assert found.truth is None  # the first has four frames
  longer = clips.video_clips(tmp_path, DATA, num_clips=8, num_frames=4, conditioning_indices=(0, 1))
  assert longer.truth.shape == (3, 4, 16, 16, 3)


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
  conditioning = path.parent if "/" in name else path
  with pytest.raises(UserError, match=message):
    clips.video_clips(conditioning, DATA, num_clips=2, num_frames=5, conditioning_indices=(0, 1))


def test_filling_in_between_two_images(inbetween_folder, tmp_path):
  first, last = random_video(2, seed=3)
  wide = np.pad(first, [(0, 0), (4, 4), (0, 0)])
  Image.fromarray(wide).save(tmp_path / "first.png")
  Image.fromarray(last).save(tmp_path / "last.tif")
  out = tmp_path / "out"
  images_flag = f"--conditioning_images={tmp_path / 'first.png'},{tmp_path / 'last.tif'}"
  options = (f"--workdir={inbetween_folder}", "--samples=3", "--formats=gif,mp4,png", "--fps=5")
  dispatch(*options, f"--out={out}", images_flag)
  made = read(out)
  assert "truth" not in made
  assert made["samples"].shape == (1, 3, 8, 16, 16, 3)
  for clip in made["samples"][0]:
    np.testing.assert_array_equal(clip[[0, -1]], [first, last])
  for one, other in ((0, 1), (0, 2), (1, 2)):
    assert np.mean(made["samples"][0, one, 1:-1] != made["samples"][0, other, 1:-1]) > 0.1
  files = {f"clip_000_sample_{sample:02d}.{kind}" for sample in range(3) for kind in ("gif", "mp4", "png")}
  assert {path.name for path in (out / "clips").iterdir()} == files
  with Image.open(out / "clip_000.gif") as gif:
    assert gif.info["duration"] == 200
  # The strip is a video of its own: the whole clip comes back, and its ends are given.
  again = tmp_path / "again"
  strip = out / "clips" / "clip_000_sample_01.png"
  dispatch(f"--workdir={inbetween_folder}", f"--out={again}", f"--input={strip}")
  np.testing.assert_array_equal(read(again)["truth"][0], made["samples"][0, 1])
  np.testing.assert_array_equal(read(again)["samples"][0, 0, [0, -1]], [first, last])
  assert not (again / "clips").exists()


def test_an_export_is_given_images_too(export_folder, tmp_path):
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
  made = read(out)
  assert made["samples"].shape == (1, 2, 5, 16, 16, 3)
  np.testing.assert_array_equal(made["samples"][0, :, :2], [video, video])
  assert not np.array_equal(made["samples"][0, 0], made["samples"][0, 1])


def test_truth_is_left_out_where_the_data_set_has_no_clip_as_long(run_config):
  arguments = {"num_clips": 2, "conditioning_indices": (0, 1)}
  whole = clips.evaluation_clips(run_config.data, num_frames=32, **arguments)
  assert whole.truth.shape == (2, 32, 16, 16, 3)
  np.testing.assert_array_equal(whole.conditioning, whole.truth[:, :2])
  beyond = clips.evaluation_clips(run_config.data, num_frames=33, **arguments)
  assert beyond.truth is None
  assert beyond.conditioning.shape == (2, 2, 16, 16, 3)


def test_evaluation_clips_must_reach_to_the_last_given_frame(run_config):
  ends = clips.evaluation_clips(run_config.data, num_clips=2, num_frames=32, conditioning_indices=(0, 31))
  np.testing.assert_array_equal(ends.conditioning, ends.truth[:, [0, 31]])
  with pytest.raises(UserError, match="has no clip of 33 frames in split 'test'"):
    clips.evaluation_clips(run_config.data, num_clips=2, num_frames=33, conditioning_indices=(0, 32))
  nothing = clips.evaluation_clips(run_config.data, num_clips=2, num_frames=33, conditioning_indices=())
  assert (nothing.conditioning.shape, nothing.truth, len(nothing)) == ((2, 0, 16, 16, 3), None, 2)


def test_a_model_given_both_ends_gets_those_of_the_video(tmp_path, caplog):
  caplog.set_level("INFO")
  lengths = (1, 2, 8, 9, 12)
  for length in lengths:
    save_strip(tmp_path / f"{length:02d}.png", random_video(length, seed=length))
  data = DataConfig(name="none", num_frames=5, resolution=16, frame_stride=2)
  ends = clips.video_clips(tmp_path, data, num_clips=8, num_frames=5, conditioning_indices=(0, 4))
  np.testing.assert_array_equal(ends.conditioning, [random_video(n, seed=n)[[0, -1]] for n in lengths[1:]])
  assert ends.truth is None
  assert "01.png: it has 1 frames, 2 are needed" in caplog.text
  for n in lengths[1:]:
    assert f"{n:02d}.png: of {n} frames 0, {n - 1} are given" in caplog.text
  # Nine frames, each second of them, are the clip of five; with more or fewer nobody knows what lies between.
  exact = clips.video_clips(tmp_path / "09.png", data, num_clips=1, num_frames=5, conditioning_indices=(0, 4))
  np.testing.assert_array_equal(exact.truth, random_video(9, seed=9)[None, ::2])
  np.testing.assert_array_equal(exact.conditioning, exact.truth[:, [0, 4]])
  # Frames between the ends keep their share of the time: 2 / 4 of 11.
  middle = clips.video_clips(tmp_path / "12.png", data, num_clips=1, num_frames=5, conditioning_indices=(0, 2, 4))
  np.testing.assert_array_equal(middle.conditioning, random_video(12, seed=12)[None, [0, 6, 11]])


def test_videos_must_reach_to_the_last_given_frame(tmp_path, caplog):
  caplog.set_level("INFO")
  for length in (8, 9, 12):
    save_strip(tmp_path / f"{length:02d}.png", random_video(length, seed=length))
  data = DataConfig(name="none", num_frames=5, resolution=16, frame_stride=2)
  # Frames 0, 2, ..., 8 are the clip: seven frames are needed for frame 3 of it, one where nothing is given.
  inner = clips.video_clips(tmp_path, data, num_clips=3, num_frames=5, conditioning_indices=(0, 3))
  assert inner.truth is None  # of eight frames
  np.testing.assert_array_equal(inner.conditioning, [random_video(n, seed=n)[[0, 6]] for n in (8, 9, 12)])
  assert "12.png: of 12 frames 0, 6 are given" in caplog.text
  longer = clips.video_clips(tmp_path / "12.png", data, num_clips=1, num_frames=5, conditioning_indices=(0, 3))
  np.testing.assert_array_equal(longer.truth, random_video(12, seed=12)[None, :9:2])
  with pytest.raises(UserError, match=r"08\.png cannot be used: it has 8 frames, 9 are needed"):
    clips.video_clips(tmp_path / "08.png", data, num_clips=1, num_frames=6, conditioning_indices=(0, 4))
  with pytest.raises(UserError, match="holds no video of at least 13 frames"):
    clips.video_clips(tmp_path, data, num_clips=3, num_frames=8, conditioning_indices=(0, 6))
  nothing = clips.video_clips(tmp_path, data, num_clips=3, num_frames=5, conditioning_indices=())
  assert (nothing.conditioning.shape, nothing.truth, len(nothing)) == ((3, 0, 16, 16, 3), None, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_cut_and_resized_like_the_frames_of_a_video(channels, tmp_path, caplog):
  caplog.set_level("INFO")
  wide = np.random.default_rng(1).integers(256, size=(32, 48, 3), dtype=np.uint8)
  Image.fromarray(wide).save(tmp_path / "wide.png")
  high = np.random.default_rng(2).integers(256, size=(50, 21, 3), dtype=np.uint8)
  Image.fromarray(high).save(tmp_path / "high.bmp")
  exact = random_video(1)[0]
  Image.fromarray(exact).save(tmp_path / "exact.png")
  data = DataConfig(name="none", num_frames=5, resolution=16, channels=channels)
  names = ["wide.png", "high.bmp", "exact.png"]
  found = clips.image_clip([tmp_path / name for name in names], data, num_frames=5, conditioning_indices=(0, 2, 4))
  assert (found.conditioning.shape, found.conditioning.dtype) == ((1, 3, 16, 16, channels), np.uint8)
  assert (found.truth, found.label.tolist()) == (None, [0])
  for name, conditioning in zip(names, found.conditioning[0], strict=True):
    with Image.open(tmp_path / name) as image:
      frame = FrameEncoding(encoding="png").encode(resize_smallest_side(image, 16))
    expected = transforms.decode_squares([frame], resolution=16, channels=channels)
    np.testing.assert_array_equal(conditioning, expected[0])
  if channels == 3:
    # The middle 32 columns, each 2 x 2 pixels a mean.
    means = wide[:, 8:40].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.conditioning[0, 0], means, atol=0.51)
    np.testing.assert_array_equal(found.conditioning[0, 2], exact)
  assert "wide.png 48x32: middle 32x32, resized to 16x16; it is frame 0" in caplog.text
  assert "high.bmp 21x50: middle 21x21, resized to 16x16; it is frame 2" in caplog.text
  assert "exact.png 16x16: as it is; it is frame 4" in caplog.text


@pytest.mark.parametrize(
  ("count", "conditioning_indices", "message"),
  [
    (1, (0, 4), "got 1 image, the model needs 2: frames 0, 4 of 5, counted from 0, in this order"),
    (3, (0, 4), "got 3 images, the model needs 2: frames 0, 4 of 5"),
    (0, (0,), "got 0 images, the model needs 1: frame 0 of 5"),
    (1, (), "the model makes clips without being given a frame; leave it out"),
  ],
)
def test_as_many_images_as_given_frames(count, conditioning_indices, message):
  with pytest.raises(UserError, match=message):
    clips.image_clip(["missing.png"] * count, DATA, num_frames=5, conditioning_indices=conditioning_indices)


def test_every_clip_gets_its_own_latents_in_order():
  seen = []

  def draw(batch, key):
    seen.append((len(batch), tuple(jax.random.key_data(key).tolist())))
    number = len(seen)
    return np.stack([np.full((2, 4, 4, 3), 10 * number + value, np.uint8) for value in batch.label])

  sampler = Sampler(draw=draw, batch_size=2, conditioning_indices=(1,), num_frames=2, class_names=(), data=DATA)
  conditioning = Clips(conditioning=np.zeros((3, 1, 4, 4, 3), np.uint8), truth=None, label=np.arange(3, dtype=np.int32))
  made = sample(sampler, conditioning, samples=2, seed=0)
  assert made.shape == (3, 2, 2, 4, 4, 3)
  # The first samples are drawn in calls 1 (clips 0 and 1) and 2 (clip 2), the second ones in calls 3 and 4.
  assert made[:, :, 0, 0, 0, 0].tolist() == [[10, 30], [11, 31], [22, 42]]
  assert [count for count, _ in seen] == [2, 1, 2, 1]
  assert len({key for _, key in seen}) == 4


@pytest.mark.parametrize("conditioning_indices", [(0,), (0, 2), (1,), ()])
@pytest.mark.parametrize("with_truth", [True, False])
def test_the_sheet_has_a_row_for_the_truth_and_for_each_sample(conditioning_indices, with_truth, tmp_path):
  frames = np.arange(9, dtype=np.uint8).reshape(3, 3, 1, 1, 1) * 20
  truth, *samples = np.broadcast_to(frames, (3, 3, 64, 64, 3))
  conditioning = truth[None, list(conditioning_indices)]
  clip = Clips(conditioning=conditioning, truth=truth[None] if with_truth else None, label=np.zeros(1, np.int32))
  write_samples(tmp_path, clip, np.stack(samples)[None], conditioning_indices=conditioning_indices)
  stored = read(tmp_path)
  assert stored["conditioning_indices"].tolist() == list(conditioning_indices)
  assert stored["conditioning"].shape == (1, len(conditioning_indices), 64, 64, 3)
  assert ("truth" in stored) == with_truth
  sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
  # A strip of 14 pixels for labels; frames of 64 with a border of 2 and a gap of 2.
  rows = 2 + with_truth
  assert sheet.shape == (14 + 2 + rows * 70, 2 + 3 * 70, 3)
  centres = sheet[14 + 2 + 34 :: 70, 2 + 34 :: 70, 0]
  assert centres.tolist() == [[0, 20, 40], [60, 80, 100], [120, 140, 160]][3 - rows :]
  borders = sheet[16::70, 36::70]
  expected = [images.GIVEN_COLOUR if t in conditioning_indices else images.GENERATED_COLOUR for t in range(3)]
  np.testing.assert_array_equal(borders[:rows], np.broadcast_to(expected, (rows, 3, 3)))
  with Image.open(tmp_path / "clip_000.gif") as gif:
    assert (gif.n_frames, gif.size) == (3, (2 + rows * 70, 2 + 70))


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
    (
      "--export={export} --num_frames=9",
      "makes clips of 5 frames; a model that can make others must be exported again",
    ),
    ("--export={export} --step=2", "--step belongs to --workdir"),
    ("--export={export} --classes=down", "--classes=down is not a class of the model; it has 0 = up, 1 = left"),
    ("--export={export} --input={run}", "--classes is missing: what --input shows is one of up, left"),
    ("--export={export} --classes=0 --input={run}/config.json", "config.json cannot be used: "),
    (
      "--export={export} --conditioning_images=a.png,b.png",
      "--classes is missing: what --conditioning_images shows is one of up, left",
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
      "--conditioning_images=IMAGE,... and --input=VIDEO exclude each other",
    ),
    ("--export={export} --formats=png,webm", "--formats: 'webm' is none of gif, mp4, png"),
    ("--export={export} --fps=60", "fps"),
    ("--export={export} --data_dir={run}", "data set 'shape_motion' is not in "),
    ("--workdir={run} --classes=1 --input={run}/nothing.mp4", "nothing.mp4 does not exist; give a video file"),
    ("--workdir={run}/nothing", "holds no config.json: no run was started there"),
    ("--workdir={run} --step=3", "has no checkpoint of step 3; it has [2, 4]"),
    ("--workdir={run} --num_frames=2", "num_frames=2 leaves nothing to predict after the 2 conditioning frames"),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, run_folder, export_folder, vidgen, tmp_path):
  conditioning = words.format(run=run_folder, export=export_folder).split()
  assert message in vidgen("sample", f"--out={tmp_path / 'out'}", *conditioning)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["workdir", "export"])
def test_classes_must_be_those_of_the_training(
  source, run_folder, export_folder, relabelled_data_dir, vidgen, tmp_path
):
  model = {"workdir": run_folder, "export": export_folder}[source]
  message = vidgen("sample", f"--{source}={model}", f"--data_dir={relabelled_data_dir}", f"--out={tmp_path / 'out'}")
  assert "has the classes left, up, but the model has up, left" in message
  assert not (tmp_path / "out").exists()


def test_scores_need_the_classes_of_the_training(run_folder, relabelled_data_dir, tmp_path):
  config = workdirs.load_config(str(run_folder))
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, data_dir=relabelled_data_dir))
  trained = workdirs.load_trained(str(run_folder), config=config)
  with pytest.raises(UserError, match="left, up, but the model has up, left"):
    workdirs.check_label_map(trained)


def test_a_run_without_checkpoints_says_so(run_folder, vidgen, tmp_path):
  workdir = tmp_path / "young"
  workdir.mkdir()
  shutil.copy(run_folder / "config.json", workdir)
  assert "young holds no checkpoint yet" in vidgen("sample", f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
  (workdir / "config.json").write_text(json.dumps({"name": 3})[:-1])
  assert "config.json is damaged: " in vidgen("sample", f"--workdir={workdir}", f"--out={tmp_path / 'out'}")
