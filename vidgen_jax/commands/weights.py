"""`vidgen weights`: converts published weights of networks and checks them by known answers."""

import functools
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from vidgen_jax.commands.flag_parsing import values_of
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.parallel.config import MeshConfig
from vidgen_jax.parallel.mesh import make_mesh
from vidgen_jax.parallel.processes import enable_compilation_cache
from vidgen_jax.scores.extraction import CONSTANTS, VOLUME, FeatureExtractor, load_extractor
from vidgen_jax.scores.metrics.set_distance import frechet_distance
from vidgen_jax.scores.networks import FLOW_NETWORKS, NETWORKS
from vidgen_jax.scores.weights.arrays import read_arrays
from vidgen_jax.scores.weights.layouts import convert
from vidgen_jax.scores.weights.weight_file import WeightFile, read_weight_file, write_weight_file

SUMMARY = """Converts published weights of feature and flow networks, and checks them.

  vidgen weights import --network=i3d|c3d|r3d18|tsn|pwc_net --from=FILE --out=NAME.safetensors
      Reads TensorFlow checkpoints and PyTorch files, which needs `pip install 'vidgen-jax[convert]'`, Chainer's .npz
      and .safetensors. Every tensor must be used and every parameter filled. No code of a file runs;
      TorchScript archives, which can run code, need --allow_code. C3D for the inception score on UCF-101 also takes
      --mean=mean2.npz, the mean volume of TGAN's and TGANv2's protocols.
  vidgen weights selftest --weights=NAME.safetensors
      Known answers. I3D: FVD between all-black and all-white clips [16, 15, 64, 64, 3] is about 131 with the weights
      that define FVD (rgb_scratch), about 219 with rgb_imagenet. PWC-Net: the motion of a shifted texture.
  vidgen weights show --weights=NAME.safetensors
      Network, source, hashes, sizes.

Where weights are published: I3D's rgb_scratch in the public kinetics-i3d release (data/checkpoints/rgb_scratch, the
same bytes as TF-Hub's deepmind/i3d-kinetics-400/1); C3D's conv3d_deepnetA_ucf.npz and mean2.npz with TGANv2's release;
PWC-Net's pwc_net.pth.tar with the release of PWC-Net.
"""

RGB_SCRATCH_FVD = 131.0
"""FVD between all-black and all-white clips with rgb_scratch, computed by the reference implementation."""

RGB_IMAGENET_FVD = 219.0

_TOLERANCE = 0.02  # relative: the answers are published without decimals and depend on the hardware's convolutions
_SHIFT = (3.0, -2.0)  # pixels (x, y) by which the texture of the flow network's self-test moves
_PREPROCESSING = {
  # torchvision's R3D_18_Weights and ResNet50_Weights; for Hara's 3D ResNets, mean and standard deviation of Kinetics.
  ("r3d18", "torchvision"): {"mean": [0.43216, 0.394666, 0.37645], "std": [0.22803, 0.22145, 0.216989]},
  ("r3d18", "hara"): {"mean": [0.4345, 0.4051, 0.3775], "std": [0.2768, 0.2713, 0.2737]},
  ("tsn", None): {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `vidgen weights`."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_enum("network", None, [*NETWORKS, *FLOW_NETWORKS], "import: network of the weights", **values)
  flags.DEFINE_string("from", None, "import: file, or prefix of a TensorFlow checkpoint", **values)
  flags.DEFINE_string("mean", None, "import, c3d: .npz or .npy with the mean volume", **values)
  flags.DEFINE_string("out", None, "import: .safetensors file to write", **values)
  flags.DEFINE_bool("allow_code", False, "import: loads TorchScript archives, which can run code", **values)
  flags.DEFINE_string("weights", None, "selftest, show: file made by import", **values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
  """Runs `vidgen weights`; the exit status of a failed self-test is 1."""
  if arguments not in (["import"], ["selftest"], ["show"]):
    raise UserError(f"usage: vidgen weights import|selftest|show [flags]; got {' '.join(arguments) or 'nothing'}")
  (action,) = arguments
  _check_flags(flag_values, action)
  if action == "import":
    options = values_of(flag_values, "network", "from", "out", "mean", "allow_code")
    _import(source=options.pop("from"), **options)
    return None
  weights = read_weight_file(flag_values.weights)
  if action == "show":
    sys.stdout.write(_describe(flag_values.weights, weights))
    return None
  enable_compilation_cache()
  if weights.network in FLOW_NETWORKS:
    passed, report = flow_selftest(weights)
  else:
    passed, report = selftest(load_extractor(flag_values.weights, mesh=make_mesh(MeshConfig()), batch_size=4))
  sys.stdout.write(report)
  return 0 if passed else 1


def _check_flags(flag_values: flags.FlagValues, action: str) -> None:
  needed = ("network", "from", "out") if action == "import" else ("weights",)
  optional = ("mean",) if action == "import" else ()
  for name, value in values_of(flag_values, "network", "from", "mean", "out", "weights").items():
    if name in needed and value is None:
      raise UserError(f"--{name} is required by `vidgen weights {action}`")
    if name not in (*needed, *optional) and value is not None:
      raise UserError(f"--{name} does not apply to `vidgen weights {action}`; leave it out")
  check_writable(flag_values.out, "--out", suffix=".safetensors")


def _import(*, network: str, source: str, out: str, mean: str | None, allow_code: bool) -> None:
  arrays = read_arrays(source, allow_code=allow_code)
  converted = convert(network, arrays, functools.partial(abstract_variables, network))
  variables = dict(converted.variables)
  if mean is not None:
    if network != "c3d":
      raise UserError(f"--mean applies to c3d, not to {network}")
    variables[CONSTANTS] = {VOLUME: read_mean_volume(mean)}
  elif network == "c3d":
    logging.warning("without --mean the weights cannot be used for the published inception score of UCF-101")
  weights = WeightFile(
    network=network,
    settings=converted.settings,
    variables=variables,
    preprocessing=_PREPROCESSING.get((network, converted.settings.get("stem")), {}),
    source=f"{Path(source).name} ({converted.origin}, {arrays.format})",
    source_hash=arrays.sha256,
  )
  if converted.warning:
    logging.warning("%s: %s", source, converted.warning)
  write_weight_file(out, weights)
  logging.info("wrote %s and its description: %s, %s values", out, network, f"{weights.num_values:,}")


def abstract_variables(network: str, settings: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of a network's variables for its constructor's `settings`, as nested dictionaries of ShapeDtypeStruct."""
  keys = {"params": jax.random.key(0)}
  if network in FLOW_NETWORKS:
    flow, image = FLOW_NETWORKS[network](**settings), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: flow.init(keys, x, x), image)
  module = NETWORKS[network](**settings)
  # The published size of clips: the last pool of I3D and the first linear layer of C3D fit no other.
  shape = (1, 16, 112, 112, 3) if network == "c3d" else (1, 16, 224, 224, 3)
  return jax.eval_shape(lambda x: module.init(keys, x), jax.ShapeDtypeStruct(shape, jnp.float32))


def read_mean_volume(path: str) -> np.ndarray:
  """Reads the mean clip of Sports-1M, which C3D's protocols subtract: float32[T, H, W, 3], BGR on [0, 255].

  `path` is a .npy file, or a .npz file with one array: [3, T, H, W] with any axes of length 1.
  """
  try:
    loaded = np.load(path, allow_pickle=False)
    array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    array = np.asarray(array, np.float32)
  except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
    raise UserError(f"--mean={path} cannot be read as .npy or .npz: {' '.join(str(error).split())}") from error
  array = array.reshape([n for n in array.shape if n != 1])
  if array.ndim != 4 or array.shape[0] != 3:
    raise UserError(f"--mean={path} must contain [3, T, H, W], got shape {array.shape}")
  if not 1 < array.max() <= 255 or array.min() < 0:
    raise UserError(f"--mean={path} must contain values on [0, 255], got [{array.min():g}, {array.max():g}]")
  return np.ascontiguousarray(array.transpose(1, 2, 3, 0))


def _describe(path: str, weights: WeightFile) -> str:
  facts = {
    "file": path,
    "network": weights.network,
    "settings": weights.settings,
    "source": weights.source,
    "source sha256": weights.source_hash,
    "hash": weights.hash,
    "values": f"{weights.num_values:,}",
    "preprocessing": weights.preprocessing,
    "classes": ", ".join(weights.class_names),
    **weights.details,
  }
  shown = {name: value for name, value in facts.items() if value not in ("", {}, None)}
  width = max(map(len, shown))
  return "".join(f"{name:<{width}}  {value}\n" for name, value in shown.items())


def selftest(extractor: FeatureExtractor) -> tuple[bool, str]:
  """Checks a feature network by known answers: (whether all are right, one line for each)."""
  answers = [_same_clip_twice(extractor)]
  if extractor.network == "i3d":
    answers.append(_black_against_white(extractor))
  return _report(answers)


def flow_selftest(weights: WeightFile) -> tuple[bool, str]:
  """Like `selftest` for a flow network, by the known motion of a texture, since no answers are published."""
  module = FLOW_NETWORKS[weights.network](**weights.settings)
  variables = jax.tree.map(jnp.asarray, weights.variables)
  found = jax.jit(module.apply)(variables, _texture(np.zeros(2)), _texture(np.array(_SHIFT)))
  middle = np.asarray(found)[0, 32:-32, 32:-32].reshape(-1, 2)
  error = float(np.median(np.linalg.norm(middle - _SHIFT, axis=-1)))
  motion = ", ".join(f"{value:.2f}" for value in np.median(middle, axis=0))
  text = f"found ({motion}) px for ({_SHIFT[0]:g}, {_SHIFT[1]:g}), median error {error:.2f}"
  # Published networks are well below half a pixel on such motion.
  return _report([("texture", error <= 0.5, text)])


def _texture(shift: np.ndarray, *, size: int = 128) -> jax.Array:
  """A smooth texture [1, size, size, 3] in [-1, 1], shifted by (x, y) pixels: the sum of waves in random directions."""
  random = np.random.default_rng(0)
  waves, amplitudes = random.normal(scale=0.25, size=(64, 2)), random.normal(scale=0.1, size=(64, 3))
  phases = random.uniform(0.0, 2.0 * np.pi, 64)
  positions = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1) - shift
  image = np.cos(positions @ waves.T + phases) @ amplitudes
  return jnp.asarray(np.clip(image, -1.0, 1.0)[None], jnp.float32)


def _report(answers: Sequence[tuple[str, bool, str]]) -> tuple[bool, str]:
  lines = [f"{'ok' if passed else 'WRONG':<6}{name}: {text}\n" for name, passed, text in answers]
  return all(passed for _, passed, _ in answers), "".join(lines)


def _same_clip_twice(extractor: FeatureExtractor) -> tuple[str, bool, str]:
  """Checks that a clip's features do not depend on its batch, and differ between clips."""
  shape = (16, 112, 112, 3) if extractor.network == "c3d" else (16, 64, 64, 3)
  clips = np.random.default_rng(0).integers(256, size=(3, *shape), dtype=np.uint8)
  together, alone = extractor.extract(clips), extractor.extract(clips[1:2])
  scale = max(float(np.abs(together.logits).max()), 1e-30)
  difference = float(np.abs(together.logits[1] - alone.logits[0]).max()) / scale
  apart = float(np.abs(together.logits[0] - together.logits[1]).max()) / scale
  text = f"a clip alone and in a batch differ by {difference:.1e}, two noise clips by {apart:.1e} of the largest logit"
  return "batches", difference < 1e-4 < apart, text


def _black_against_white(extractor: FeatureExtractor) -> tuple[str, bool, str]:
  black, white = (extractor.extract(np.full((16, 15, 64, 64, 3), value, np.uint8)).logits for value in (0, 255))
  value = frechet_distance(black, white)
  expected = f"about {RGB_SCRATCH_FVD:g} with rgb_scratch"
  passed = abs(value - RGB_SCRATCH_FVD) <= _TOLERANCE * RGB_SCRATCH_FVD
  if abs(value - RGB_IMAGENET_FVD) <= _TOLERANCE * RGB_IMAGENET_FVD:
    expected += f"; {RGB_IMAGENET_FVD:g} is the answer of rgb_imagenet: these are the wrong weights for FVD"
  return "FVD, black against white", passed, f"{value:.2f}, {expected}"
