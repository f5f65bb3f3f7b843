"""Flags that choose the clips of an evaluation, if they are not those of the run's config."""

from typing import Any

from absl import flags

from vidgen_jax.commands.flag_parsing import values_of

NAMES = ("data", "split", "standing_statistics_data", "data_dir")

STRICT_DATA = "a data set that was built again with other clips since the training started is an error, not a warning"
"""Help of --strict_data."""


def define_dataset_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags `NAMES`."""
  values: dict[str, Any] = {"flag_values": flag_values}
  text = "data set of the evaluation clips; default: config.evaluation.data, usually that of the training"
  flags.DEFINE_string("data", None, text, **values)
  flags.DEFINE_string("split", None, "split of the evaluation clips; default: config.evaluation.split", **values)
  text = "data set of the standing statistics; default: config.evaluation.standing_data, usually that of the training"
  flags.DEFINE_string("standing_statistics_data", None, text, **values)
  flags.DEFINE_string("data_dir", None, "folder of the data sets; default: the run's", **values)


def dataset_options(flag_values: flags.FlagValues) -> dict[str, Any]:
  """The arguments of `runs.config.with_data`."""
  return values_of(flag_values, *NAMES)
