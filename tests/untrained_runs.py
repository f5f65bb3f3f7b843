"""Runs with initial weights, for tests of sampling that do not need a trained model."""

from pathlib import Path

from vidgen_jax.runs.checkpoint import Checkpointer
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.runs.experiment import build_experiment
from vidgen_jax.runs.workdir import claim


def save_untrained(workdir: Path, config: ExperimentConfig, *, class_names: tuple[str, ...] = ("up", "left")) -> None:
  """Makes a run with its initial weights as checkpoint 0; compiles no train step."""
  claim(str(workdir), config)
  with Checkpointer(str(workdir)) as checkpointer:
    checkpointer.save(0, build_experiment(config).init_state(), {}, {"class_names": class_names})
