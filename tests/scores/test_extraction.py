"""Features do not depend on batch and devices, follow their protocol, and reject unsuitable clips and weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidgen_jax.errors import UserError
from vidgen_jax.ops.resize import resize
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores import networks
from vidgen_jax.scores.extraction import FeatureExtractor, load_extractor, load_frame_extractor
from vidgen_jax.scores.metrics.preprocessing import C3D_PROTOCOLS
from vidgen_jax.scores.networks import NETWORKS
from vidgen_jax.scores.networks.layers import ClassifierOutput
from vidgen_jax.scores.weights.weight_file import WeightFile, write_weight_file

pytest_plugins = ("tests.classifier_files",)


def mesh_of(count):
  return make_mesh(MeshConfig(), devices=jax.devices()[:count])


class ListedClips:
  """Clips in memory that record which ones were read."""

  def __init__(self, video):
    self.video, self.read = video, []

  def __len__(self):
    return len(self.video)

  def batches(self, batch_size, *, indices=None):
    self.read += list(indices)
    for start in range(0, len(indices), batch_size):
      yield self.video[indices[start : start + batch_size]]


@pytest.fixture(scope="module")
def video():
  return np.random.default_rng(0).integers(256, size=(11, 5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def extractor(classifier):
  return FeatureExtractor(classifier, mesh=mesh_of(8), batch_size=5)


def test_features_equal_the_network_applied_to_scaled_clips(extractor, classifier, video):
  found = extractor.extract(video)
  module = NETWORKS["r3d18"](**classifier.settings)
  expected = jax.jit(module.apply)(classifier.variables, jnp.asarray(video) / 127.5 - 1.0)
  np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found.features, expected.features, rtol=1e-4, atol=1e-5)
  assert (found.features.shape, found.logits.shape) == ((11, 32), (11, 3))
  assert np.ptp(found.features, axis=0).max() > 1e-3  # clips differ


def test_one_device_equals_eight_for_any_batch_size(extractor, classifier, video):
  assert extractor.batch_size == 8  # 5 rounded up to the devices
  single = FeatureExtractor(classifier, mesh=mesh_of(1), batch_size=4)
  a, b = extractor.extract(video), single.extract(video)
  np.testing.assert_allclose(a.features, b.features, rtol=1e-4, atol=1e-5 * np.abs(a.features).max())
  np.testing.assert_allclose(a.logits, b.logits, rtol=1e-4, atol=1e-5 * np.abs(a.logits).max())


def test_clips_are_read_once_for_all_variants(extractor, video):
  clips = ListedClips(video)
  found = extractor.extract_all(clips, variants={"as it is": lambda v: v, "backwards": lambda v: v[:, ::-1]})
  assert clips.read == [*range(11), 10, 10, 10, 10, 10]  # two batches of eight, padded with the last clip
  np.testing.assert_array_equal(found["as it is"].features, extractor.extract(video).features)
  np.testing.assert_array_equal(found["backwards"].features, extractor.extract(video[:, ::-1]).features)
  np.testing.assert_array_equal(extractor.extract_all(clips)[""].logits, extractor.extract(video).logits)


def test_clips_of_another_size_are_resized_as_the_protocol_states(extractor, video):
  large = np.repeat(np.repeat(video[:2], 2, axis=2), 2, axis=3)
  resized = resize(jnp.asarray(large, jnp.float32), 16, 16, "half_pixel_bilinear")
  np.testing.assert_allclose(
    extractor.extract(large).features, extractor.extract(np.asarray(resized, np.uint8)).features, rtol=1e-3, atol=1e-3
  )
  assert extractor.protocol((5, 16, 16, 3)) == "16x16, 5 frames"
  assert extractor.protocol((7, 32, 32, 3)) == "16x16 half pixel bilinear, 7 frames (trained on 5)"
  assert (extractor.label, len(extractor.hash)) == ("r3d18, 3 classes", 12)


def test_grey_channel_is_repeated(extractor, video):
  grey = video[:3, ..., :1]
  expected = extractor.extract(np.repeat(grey, 3, axis=-1)).features
  np.testing.assert_allclose(extractor.extract(grey).features, expected, rtol=1e-5, atol=1e-6)


def test_clips_must_be_uint8(extractor, video):
  floats = (video / 255).astype(np.float32)
  for extract in (extractor.extract, lambda clips: extractor.extract_all(ListedClips(clips))):
    with pytest.raises(UserError, match=r"r3d18 takes clips of uint8 in 0\.\.255, got float32; scale, round and cast"):
      extract(floats)


def test_features_that_are_not_finite_are_a_user_error(classifier, video):
  variables = jax.tree.map(np.copy, classifier.variables)
  variables["params"]["fc"]["bias"][1] = 1e38
  variables["params"]["fc"]["kernel"][:, 1] = 3e38
  broken = FeatureExtractor(dataclasses.replace(classifier, variables=variables), mesh=mesh_of(1), name="w.safetensors")
  with pytest.raises(UserError, match=r"w\.safetensors: the features of clip 0 are not finite"):
    broken.extract(video[:2])


def as_i3d(classifier):
  """An I3D without weights."""
  changes = {"settings": {"num_classes": 400}, "variables": {"params": {}}, "preprocessing": {}, "class_names": ()}
  return dataclasses.replace(classifier, network="i3d", **changes)


def test_unsuitable_clips_and_networks_are_user_errors(classifier):
  i3d = as_i3d(classifier)
  reference = FeatureExtractor(i3d, mesh=mesh_of(1), name="i3d.safetensors")
  with pytest.raises(UserError, match=r"FVD needs at least 9 frames \(--fvd_protocol=reference\), got clips of 8"):
    reference.check((8, 64, 64, 3))
  with pytest.raises(UserError, match="1 or 3 channels, got 4"):
    reference.check((16, 64, 64, 4))
  assert reference.protocol((16, 64, 64, 3)) == "reference, 224x224 legacy bilinear, 16 frames"
  unknown = dataclasses.replace(classifier, network="vgg")
  with pytest.raises(UserError, match="there is no network 'vgg'; the networks are i3d, c3d, r3d18, tsn"):
    FeatureExtractor(unknown, mesh=mesh_of(1))


@pytest.mark.parametrize(("protocol", "epsilon", "unbiased"), [("styleganv", 1e-3, False), ("videogpt", 1e-5, True)])
def test_fvd_protocol_sets_epsilon_and_covariance(protocol, epsilon, unbiased, classifier):
  i3d = as_i3d(classifier)
  extractor = FeatureExtractor(i3d, mesh=mesh_of(1), fvd_protocol=protocol)
  assert (extractor._module.epsilon, extractor.unbiased) == (epsilon, unbiased)
  assert extractor.protocol((16, 64, 64, 3)).startswith(f"{protocol}, 224x224 half pixel bilinear")


def test_c3d_subtracts_its_mean_volume(make_classifier):
  settings = {"num_classes": 4, "width": 1 / 32}
  volume = np.random.default_rng(1).uniform(90, 110, (16, 128, 171, 3)).astype(np.float32)
  weights = make_classifier("c3d", settings, (16, 112, 112, 3))
  plain = FeatureExtractor(weights, mesh=mesh_of(1), name="c3d.safetensors")
  with pytest.raises(UserError, match=r"c3d\.safetensors cannot take clips of 16x64x64x3"):
    plain.check((16, 64, 64, 3))  # the first linear layer has another size
  weights = dataclasses.replace(weights, variables=weights.variables | {"constants": {"mean_volume": volume}})
  extractor = FeatureExtractor(weights, mesh=mesh_of(1), batch_size=1, c3d_protocol="tgan1")
  clip = np.random.default_rng(2).integers(256, size=(1, 16, 20, 20, 3), dtype=np.uint8)
  scaled = C3D_PROTOCOLS["tgan1"](jnp.asarray(clip), volume=jnp.asarray(volume))
  variables = {"params": weights.variables["params"]}
  expected = jax.jit(NETWORKS["c3d"](**settings).apply)(variables, scaled)
  np.testing.assert_allclose(extractor.extract(clip).logits, expected.logits, rtol=1e-3, atol=1e-4)
  assert extractor.protocol((16, 20, 20, 3)) == "tgan1, 128x128 half pixel cubic, 16 frames"
  with pytest.raises(UserError, match="takes clips of 16 frames, got 12"):
    extractor.check((12, 20, 20, 3))


def test_frames_are_embedded_independently(make_classifier, classifier_file, video, tmp_path):
  weights = make_classifier("tsn", {"num_classes": 3, "width": 2}, (3, 16, 16, 3))
  path = tmp_path / "tsn.safetensors"
  write_weight_file(path, weights)
  extractor = load_frame_extractor(path, mesh=mesh_of(1), batch_size=10)
  found = extractor.embed_frames(video[:2])
  assert found.shape == (2, 5, 64)
  # A frame's embedding equals that of a clip that repeats this frame.
  still = FeatureExtractor(weights, mesh=mesh_of(1), batch_size=1).extract(np.repeat(video[1:2, 3:4], 3, axis=1))
  np.testing.assert_allclose(found[1, 3], still.features[0], rtol=1e-3, atol=1e-4 * np.abs(found).max())
  with pytest.raises(UserError, match="holds r3d18, which takes clips"):
    load_frame_extractor(classifier_file, mesh=mesh_of(1))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"preprocessing": {"std": [0.5, 0.0, 0.5]}}, "invalid std .*; .* three finite numbers, .* std .* above 0"),
    ({"preprocessing": {"mean": [0.5, float("nan"), 0.5]}}, "invalid mean .* three finite numbers"),
    ({"preprocessing": {"mean": 0.5}}, "invalid mean 0.5"),
    ({"preprocessing": {"resolution": 0}}, "invalid resolution 0"),
    ({"class_names": ("walk",)}, "its description names 1 classes, but num_classes is 3"),
    ({"preprocessing": {"resolution": "16"}}, "invalid resolution '16'"),
    ({"settings": {"num_classes": 3, "width": "4"}}, "cannot take clips of 5x16x16x3"),
    ({"settings": {"num_classes": 3, "depth": 4}}, "does not take the settings"),
  ],
)
def test_edited_descriptions_are_user_errors(changes, message, classifier):
  with pytest.raises(UserError, match=message):
    FeatureExtractor(dataclasses.replace(classifier, **changes), mesh=mesh_of(1)).check((5, 16, 16, 3))


class ColourOfFrames(nn.Module):
  """A network of frames: mean colours as features, their sum as the only logit."""

  num_classes: int

  def __call__(self, video):
    features = video.mean(axis=(2, 3))
    return ClassifierOutput(features.sum(axis=-1, keepdims=True), features)


def test_networks_of_frames_have_an_axis_of_frames(monkeypatch, video):
  monkeypatch.setattr(networks, "NETWORKS", {"inception": ColourOfFrames})
  weights = WeightFile(
    network="inception", settings={"num_classes": 1}, variables={}, preprocessing={}, source="", source_hash=""
  )
  colours = (np.repeat(np.repeat(video, 2, axis=2), 2, axis=3) / 127.5 - 1).mean(axis=(2, 3))
  found, middle = (
    FeatureExtractor(weights, mesh=mesh_of(1), batch_size=4, fid_frames=frames) for frames in ("all", "middle")
  )
  assert found.protocol((5, 16, 16, 3)) == "pytorch_fid, 299x299 half pixel bilinear, all of 5 frames"
  assert "middle of 5 frames" in middle.protocol((5, 16, 16, 3))
  features = found.extract(video)
  assert (len(features), features.num_frames, len(features[:3].vectors("logits"))) == (11, 5, 15)
  np.testing.assert_allclose(features.features, colours, atol=5e-3)  # The border counts less when frames are resized.
  np.testing.assert_array_equal(features.vectors("features")[5:10], features.features[1])
  only = middle.extract(video)
  np.testing.assert_allclose(only.features, features.features[:, 2:3], atol=1e-6)
  assert only.num_frames == 1


def test_weight_file_is_loaded_by_path(classifier_file, video):
  extractor = load_extractor(classifier_file, mesh=mesh_of(1))
  assert extractor.name == str(classifier_file)
  assert extractor.extract(video[:1]).logits.shape == (1, 3)
  with pytest.raises(UserError, match="nothing"):
    load_extractor(classifier_file.with_name("nothing.safetensors"), mesh=mesh_of(1))
