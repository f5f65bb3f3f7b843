"""Validation of configs, and the fields that may change on resume."""

import json

import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import differences, from_config_dict, from_dict, template, to_dict, with_data


def _template(algorithm: str = "trivd"):
  config = template(algorithm)
  config.name, config.data.name = "test", "shape_motion"
  config.data.num_frames, config.data.resolution = 8, 32
  return config


@pytest.mark.parametrize("algorithm", ["trivd", "inbetween"])
def test_defaults_are_accepted_and_survive_json(algorithm):
  config = from_config_dict(_template(algorithm))
  assert config.evaluation.num_clips == 0
  assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("train.batch_size", 0, "must be at least 1"),
    ("train.checkpoint_every", 0, "must be at least 1"),
    ("train.checkpoints_to_keep", 0, "must be at least 1"),
    ("train.checkpoints_to_keep", -1, "must be at least 1"),
    ("evaluation.samples", 0, "must be at least 1"),
    ("health.patience", 0, "must be at least 1"),
    ("health.history", 0, "must be at least 1"),
    ("evaluation.standing_batches", 0, "must be at least 1"),
    ("evaluation.training_standing_batches", 0, "must be at least 1"),
    ("evaluation.training_clips", -5, "must be at least 1"),
    ("evaluation.repeats", 0, "must be at least 1"),
    ("evaluation.num_clips", -1, "must not be negative; 0 for all"),
    ("evaluation.num_generated", -1, "must not be negative; 0 for all"),
  ],
)
def test_values_out_of_range_are_named(field, value, message):
  config = _template()
  part, name = field.split(".")
  config[part][name] = value
  with pytest.raises(UserError) as error:
    from_config_dict(config)
  assert str(error.value) == f"config.{field}={value} {message}"


def test_data_sets_and_splits_of_selection_and_results():
  config = from_config_dict(_template())
  assert (config.evaluation.split, config.evaluation.selection_split) == ("test", "train")
  assert config.evaluation_data == config.standing_data == config.data
  other = with_data(config, data="ucf101", split="validation", standing_statistics_data="kinetics", data_dir="/data")
  assert (other.data.name, other.evaluation_data.name, other.standing_data.name) == (
    "shape_motion",
    "ucf101",
    "kinetics",
  )
  assert {data.data_dir for data in (other.data, other.evaluation_data, other.standing_data)} == {"/data"}
  assert other.evaluation.split == "validation"
  # Checkpoints are selected on the training data set.
  chosen = other.for_selection()
  assert (chosen.evaluation_data.name, chosen.evaluation.split) == ("shape_motion", "train")
  assert chosen.standing_data.name == "kinetics"
  assert with_data(config) == config


def test_microbatches_must_divide_the_batch():
  config = _template()
  config.train.batch_size, config.step.accumulate = 10, 4
  with pytest.raises(UserError, match=r"config\.step\.accumulate=4 does not divide batch_size=10"):
    from_config_dict(config)


def test_settings_that_would_be_ignored_are_refused():
  config = _template()
  config.evaluation.pool_samples, config.evaluation.samples = True, 1
  with pytest.raises(UserError, match=r"pool_samples joins several samples of each clip, but evaluation\.samples is 1"):
    from_config_dict(config)
  config.evaluation.samples = 2
  assert from_config_dict(config).evaluation.pool_samples


def test_only_differences_that_forbid_to_resume_are_reported():
  old, new = _template(), _template()
  new.name, new.train.num_steps, new.health.action, new.evaluation.samples = "other", 5, "stop", 3
  new.train.batch_size, new.data.frame_stride = 8, 2
  found = differences(to_dict(from_config_dict(old)), to_dict(from_config_dict(new)))
  assert found == {"data.frame_stride": (1, 2), "train.batch_size": (512, 8)}
