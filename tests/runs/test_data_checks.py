"""Mismatches between a config and its data sets: one line before anything is compiled, and warnings."""

import numpy as np
import pytest
from PIL import Image

from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.data.records import DatasetInfo
from vidgen_jax.errors import UserError
from vidgen_jax.runs import data_checks
from vidgen_jax.runs.config import from_config_dict, template

SIX = tuple("abcdef")


def _config(algorithm: str = "mvt", /, **fields: object):
  config = template(algorithm)
  config.name, config.data.name, config.data.num_frames, config.data.resolution = "test", "mines", 8, 16
  config.train.batch_size, config.evaluation.standing_batch_size = 4, 4
  config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
  return from_config_dict(config)


@pytest.fixture
def data_sets(monkeypatch, tmp_path):
  """Function (name, class names, frames of each clip by split) that adds a data set without files."""
  sets: dict[str, DatasetInfo] = {}

  def add(name: str, class_names=SIX, **num_frames: list[int]) -> None:
    lengths = {split: np.array(frames, np.int32) for split, frames in num_frames.items()}
    labels = {split: np.arange(len(frames)) % len(class_names) for split, frames in lengths.items()}
    facts = {"num_frames": lengths, "labels": labels, "manifest": {}}
    sets[name] = DatasetInfo(name=name, directory=tmp_path / name / "1.0.0", class_names=class_names, **facts)

  monkeypatch.setattr(data_checks.records, "load_info", lambda name, data_dir: sets[name])
  monkeypatch.setattr(data_checks, "_warn_about_frames", lambda data: None)
  return add


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (
      {"algorithm__num_classes": 4},
      "data set 'mines' has 6 classes, algorithm.num_classes is 4; set it to 6 or 'data'",
    ),
    (
      {"algorithm__num_classes": 7},
      "data set 'mines' has 6 classes, algorithm.num_classes is 7; set it to 6 or 'data'",
    ),
    (
      {"data__train_split": "training"},
      "training needs windows of 8 frames, data.frame_stride=1, in data.train_split=training, but data set 'mines' has "
      "no split 'training', only test, train; choose one of them, or build it with this split",
    ),
    (
      {"evaluation__selection_split": "validation"},
      "validation (train.image_every=5000, train.evaluate_every=0) needs windows of 8 frames, data.frame_stride=1, in "
      "evaluation.selection_split=validation, but data set 'mines' has no split 'validation', only test, train; choose "
      "one of them, or build it with this split",
    ),
    # Windows of 8 frames fit clips of 12; every second frame of 15 does not.
    (
      {"data__frame_stride": 2},
      "training needs windows of 8 frames, data.frame_stride=2, in data.train_split=train, but data set 'mines' has no "
      "clip of 15 frames in split 'train' (the longest has 12); lower data.num_frames or data.frame_stride, or build "
      "it with longer clips",
    ),
    (
      {"evaluation__selection_split": "test", "data__num_frames": 11},
      "validation (train.image_every=5000, train.evaluate_every=0) needs windows of 11 frames, data.frame_stride=1, in "
      "evaluation.selection_split=test, but data set 'mines' has no clip of 11 frames in split 'test' (the longest has "
      "10); lower data.num_frames or data.frame_stride, or build it with longer clips",
    ),
  ],
)
def test_a_training_that_does_not_fit_its_data_is_one_line(fields, message, data_sets):
  data_sets("mines", train=[12] * 8, test=[10] * 3)
  with pytest.raises(UserError) as error:
    data_checks.check_training(_config(**fields))
  assert str(error.value) == message


@pytest.mark.parametrize("algorithm", ["trivd", "mvt", "inbetween", "sr_cgan"])
def test_a_model_without_classes_accepts_every_data_set(algorithm, data_sets):
  data_sets("mines", train=[16] * 8)
  data_checks.check_training(_config(algorithm, **({"algorithm__num_classes": 1} if algorithm == "mvt" else {})))


def test_only_what_a_training_reads_is_needed(data_sets):
  data_sets("mines", train=[12] * 8)
  missing = {"algorithm__num_classes": 6, "evaluation__selection_split": "test"}
  data_checks.check_training(_config(**missing, train__image_every=0))
  data_checks.check_training(_config(**missing), validates=False)
  with pytest.raises(UserError, match="no split 'test'"):
    data_checks.check_training(_config(**missing))


def test_a_label_beyond_the_classes_is_damage(data_sets):
  data_sets("mines", class_names=("a", "b"), train=[12] * 8)
  data_checks.records.load_info("mines", "").labels["train"][3] = 2
  message = r"has the label 2 in split 'train', but labels of 2 classes are 0\.\.1; build it again with: vidgen data"
  with pytest.raises(UserError, match=message):
    data_checks.check_training(_config(algorithm__num_classes=2))


def test_few_clips_are_logged(data_sets, caplog):
  caplog.set_level("INFO")
  data_sets("mines", class_names=("a",), train=[12] * 5, test=[12] * 3)
  few = {"train__batch_size": 8, "train__evaluate_every": 10, "evaluation__selection_split": "test"}
  data_checks.check_training(_config("trivd", **few))
  assert [record.getMessage() for record in caplog.records] == [
    "data set 'mines' has 5 training clips, less than train.batch_size=8: batches repeat clips",
    "data set 'mines' has 3 clips in split 'test', less than evaluation.training_clips=256; all are scored",
  ]


def test_few_clips_for_standing_statistics_are_logged(data_sets, caplog):
  data_sets("mines", class_names=("a",), train=[12] * 3, test=[12])
  data_sets("others", class_names=("a",), train=[12] * 2)
  fields = {"train__batch_size": 3, "evaluation__standing_data": "others", "evaluation__selection_split": "test"}
  warnings = []
  for size in (2, 3):
    data_checks.check_training(_config("trivd", evaluation__standing_batch_size=size, **fields))
    warnings.append([record.getMessage() for record in caplog.records if record.levelname == "WARNING"])
  assert warnings == [
    [],
    ["data set 'others' has 2 training clips, less than evaluation.standing_batch_size=3: batches repeat clips"],
  ]


def test_scoring_needs_clips_of_its_own_length_and_data_sets(data_sets, caplog):
  data_sets("mines", train=[12] * 8, test=[10, 20, 30])
  data_sets("others", class_names=tuple("ab"), train=[12] * 8, test=[30])
  scored = _config(algorithm__num_classes=6, evaluation__num_clips=5)
  data_checks.check_scoring(scored, num_frames=20, standing_frames=1, fewest=2)
  assert "has 2 clips of 20 frames in split 'test', fewer than evaluation.num_clips=5; all are used" in caplog.text
  with pytest.raises(
    UserError, match="has 1 clips of 30 frames in split 'test', but the scores need 2; choose another"
  ):
    data_checks.check_scoring(scored, num_frames=30, standing_frames=1, fewest=2)
  with pytest.raises(UserError, match="pooling of standing statistics needs windows of 16 frames"):
    data_checks.check_scoring(scored, num_frames=20, standing_frames=16)
  data_checks.check_scoring(scored, num_frames=20, standing_frames=None)
  for field in ("data", "standing_data"):
    other = _config(algorithm__num_classes=6, **{f"evaluation__{field}": "others"})
    with pytest.raises(UserError, match=r"'others' has 2 classes, algorithm\.num_classes is 6; choose a data set with"):
      data_checks.check_scoring(other, num_frames=8, standing_frames=1)


def test_all_windows_of_a_clip_count(data_sets):
  data_sets("mines", class_names=("a",), train=[8], test=[8, 15, 7])
  every = _config("trivd", data__eval_window="all", data__eval_window_stride=3)
  # One window in the first clip, and those that begin at 0, 3 and 6 in the second one.
  assert data_checks.check_scoring(every, num_frames=8, standing_frames=None, fewest=4) == 4
  assert data_checks.check_scoring(_config("trivd"), num_frames=8, standing_frames=None) == 2
  with pytest.raises(UserError, match="has 4 clips"):
    data_checks.check_scoring(every, num_frames=8, standing_frames=None, fewest=5)


@pytest.fixture(scope="module")
def grey_data(tmp_path_factory):
  """data_dir of 'mines': a grey clip of 10 frames of 16x16 in each of three classes, without a test split."""
  root = tmp_path_factory.mktemp("grey")
  for name in "abc":
    folder = root / "source" / "train" / name
    folder.mkdir(parents=True)
    Image.fromarray(np.full((16, 160, 3), ord(name), np.uint8)).save(folder / "clip.png")
  build_video_folder(VideoFolderOptions(source=str(root / "source"), name="mines", data_dir=str(root), num_workers=1))
  return str(root)


def test_the_number_of_classes_comes_from_the_data(grey_data, tmp_path, caplog):
  assert _config(data__data_dir=grey_data).algorithm.num_classes == 3  # The default of `template("mvt")`.
  assert _config("trivd", data__data_dir=grey_data).algorithm.num_classes == 1
  assert _config("trivd", data__data_dir=grey_data, algorithm__num_classes="data").algorithm.num_classes == 3
  caplog.set_level("INFO")
  assert _config(data__data_dir=str(tmp_path)).algorithm.num_classes == 1
  assert f"data set 'mines' is not in {tmp_path}; algorithm.num_classes='data' counts as 1" in caplog.text
  with pytest.raises(UserError, match=r"config\.algorithm\.num_classes='date' must be of type int"):
    _config(algorithm__num_classes="date")


def test_grey_and_enlarged_frames_are_warnings(grey_data, caplog):
  large = _config(data__data_dir=grey_data, data__resolution=32)
  data_checks.check_training(large)
  assert "'mines' has frames of 16x16 pixels, which are enlarged to 32; build it with a larger --size" in caplog.text
  assert "'mines' seems to be grey, but data.channels is 3; set data.channels and algorithm.channels" in caplog.text
  caplog.clear()
  grey = {"data__channels": 1, "algorithm__channels": 1, "train__batch_size": 2, "evaluation__standing_batch_size": 2}
  data_checks.check_training(_config(data__data_dir=grey_data, **grey))
  assert not [record for record in caplog.records if record.levelname == "WARNING"]
  with pytest.raises(UserError, match=r"in data\.train_split=train, but data\.resize=none cannot crop"):
    data_checks.check_training(_config(data__data_dir=grey_data, data__resolution=32, data__resize="none"))
