"""Conditioning frames chosen by index, by task, or as images, and their positions in the generated clips."""

import numpy as np
import pytest
from PIL import Image

from tests.sheet_cells import read_cells
from vidgen_jax import cli
from vidgen_jax.commands.conditioning_flags import indices_of_task, parse_anchors
from vidgen_jax.errors import UserError
from vidgen_jax.media.images import ANCHOR_COLOUR
from vidgen_jax.runs import workdir
from vidgen_jax.runs.sampling.samplers import with_conditioning_indices

pytest_plugins = ("tests.trained_runs",)


@pytest.mark.parametrize(
  ("task", "of_16", "of_4"),
  [
    ("interpolate", (0, 15), (0, 3)),
    ("inpaint", (0, 1, 2, 13, 14, 15), (0, 3)),
    ("predict", (0, 1, 2, 3, 4, 5), (0,)),
    ("infer", (2, -1), (2, -1)),
    ("generate", (), ()),
  ],
)
def test_tasks(task, of_16, of_4):
  assert indices_of_task(task, num_frames=16, default=(2, -1)) == of_16
  assert indices_of_task(task, num_frames=4, default=(2, -1)) == of_4


def test_anchors_are_parsed():
  assert parse_anchors(["a@b.png@3", "last.png@-1"]) == {3: "a@b.png", -1: "last.png"}


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["a.png"], "--anchor=a.png must be an image and its time"),
    (["a.png@x"], "--anchor=a.png@x must be"),
    (["@3"], "--anchor=@3 must be"),
    (["a.png@1", "b.png@1"], "a.png and b.png have the same time 1"),
  ],
)
def test_malformed_anchors(words, message):
  with pytest.raises(UserError, match=message):
    parse_anchors(words)


def test_conditioning_indices_of_a_config(anchors_folder, run_folder):
  config = workdir.load_config(str(anchors_folder))
  assert with_conditioning_indices(config, (-1, 2)).algorithm.conditioning_indices == (2, 4)
  for frames, message in {
    (5,): "frame 5 is out of range: a clip has 5 frames",
    (4, -1): "one of them occurs twice",
  }.items():
    with pytest.raises(UserError, match=message):
      with_conditioning_indices(config, frames)
  with pytest.raises(UserError, match="the conditioning frames of trivd are fixed"):
    with_conditioning_indices(workdir.load_config(str(run_folder)), (0,))


def sampled(anchors_folder, out, *words):
  assert cli.dispatch(["sample", f"--workdir={anchors_folder}", f"--out={out}", *words]) == 0
  with np.load(out / "samples.npz") as saved:
    return dict(saved)


def test_clips_contain_the_frames_of_the_task_and_differ_elsewhere(anchors_folder, tmp_path):
  found = sampled(anchors_folder, tmp_path / "a", "--task=interpolate", "--num_clips=2", "--samples=2")
  assert list(found["conditioning_indices"]) == [0, 4]
  np.testing.assert_array_equal(found["samples"][:, :, [0, 4]], np.stack([found["truth"][:, [0, 4]]] * 2, axis=1))
  assert np.any(found["samples"][:, 0, 1:4] != found["samples"][:, 1, 1:4])
  free = sampled(anchors_folder, tmp_path / "b", "--task=generate", "--num_clips=2")
  assert free["conditioning"].shape == (2, 0, 16, 16, 3)
  chosen = sampled(anchors_folder, tmp_path / "c", "--conditioning_indices=-1,1", "--num_clips=1")
  assert list(chosen["conditioning_indices"]) == [1, 4]


def test_anchors_are_at_their_times(anchors_folder, tmp_path):
  images = np.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=np.uint8)
  for name, image in zip("ab", images, strict=True):
    Image.fromarray(image).save(tmp_path / f"{name}.png")
  words = [f"--anchor={tmp_path / 'b.png'}@-1", f"--anchor={tmp_path / 'a.png'}@2", "--samples=3"]
  found = sampled(anchors_folder, tmp_path / "out", *words)
  assert found["samples"].shape == (1, 3, 5, 16, 16, 3)
  assert list(found["conditioning_indices"]) == [2, 4]
  for sample in found["samples"][0]:
    np.testing.assert_array_equal(sample[[2, 4]], images)
  _, borders = read_cells(tmp_path / "out" / "contact_sheet.png", rows=3, columns=5)
  is_yellow = (borders == ANCHOR_COLOUR).all(axis=-1)
  np.testing.assert_array_equal(is_yellow, np.isin(np.arange(5), [2, 4])[None].repeat(3, axis=0))


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--task=predict", "--conditioning_indices=0"], "--task and --conditioning_indices exclude each other"),
    (["--anchor=a.png@0", "--conditioning_images=b.png"], "--conditioning_images and --anchor exclude each other"),
    (["--conditioning_indices=0,x"], "--conditioning_indices: 'x' is not an integer"),
    (["--conditioning_indices=7"], "frame 7 is out of range: a clip has 5 frames"),
    (["--anchor=missing.png@0"], "missing.png"),
  ],
)
def test_errors_are_one_line(words, message, anchors_folder, vidgen, tmp_path):
  assert message in vidgen("sample", f"--workdir={anchors_folder}", f"--out={tmp_path / 'out'}", *words)
  assert not (tmp_path / "out").exists()


def test_the_conditioning_frames_of_an_export_are_fixed(vidgen, tmp_path):
  message = vidgen("sample", "--export=somewhere", "--task=predict", f"--out={tmp_path / 'out'}")
  assert "--task needs --workdir" in message
