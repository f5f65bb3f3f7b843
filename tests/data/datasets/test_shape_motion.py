"""Shape Motion: the generator, compared with the published files."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data import pipeline, records
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets import shape_motion
from vidgen_jax.errors import UserError

# The published circle of 8 pixels.
CIRCLE_8 = """
.#####..
#######.
#######.
########
#######.
#######.
.#####..
...#....
"""


def measure(videos):
  """Statistics of clips uint8[N, 32, 64, 64, 3], measured from pixels only."""
  videos = np.asarray(videos)
  inside = videos.max(-1) > 0
  area = inside.sum((2, 3))
  places = np.arange(64)
  centres = np.stack([inside.sum(3) @ places, inside.sum(2) @ places], -1) / area[..., None]
  steps = np.linalg.norm(np.diff(centres, axis=1), axis=-1)
  travelled = centres[:, 0] - centres[:, -1]
  goes_up = travelled[:, 0] > travelled[:, 1]
  return {
    "area": area,
    "one_colour": all((video[mask] == video[mask][0]).all() for video, mask in zip(videos, inside, strict=True)),
    "goes_up": goes_up,
    "sideways": np.where(goes_up, travelled[:, 1], travelled[:, 0]),
    "steps": steps,
    "along": np.where(goes_up[:, None], centres[..., 0], centres[..., 1]),
    "across": np.where(goes_up[:, None], centres[..., 1], centres[..., 0]),
    "colour": videos.reshape(len(videos), -1, 3).max(1),
    "pixel": videos.mean(),
  }


@pytest.fixture(scope="module")
def generated():
  clips = [shape_motion.generate_clip(0, index) for index in range(400)]
  return measure([video for video, _ in clips]), np.array([label for _, label in clips])


def test_the_circle_is_the_published_one():
  mask = shape_motion.object_mask("circle", 8)
  assert "\n".join("".join(".#"[int(pixel)] for pixel in row) for row in mask) == CIRCLE_8.strip()
  # Counted in the published files.
  areas = [shape_motion.object_mask("circle", size).sum() for size in shape_motion.OBJECT_SIZES]
  assert areas == [47, 79, 111, 151]
  assert shape_motion.object_mask("square", 10).sum() == 100


def test_bezier_by_hand():
  # Degree 2 from 0 over 8 to 0: 2 t (1 - t) 8 = 0, 3, 4, 3, 0 at the quarters. Degree 1 is a straight line.
  control_points = np.array([[0.0, 0.0], [8.0, 2.0], [0.0, 4.0]])
  np.testing.assert_allclose(
    shape_motion.bezier(control_points, 5), [[0, 0], [3, 1], [4, 2], [3, 3], [0, 4]], atol=1e-12
  )
  np.testing.assert_allclose(shape_motion.bezier(np.array([[1.0], [5.0]]), 3), [[1], [3], [5]], atol=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_paths_lead_from_edge_to_edge_and_stay_inside(label):
  for seed in range(50):
    path = shape_motion.sample_path(np.random.default_rng(seed), label, 10)
    assert path.shape == (32, 2)
    # 64 - 2 - 10 = 52.
    assert (path[0, label], path[-1, label]) == (52, 1)
    assert path[0, 1 - label] == path[-1, 1 - label]
    assert path.min() >= 1
    assert path.max() <= 52


def test_a_clip_depends_on_seed_and_index_only():
  video, label = shape_motion.generate_clip(5, 3)
  again, same = shape_motion.generate_clip(5, 3)
  np.testing.assert_array_equal(video, again)
  assert label == same
  assert (video.shape, video.dtype) == ((32, 64, 64, 3), np.uint8)
  assert not np.array_equal(video, shape_motion.generate_clip(5, 4)[0])
  assert not np.array_equal(video, shape_motion.generate_clip(6, 3)[0])


def test_the_label_is_the_direction(generated):
  statistics, labels = generated
  np.testing.assert_array_equal(statistics["goes_up"], labels == shape_motion.CLASS_NAMES.index("up"))
  np.testing.assert_allclose(statistics["sideways"], 0, atol=1e-9)
  assert set(np.unique(statistics["area"])) == {47, 64, 79, 100, 111, 144, 151, 196}
  assert (statistics["area"] == statistics["area"][:, :1]).all()
  assert statistics["one_colour"]


def test_the_distribution_equals_that_of_the_published_files(generated, shared_data):
  statistics, _ = generated
  videos = []
  with zipfile.ZipFile(shared_data / "shape_motion.zip") as archive:
    names = sorted(name for name in archive.namelist() if name.endswith(".png"))
    for name in names[::20]:
      strip = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
      videos.append(strip.reshape(64, 32, 64, 3).transpose(1, 0, 2, 3))
  published = measure(videos)
  # 400 clips each. Tolerances are about four standard errors of the difference of two such means.
  for name, tolerance in (("area", 14.0), ("goes_up", 0.14), ("steps", 0.17), ("colour", 12.0), ("pixel", 0.7)):
    assert abs(statistics[name].mean() - published[name].mean()) < tolerance, name
  # Mean position and its standard deviation at every fifth frame, in pixels.
  for name in ("along", "across"):
    ours, theirs = statistics[name][:, ::5], published[name][:, ::5]
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=4 * theirs.std(0).max() * np.sqrt(2 / 400))
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.2)
  np.testing.assert_allclose(statistics["steps"].mean(0), published["steps"].mean(0), rtol=0.2)
  np.testing.assert_allclose(published["sideways"], 0, atol=1e-9)
  assert set(np.unique(published["area"])) == set(np.unique(statistics["area"]))


def test_the_data_set_contains_the_generated_clips(tmp_path):
  options = shape_motion.ShapeMotionOptions(name="shapes", data_dir=str(tmp_path), num_clips=10, seed=7)
  directory = shape_motion.build_shape_motion(options)
  info = records.load_info("shapes", tmp_path)
  assert info.directory == directory
  assert info.class_names == ("up", "left")
  assert info.num_clips == {"train": 8, "test": 2}
  assert info.fps == (0.0,)
  # Every fifth clip is for testing: 4 and 9.
  config = DataConfig(name="shapes", data_dir=str(tmp_path), num_frames=32, resolution=64)
  (batch,) = pipeline.eval_batches(config, "test", batch_size=5, num_clips=None)
  expected = [shape_motion.generate_clip(7, index) for index in (4, 9)]
  found = sorted((video.tobytes(), int(label)) for video, label in zip(batch["video"], batch["label"], strict=True))
  assert found == sorted((video.tobytes(), label) for video, label in expected)


def test_building_twice_needs_overwrite(tmp_path):
  options = {"name": "shapes", "data_dir": str(tmp_path), "num_clips": 5}
  shape_motion.build_shape_motion(shape_motion.ShapeMotionOptions(**options))
  with pytest.raises(UserError, match="--overwrite"):
    shape_motion.build_shape_motion(shape_motion.ShapeMotionOptions(**options))
  shape_motion.build_shape_motion(shape_motion.ShapeMotionOptions(**options | {"num_clips": 10}, overwrite=True))
  assert sum(records.load_info("shapes", tmp_path).num_clips.values()) == 10
  # The old data set and the staging folder are gone.
  assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_too_few_clips_for_testing_are_refused(tmp_path):
  with pytest.raises(UserError, match="--num_clips"):
    shape_motion.ShapeMotionOptions(name="shapes", data_dir=str(tmp_path), num_clips=4)
