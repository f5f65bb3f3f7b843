"""Fixtures: weight files of tiny classifiers with random weights."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax.scores.networks import NETWORKS
from vidgen_jax.scores.weights.weight_file import WeightFile, write_weight_file


def _make_classifier(network: str, settings: dict, clip_shape: tuple, *, seed: int = 0, **fields) -> WeightFile:
  """Random weights with batch statistics other than 0 and 1."""
  module = NETWORKS[network](**settings)
  init = jax.jit(lambda key, video: module.init({"params": key}, video))
  variables = init(jax.random.key(seed), jnp.zeros((1, *clip_shape)))
  generator = np.random.default_rng(seed)

  def statistic(path: tuple, x: jax.Array) -> np.ndarray:
    low, high = (0.5, 1.5) if path[-1].key == "var" else (-0.2, 0.2)
    return generator.uniform(low, high, x.shape).astype(np.float32)

  stats = jax.tree.map_with_path(statistic, variables.get("batch_stats", {}))
  nested = jax.tree.map(np.asarray, dict(variables)) | ({"batch_stats": stats} if stats else {})
  conditioning = {"preprocessing": {}, "source": "random", "source_hash": "0" * 64} | fields
  return WeightFile(network=network, settings=settings, variables=nested, **conditioning)


@pytest.fixture(scope="session")
def make_classifier() -> Callable[..., WeightFile]:
  """A function (network, settings, clip shape) -> weights."""
  return _make_classifier


@pytest.fixture(scope="session")
def classifier() -> WeightFile:
  """A 3-D ResNet-18 of width 4 with three classes, for clips of 5 frames of 16x16."""
  settings = {"num_classes": 3, "width": 4, "stem": "torchvision"}
  preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "num_frames": 5, "resolution": 16}
  return _make_classifier("r3d18", settings, (5, 16, 16, 3), preprocessing=preprocessing, class_names=("a", "b", "c"))


@pytest.fixture(scope="session")
def classifier_file(classifier, tmp_path_factory) -> Path:
  """The weight file of `classifier`."""
  path = tmp_path_factory.mktemp("weights") / "classifier.safetensors"
  write_weight_file(path, classifier)
  return path
