"""The compared GANs in PyTorch: networks, losses and train step."""

from benchmarks.torch_networks.inbetween import Inbetween
from benchmarks.torch_networks.mvt import Mvt
from benchmarks.torch_networks.training import System, Trainer
from benchmarks.torch_networks.trivd import Trivd
from vidgen_jax.errors import UserError
from vidgen_jax.runs.config import ExperimentConfig

SYSTEMS: dict[str, type[System]] = {"trivd": Trivd, "inbetween": Inbetween, "mvt": Mvt}
"""Systems by the name of the algorithm in configs."""

__all__ = ["SYSTEMS", "Trainer", "build_system"]


def build_system(config: ExperimentConfig, *, channels_last: bool = False) -> System:
  """The networks and losses of a config; UserError if there is no PyTorch version of them."""
  if config.algorithm_name not in SYSTEMS:
    raise UserError(f"--config must be an experiment of {', '.join(SYSTEMS)}, not of {config.algorithm_name}")
  return SYSTEMS[config.algorithm_name](config, channels_last=channels_last)
