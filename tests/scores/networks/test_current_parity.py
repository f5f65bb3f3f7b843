"""Networks of current protocols: imported from the names of the releases, against independent PyTorch networks."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra 'parity'")

from tests.parity import torch_current  # noqa: E402
from vidgen_jax import cli  # noqa: E402
from vidgen_jax.errors import UserError  # noqa: E402
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh  # noqa: E402
from vidgen_jax.scores.extraction import FeatureExtractor  # noqa: E402
from vidgen_jax.scores.networks import VJEPA, Inception, VideoMAE  # noqa: E402
from vidgen_jax.scores.perceptual import PerceptualDistance, load_perceptual_distance  # noqa: E402
from vidgen_jax.scores.set_metrics import SetOptions, SetScorer  # noqa: E402
from vidgen_jax.scores.weights.arrays import SourceArrays  # noqa: E402
from vidgen_jax.scores.weights.importing import abstract_variables, import_weights  # noqa: E402
from vidgen_jax.scores.weights.layouts import convert, detect_naming  # noqa: E402
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file  # noqa: E402

TINY = {"width": 24, "depth": 2, "heads": 4, "hidden": 40, "patch": 4, "num_classes": 5, "side": 12}


def _source(state, path="weights.pt"):
  arrays = {name: value.numpy() for name, value in state.items()}
  return SourceArrays(arrays=arrays, format="pytorch", path=Path(path), sha256="0" * 64)


def _shapes(network, *inputs):
  return jax.eval_shape(network.init, jax.random.key(0), *inputs)


def _check(name, network, reference, shape):
  """Converts the reference's weights and compares both outputs, relative to their spread."""
  video = np.random.default_rng(1).uniform(-1, 1, (*shape, 3)).astype(np.float32)
  converted = convert(name, _source(reference.state_dict()), lambda settings: _shapes(network, video))
  with torch.inference_mode():
    expected = reference(torch.from_numpy(video).permute(0, 4, 1, 2, 3))
  for found, target in zip(jax.jit(network.apply)(converted.variables, video), expected, strict=True):
    assert found.shape == target.shape
    np.testing.assert_allclose(found, target, atol=2e-5 * target.std().item())
  return converted


# The published number of frames, and shorter and longer clips.
@pytest.mark.parametrize("frames", [16, 6, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
  ("name", "build", "reference"),
  [("videomae", VideoMAE, torch_current.VideoMae), ("vjepa", VJEPA, torch_current.VJepa)],
)
def test_transformers(name, build, reference, frames):
  reference = torch_current.randomise(reference(**TINY), seed=0)
  assert _check(name, build(**TINY), reference, (2, frames, 12, 12)).settings == {"num_classes": 5}


@pytest.mark.slow
def test_inception():
  reference = torch_current.randomise(torch_current.Inception(11, 0.125), seed=0)
  _check("inception", Inception(11, width=0.125), reference, (2, 2, 80, 84))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "build", "reference", "settings", "metric", "side"),
  [
    ("inception", Inception, torch_current.Inception, {"width": 0.02, "num_classes": 3}, "frame_fid", 299),
    ("videomae", VideoMAE, torch_current.VideoMae, TINY | {"patch": 56, "side": 224}, "cd_fvd", 224),
    ("vjepa", VJEPA, torch_current.VJepa, TINY | {"patch": 56, "side": 224}, "jedi", 224),
  ],
)
def test_distances_from_clips_as_the_public_codes_compute_them(name, build, reference, settings, metric, side):
  # More vectors than their 24 or 41 values.
  generator, (count, frames) = np.random.default_rng(2), (12, 8) if name == "inception" else (40, 16)
  sets = [generator.integers(low, 256, size=(count, frames, 24, 24, 3), dtype=np.uint8) for low in (0, 150)]
  network = torch_current.randomise(reference(**settings), seed=0)
  features = []
  for video in sets:
    images = torch.from_numpy(video).permute(0, 1, 4, 2, 3).flatten(0, 1) / 255
    images = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    if name != "videomae":
      mean, std = {"inception": (0.5, 0.5), "vjepa": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}[name]
      images = (images - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    clips = images.unflatten(0, (count, frames)).transpose(1, 2)
    with torch.inference_mode():
      found = [network(clip[None])[1].double().numpy() for clip in clips]
    features.append(np.concatenate(found).reshape(-1, found[0].shape[-1]))
  if name == "vjepa":  # The mean over all pairs of the square kernel, times 100.
    (x, y), size = features, features[0].shape[1]
    kernel = lambda a, b: np.mean((a @ b.T / size) ** 2)
    expected = 100 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
  else:
    (mean, cov), (other, cov_other) = ((f.mean(axis=0), np.cov(f.T, bias=name == "videomae")) for f in features)
    roots = np.sqrt(np.linalg.eigvals(cov @ cov_other).real.clip(0))
    expected = np.square(mean - other).sum() + np.trace(cov + cov_other) - 2 * roots.sum()
  shapes = lambda _: _shapes(build(**settings), jax.ShapeDtypeStruct((1, frames, side, side, 3), np.float32))
  variables = convert(name, _source(network.state_dict()), shapes).variables
  weights = WeightFile(
    network=name, settings=settings, variables=variables, preprocessing={}, source="", source_hash=""
  )
  extractor = FeatureExtractor(weights, mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]), batch_size=8)
  real, fake = map(extractor.extract, sets)
  scorer = SetScorer(
    extractor, real, clip_shape=sets[0].shape[1:], options=SetOptions(), real_fields={"split": "x", "num_clips": count}
  )
  (score,) = (score for score in scorer.score("model", [fake]) if score.metric == metric)
  assert score.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("trunk", ["alexnet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_lpips_from_two_files(trunk, tmp_path, capsys):
  reference = torch_current.randomise(torch_current.Lpips(trunk), seed=0)
  state = reference.state_dict()
  heads = {name: value for name, value in state.items() if name.startswith("lin")}
  rest = {name: value for name, value in state.items() if name not in heads} | {"classifier.6.weight": torch.ones(2, 3)}
  for name, arrays in (("trunk.pth", rest), ("heads.pth", heads), ("other.pth", {"x": torch.ones(2)})):
    torch.save(arrays, tmp_path / name)
  words = [
    "weights",
    "import",
    "--network=lpips",
    f"--from={tmp_path}/trunk.pth",
    f"--out={tmp_path}/lpips.safetensors",
  ]
  assert cli.dispatch(words) == 2
  message = capsys.readouterr().err
  assert "missing: params/lin0/kernel" in message and "add --heads, such as alex.pth" in message
  for name, part in (("trunk.pth", "both hold classifier.6.weight"), ("other.pth", "not used: x (1); missing: ")):
    assert cli.dispatch([*words, f"--heads={tmp_path}/{name}"]) == 2
    message = capsys.readouterr().err
    assert part in message and "add --heads" not in message
  assert not cli.dispatch([*words, f"--heads={tmp_path}/heads.pth"])
  found = load_perceptual_distance(f"{tmp_path}/lpips.safetensors")
  assert found.fields["extractor"] == f"lpips, {trunk}"
  found.check((31, 31))
  with pytest.raises(UserError, match=r"^--lpips: .* at least (31x31|16x16) pixels, .*; use a higher resolution$"):
    found.check((15, 40))
  assert cli.dispatch(["weights", "selftest", f"--weights={tmp_path}/lpips.safetensors"]) == 2
  assert "holds lpips, of which no known answers are published" in capsys.readouterr().err
  generator = np.random.default_rng(1)
  first = generator.uniform(-1, 1, (2, 40, 37, 3)).astype(np.float32)
  second = np.clip(first + generator.normal(0, 0.2, first.shape), -1, 1).astype(np.float32)
  with torch.inference_mode():
    expected = reference(*(torch.from_numpy(image).permute(0, 3, 1, 2) for image in (first, second)))
  first, second = jnp.asarray(first), jnp.asarray(second)
  np.testing.assert_allclose(found(first, second), expected, rtol=1e-5)
  weights = read_weight_file(tmp_path / "lpips.safetensors")
  dark = dataclasses.replace(weights, variables=jax.tree.map(np.zeros_like, weights.variables))  # no feature is active
  np.testing.assert_array_equal(PerceptualDistance(dark)(first, second), np.zeros(2))


def test_whole_state_dict_of_lpips():
  # The package numbers the trunk's layers within slices and lists the heads twice.
  state = torch_current.randomise(torch_current.Lpips("alexnet"), seed=0).state_dict()
  slices = {"0": 1, "3": 2, "6": 3, "8": 4, "10": 5}
  renamed = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
  for name, value in state.items():
    parts = name.split(".")
    renamed[f"net.slice{slices[parts[1]]}.{parts[1]}.{parts[2]}" if parts[0] == "features" else name] = value
  renamed |= {f"lins.{i}.model.1.weight": state[f"lin{i}.model.1.weight"] for i in range(5)}
  found, expected = (import_weights("lpips", _source(arrays)).tensors for arrays in (renamed, state))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
  ("name", "build", "size"),
  [
    # Parameters and statistics; of Inception-v3 those of torchvision's without its auxiliary head, for 1008 classes.
    pytest.param("inception", torch_current.Inception, 23_885_392, marks=pytest.mark.slow),
    pytest.param("videomae", torch_current.VideoMae, 1_011_855_918, marks=pytest.mark.slow),
    ("vjepa", torch_current.VJepa, 651_916_974),
  ],
)
def test_published_sizes_have_the_names_of_the_releases(name, build, size):
  with torch.device("meta"):
    state = {key: value for key, value in build().state_dict().items() if not key.endswith("num_batches_tracked")}
  arrays = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in state.items()}
  naming = detect_naming(SourceArrays(arrays=arrays, format="pytorch", path=Path("x"), sha256=""))
  assert naming is not None and naming.network == name
  shapes = abstract_variables(name, dict(naming.settings))
  leaves = {tuple(entry.key for entry in path): leaf for path, leaf in jax.tree.leaves_with_path(shapes)}
  assert sum(leaf.size for leaf in leaves.values()) == size
  for path, leaf in leaves.items():
    array = arrays.pop(naming.foreign(path))
    expected = leaf.shape if path[-1] != "kernel" else (*leaf.shape[:-3:-1], *leaf.shape[:-2])
    assert array.shape == expected, path
  assert set(arrays) <= {f"classifier.module.pooler.cross_attention_block.xattn.proj.{n}" for n in ("weight", "bias")}
