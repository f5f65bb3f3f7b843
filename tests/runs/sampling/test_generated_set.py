"""Data sets of generated clips contain the clips of the sampler with their labels."""

import io

import numpy as np
import pytest
from PIL import Image

from vidgen_jax import cli
from vidgen_jax.data import records
from vidgen_jax.errors import UserError
from vidgen_jax.runs.sampling import samplers
from vidgen_jax.runs.sampling.clips import empty_clips
from vidgen_jax.runs.sampling.generated_set import GeneratedOptions

pytest_plugins = ("tests.trained_runs",)


def test_the_clips_of_every_class_are_those_of_the_sampler(noise_folder, tmp_path, capsys):
  words = ["data", "build", "generated", f"--workdir={noise_folder}", "--name=made", f"--data_dir={tmp_path}"]
  words += ["--clips_per_class=5", "--test_fraction=0.4", "--seed=3"]
  assert cli.dispatch(words) == 0
  assert "train: 6 clips of 4..4 frames (up 3, left 3)" in capsys.readouterr().out
  info = records.load_info("made", tmp_path)
  assert (info.class_names, dict(info.num_clips)) == (("up", "left"), {"train": 6, "test": 4})
  assert info.manifest["builder"] == "generated"
  assert info.manifest["options"]["workdir"] == str(noise_folder)

  sampler = samplers.workdir_sampler(samplers.load_run(str(noise_folder), num_clips=5))
  found = {}
  for number, (split, count) in enumerate({"train": 3, "test": 2}.items()):
    clips = empty_clips(sampler.data, num_clips=count).of_classes([0, 1])
    expected = samplers.draw_sample(sampler, clips, sample=number, seed=3)
    stored = records.open_split(info, split)
    for index in range(len(stored)):
      record = stored[index]
      found[record["source"], split] = video = np.stack(
        [np.asarray(Image.open(io.BytesIO(x))) for x in record["frames"]]
      )
      number_of_clip = int(record["source"].decode().rpartition(" ")[2])
      np.testing.assert_array_equal(video, expected[number_of_clip])
      assert record["label"] == clips.label[number_of_clip]
  assert len(found) == 10
  assert len({video.tobytes() for video in found.values()}) == 10


def test_an_existing_data_set_is_replaced_only_with_overwrite(noise_folder, tmp_path, vidgen):
  words = ["data", "build", "generated", f"--workdir={noise_folder}", "--name=made", f"--data_dir={tmp_path}"]
  words += ["--clips_per_class=1", "--test_fraction=0"]
  assert cli.dispatch(words) == 0
  assert dict(records.load_info("made", tmp_path).num_clips) == {"train": 2}
  assert "already built" in vidgen(*words)
  assert cli.dispatch([*words, "--overwrite"]) == 0


def test_models_with_conditioning_frames_are_rejected(run_folder, tmp_path, vidgen):
  words = ["data", "build", "generated", f"--workdir={run_folder}", "--name=made", f"--data_dir={tmp_path}"]
  assert "the model needs conditioning frames" in vidgen(*words)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({}, "give either --workdir"),
    ({"workdir": "a", "export": "b"}, "give either --workdir"),
    ({"export": "b", "step": 3}, "--step and --weights need --workdir"),
    ({"export": "b", "weights": "raw"}, "--step and --weights need --workdir"),
    ({"workdir": "a", "test_fraction": 1.0}, "--test_fraction=1 must be in"),
    ({"workdir": "a", "clips_per_class": 1}, "--clips_per_class=1 leaves no training clip"),
    ({"workdir": "a", "clips_per_class": 0, "test_fraction": 0.0}, "--clips_per_class=0 leaves no training clip"),
  ],
)
def test_invalid_options(fields, message):
  with pytest.raises(UserError, match=message):
    GeneratedOptions(name="made", data_dir="data", **fields)
