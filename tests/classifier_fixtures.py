"""Fixtures: small data sets with classes, and a tiny classifier in place of the real ones."""

from collections.abc import Iterator

import pytest

from tests.classifiers import SIZE, TinyClassifier, write_clips
from vidgen_jax.data.config import DataConfig
from vidgen_jax.data.datasets.video_folder import VideoFolderOptions, build_video_folder
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs.classifier import classifier_experiment
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.scores import networks


@pytest.fixture(scope="session")
def brightness_data(tmp_path_factory) -> str:
  """data_dir of 'real', 'synthetic' (noisier), and 'others', whose classes have other names."""
  root = tmp_path_factory.mktemp("classes")
  sets = {
    "real": ({"dark": (40, 100), "light": (150, 220)}, 20.0),
    "synthetic": ({"dark": (60, 110), "light": (130, 200)}, 40.0),
    "others": ({"light": (150, 220), "medium": (40, 100)}, 20.0),
  }
  for seed, (name, (levels, noise)) in enumerate(sets.items()):
    write_clips(root / "source" / name, levels, noise=noise, seed=seed)
    source = str(root / "source" / name)
    build_video_folder(VideoFolderOptions(source=source, name=name, data_dir=str(root / "built"), encoding="png"))
  return str(root / "built")


@pytest.fixture(scope="module")
def tiny_network() -> Iterator[None]:
  """Replaces 'r3d18' by the tiny classifier for the tests of one module."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(networks, "NETWORKS", {"r3d18": TinyClassifier})
    yield


@pytest.fixture(scope="module")
def classifier_config(brightness_data, tiny_network) -> ExperimentConfig:
  """A training of three epochs of three steps."""
  del tiny_network
  return classifier_experiment(
    DataConfig(name="real", data_dir=brightness_data, num_frames=3, resolution=SIZE),
    make_mesh(MeshConfig()),
    batch_size=8,
    epochs=3,
    seed=0,
    width=4,
    dropout=0.3,
    learning_rate=0.05,
  )
