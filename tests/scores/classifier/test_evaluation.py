"""Preprocessing, probabilities and accuracy of classifiers, by hand and against a loop over the clips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.classifiers import NUM_TEST, SIZE, OneWeight, TinyClassifier, grey_clips
from vidgen_jax.data import pipeline
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.runs.config import ExperimentConfig
from vidgen_jax.scores.classifier.evaluation import (
  Accuracy,
  ConfusionCounter,
  accuracy,
  count_predictions,
  window_starts,
)
from vidgen_jax.scores.weights.weight_file import WeightFile

pytest_plugins = ["tests.classifier_fixtures"]


def test_probabilities_of_windows_are_averaged():
  # With w = 3, grey u has the log-odds 3 (u / 127.5 - 1) of class 1: 221 -> 0.90, 110 -> 0.40, 91 -> 0.30, 69 -> 0.20.
  # (0.9, 0.4, 0.4): mean 0.57, class 1, though two windows of three are for 0. (0.9, 0.3, 0.2): mean 0.47, class 0,
  # though 0.9 is the highest probability of all.
  video = np.stack([grey_clips([221, 110, 110]), grey_clips([221, 91, 69])])
  batch = {"video": video, "label": np.zeros(2, np.int32)}
  found = count_predictions(OneWeight(), {"params": {"w": jnp.float32(3)}}, batch)
  np.testing.assert_array_equal(found, [[1, 1], [0, 0]])


def test_windows_are_spread_over_the_whole_clip():
  assert window_starts(9, 1) == [4]
  assert window_starts(9, 2) == [0, 9]
  assert window_starts(9, 4) == [0, 3, 6, 9]
  assert window_starts(0, 3) == [0, 0, 0]


def test_accuracy_by_hand():
  # Rows are true classes: 3 of 4, 1 of 2, and a class without clips.
  found = Accuracy(class_names=("a", "b", "c"), confusion=np.array([[3, 1, 0], [0, 1, 1], [0, 0, 0]]))
  assert (found.num_clips, found.num_right, found.top1) == (6, 4, 4 / 6)


def _weights(config: ExperimentConfig, seed: int = 0) -> WeightFile:
  """Untrained weights, which misclassify many clips."""
  variables = TinyClassifier(2, width=4).init(jax.random.key(seed), jnp.zeros((1, 3, SIZE, SIZE, 3)))
  window = {"num_frames": 3, "frame_stride": 1, "resolution": SIZE, "channels": 3}
  return WeightFile(
    network="r3d18",
    settings={"num_classes": 2, "width": 4, "dropout": 0.3},
    variables=jax.tree.map(np.asarray, dict(variables)),
    preprocessing={"mean": [0.4, 0.5, 0.6], "std": [0.5, 0.25, 0.5], **window},
    source="a test",
    source_hash="0" * 64,
    class_names=("dark", "light"),
    details={"data": config.data.name},
  )


@pytest.mark.parametrize("windows", [1, 3])
def test_accuracy_equals_a_loop_over_the_clips_on_any_number_of_devices(windows, classifier_config):
  data = classifier_config.data
  weights = _weights(classifier_config, seed=1)
  expected = np.zeros((2, 2), int)
  apply = jax.jit(lambda video: TinyClassifier(2, width=4).apply(weights.variables, video).logits)
  # A clip has 4 frames, a window 3, so it begins at 0 or 1; the centre is 1 // 2 = 0.
  whole = dataclasses.replace(data, num_frames=4)
  for batch in pipeline.eval_batches(whole, "test", batch_size=1, num_clips=None):
    chosen = [batch["video"][0, start : start + 3] for start in ([0] if windows == 1 else [0, 0, 1])]
    video = (np.stack(chosen) / np.float32(255) - np.float32([0.4, 0.5, 0.6])) / np.float32([0.5, 0.25, 0.5])
    logits = np.asarray(apply(video))
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected[batch["label"][0], shares.mean(axis=0).argmax()] += 1
  assert expected.sum() == 2 * NUM_TEST
  for devices in (jax.devices(), jax.devices()[:1]):
    mesh = make_mesh(MeshConfig(), devices=devices)
    found = accuracy(weights, data, "test", mesh, batch_size=16, windows=windows)
    np.testing.assert_array_equal(found.confusion, expected)


def test_batches_of_a_split_hold_every_clip_once(classifier_config):
  mesh = make_mesh(MeshConfig())
  counter = ConfusionCounter(OneWeight(), classifier_config.data, "test", mesh, batch_size=3, windows=1)
  batches = list(counter.batches())
  labels = np.concatenate([np.asarray(batch["label"]) for batch in batches])
  assert [batch["video"].shape for batch in batches] == [(8, 1, 3, SIZE, SIZE, 3)] * 3  # 3 rounded up to 8 devices
  assert sorted(labels.tolist()) == [-1] * 4 + [0] * NUM_TEST + [1] * NUM_TEST


def test_other_classes_and_other_windows_are_refused(classifier_config):
  weights, data = _weights(classifier_config), classifier_config.data
  mesh = make_mesh(MeshConfig())
  with pytest.raises(UserError, match=r"'others' has the classes light, medium, but .* 'real' has dark, light"):
    accuracy(weights, dataclasses.replace(data, name="others"), "test", mesh)
  with pytest.raises(UserError, match="'num_frames': 2"):
    accuracy(weights, dataclasses.replace(data, num_frames=2), "test", mesh)
  with pytest.raises(UserError, match="no split 'validation'"):
    accuracy(weights, data, "validation", mesh)
