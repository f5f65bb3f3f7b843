"""Samples: their latents, and the sheet and arrays that show them."""

import jax
import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.config import DataConfig
from vidgen_jax.media import images
from vidgen_jax.runs.sampling.clips import Clips
from vidgen_jax.runs.sampling.samplers import Sampler
from vidgen_jax.runs.sampling.samples import generate, write_samples

DATA = DataConfig(name="none", num_frames=5, resolution=16)


def test_every_batch_and_sample_has_its_own_latents():
  seen = []

  def draw(batch, key):
    seen.append((len(batch), tuple(jax.random.key_data(key).tolist())))
    number = len(seen)
    return np.stack([np.full((2, 4, 4, 3), 10 * number + value, np.uint8) for value in batch.label])

  sampler = Sampler(draw=draw, batch_size=2, conditioning_indices=(1,), num_frames=2, class_names=(), data=DATA)
  clips = Clips(conditioning=np.zeros((3, 1, 4, 4, 3), np.uint8), truth=None, label=np.arange(3, dtype=np.int32))
  found = generate(sampler, clips, samples=2, seed=0)
  assert found.shape == (3, 2, 2, 4, 4, 3)
  # Calls 1 (clips 0 and 1) and 2 (clip 2) give the first samples, calls 3 and 4 the second ones.
  assert found[:, :, 0, 0, 0, 0].tolist() == [[10, 30], [11, 31], [22, 42]]
  assert [count for count, _ in seen] == [2, 1, 2, 1]
  assert len({key for _, key in seen}) == 4


@pytest.mark.parametrize("conditioning_indices", [(0,), (0, 2), (1,), ()])
@pytest.mark.parametrize("with_truth", [True, False])
def test_the_sheet_has_a_row_for_the_truth_and_for_each_sample(conditioning_indices, with_truth, tmp_path):
  frames = np.arange(9, dtype=np.uint8).reshape(3, 3, 1, 1, 1) * 20
  truth, *samples = np.broadcast_to(frames, (3, 3, 64, 64, 3))
  conditioning = truth[None, list(conditioning_indices)]
  clip = Clips(conditioning=conditioning, truth=truth[None] if with_truth else None, label=np.zeros(1, np.int32))
  sampler = Sampler(
    draw=lambda clips, key: None, batch_size=1, conditioning_indices=conditioning_indices, num_frames=3, data=DATA
  )
  write_samples(tmp_path, sampler, clip, np.stack(samples)[None])
  with np.load(tmp_path / "samples.npz") as file:
    stored = dict(file)
  assert stored["conditioning_indices"].tolist() == list(conditioning_indices)
  assert stored["conditioning"].shape == (1, len(conditioning_indices), 64, 64, 3)
  assert ("truth" in stored) == with_truth
  sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
  # A label strip of 14 pixels; frames of 64 with a border of 2 and a gap of 2.
  rows = 2 + with_truth
  assert sheet.shape == (14 + 2 + rows * 70, 2 + 3 * 70, 3)
  centres = sheet[14 + 2 + 34 :: 70, 2 + 34 :: 70, 0]
  assert centres.tolist() == [[0, 20, 40], [60, 80, 100], [120, 140, 160]][3 - rows :]
  borders = sheet[16::70, 36::70]
  expected = [images.CONDITIONING_COLOUR if t in conditioning_indices else images.GENERATED_COLOUR for t in range(3)]
  np.testing.assert_array_equal(borders[:rows], np.broadcast_to(expected, (rows, 3, 3)))
  with Image.open(tmp_path / "clip_000.gif") as gif:
    assert (gif.n_frames, gif.size) == (3, (2 + rows * 70, 2 + 70))
