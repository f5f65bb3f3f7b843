"""Numbers in a config that cannot be meant."""

import pytest

from vidgen_jax.runs.config import from_config_dict, template
from vidgen_jax.errors import UserError


def _template(algorithm: str = "trivd"):
  config = template(algorithm)
  config.name, config.data.name = "test", "shape_motion"
  config.data.num_frames, config.data.resolution = 8, 32
  return config


@pytest.mark.parametrize("algorithm", ["trivd", "inbetween"])
def test_the_defaults_are_accepted(algorithm):
  assert from_config_dict(_template(algorithm)).evaluation.num_clips == 0


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("train.batch_size", 0, "must be at least 1"),
    ("train.checkpoint_every", 0, "must be at least 1"),
    ("evaluation.samples", 0, "must be at least 1"),
    ("evaluation.standing_batches", 0, "must be at least 1"),
    ("evaluation.training_standing_batches", 0, "must be at least 1"),
    ("evaluation.training_clips", -5, "must be at least 1"),
    ("evaluation.num_clips", -1, "must not be negative; 0 takes all"),
  ],
)
def test_numbers_out_of_range_are_named(field, value, message):
  config = _template()
  part, name = field.split(".")
  config[part][name] = value
  with pytest.raises(UserError) as error:
    from_config_dict(config)
  assert str(error.value) == f"config.{field}={value} {message}"


def test_what_is_rolled_back_to_must_still_be_there():
  # The oldest of three checkpoints, one in 100 steps, is at least 200 steps old: two windows of 100, and not three.
  config = _template()
  config.train.update({"checkpoint_every": 100, "checkpoints_to_keep": 3, "log_every": 100})
  config.health.update({"action": "roll_back", "patience": 2})
  from_config_dict(config)
  config.health.patience = 3
  message = r"config\.health\.action='roll_back' needs checkpoints from 300 steps ago .* reach back 200; raise train"
  with pytest.raises(UserError, match=message):
    from_config_dict(config)
  config.health.action = "stop"
  from_config_dict(config)
  config.health.action, config.train.keep_every = "roll_back", 500
  from_config_dict(config)


def test_microbatches_must_divide_the_batch():
  config = _template()
  config.train.batch_size, config.step.accumulate = 10, 4
  with pytest.raises(UserError, match=r"config\.step\.accumulate=4 does not divide batch_size=10"):
    from_config_dict(config)
