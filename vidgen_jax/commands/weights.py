"""`vidgen weights`: lists, downloads, converts and checks published weights of networks."""

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from vidgen_jax.commands.flag_parsing import values_of
from vidgen_jax.errors import UserError
from vidgen_jax.files import check_writable
from vidgen_jax.scores.weights.naming import IMPORTABLE
from vidgen_jax.scores.weights.sources import SOURCES, find_source, is_url, listing

if TYPE_CHECKING:
  from vidgen_jax.scores.weights.weight_file import WeightFile

# Modules that use JAX are imported by the functions, so that the list and mistakes in flags appear at once.

_NAMES = textwrap.fill(", ".join(s.name for s in SOURCES), width=112, subsequent_indent=" " * 6)

SUMMARY = """Downloads, converts and checks published weights of feature and flow networks.

  vidgen weights list
      What is published where, with hashes.
  vidgen weights fetch NAME [--from=URL_OR_FILE] [--sha256=HASH] [--out=NAME.safetensors]
      Downloads the weights NAME, verifies the hash and imports them. NAME is one of
      {names}.
  vidgen weights import --network=NETWORK --from=FILE --out=NAME.safetensors
      Converts a file that you have: TorchScript, Chainer's .npz, .safetensors; with `pip install 'vidgen-jax[convert]'`
      also PyTorch state dicts and TensorFlow checkpoints. Every tensor must be used and every parameter filled; no code
      of the file runs. C3D for the inception score on UCF-101 also takes --mean=mean2.npz, the mean volume of TGAN's
      and TGANv2's protocols. LPIPS and V-JEPA are published in two files; the second one is --heads. NETWORK is one of
      {networks}.
  vidgen weights selftest --weights=NAME.safetensors
      Known answers. I3D: FVD between all-black and all-white clips [16, 15, 64, 64, 3] is about 131 with the weights
      that define FVD (rgb_scratch), about 219 with rgb_imagenet. PWC-Net: the motion of a shifted texture.
  vidgen weights show --weights=NAME.safetensors
      Network, source, hashes, sizes.
""".format(names=_NAMES, networks=", ".join(IMPORTABLE))

WEB_FLAGS = ("from", "mean", "heads")

# Flags of each action: required ones, optional ones.
_FLAGS = {
  "list": ((), ()),
  "fetch": ((), ("from", "sha256", "mean", "heads", "out")),
  "import": (("network", "from", "out"), ("mean", "heads")),
  "selftest": (("weights",), ()),
  "show": (("weights",), ()),
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of `vidgen weights`."""
  values: dict[str, Any] = {"flag_values": flag_values}
  flags.DEFINE_enum("network", None, IMPORTABLE, "import: network of the weights", **values)
  text = "import: file, or prefix of a TensorFlow checkpoint; fetch: also an address, default: where it is published"
  flags.DEFINE_string("from", None, text, **values)
  flags.DEFINE_string("sha256", None, "fetch: expected SHA-256 of the file, or its first 8 or more digits", **values)
  flags.DEFINE_string("mean", None, "import, fetch, c3d: .npz or .npy with the mean volume", **values)
  flags.DEFINE_string("heads", None, "import, fetch, lpips, vjepa: second file, with the last layers", **values)
  text = "import, fetch: .safetensors file to write; default of fetch: NAME.safetensors"
  flags.DEFINE_string("out", None, text, **values)
  flags.DEFINE_string("weights", None, "selftest, show: file made by import or fetch", **values)


def run(flag_values: flags.FlagValues, arguments: list[str]) -> int | None:
  """Runs `vidgen weights`; the exit status of a failed self-test is 1."""
  action, *names = arguments or [""]
  if action not in _FLAGS or len(names) != (action == "fetch"):
    got = " ".join(arguments) or "nothing"
    raise UserError(f"usage: vidgen weights list|fetch NAME|import|selftest|show [flags]; got {got}")
  _check_flags(flag_values, action)
  if action == "list":
    sys.stdout.write(listing())
  elif action == "fetch":
    options = values_of(flag_values, "from", "out", "mean", "heads", "sha256")
    _fetch(names[0], origin=options.pop("from"), **options)
  elif action == "import":
    options = values_of(flag_values, "network", "from", "mean", "heads")
    _import(options.pop("network"), options.pop("from"), flag_values.out, **options)
  elif action == "show":
    _show(flag_values.weights)
  else:
    return _selftest(flag_values.weights)
  return None


def _check_flags(flag_values: flags.FlagValues, action: str) -> None:
  needed, optional = _FLAGS[action]
  for name, value in values_of(flag_values, "network", "from", "sha256", "mean", "heads", "out", "weights").items():
    if name in needed and value is None:
      raise UserError(f"--{name} is required by `vidgen weights {action}`")
    if name not in (*needed, *optional) and value is not None:
      raise UserError(f"--{name} does not apply to `vidgen weights {action}`; leave it out")
  for name, value in values_of(flag_values, *WEB_FLAGS).items():
    if action != "fetch" and value and is_url(value):
      raise UserError(f"--{name}={value} must be a local path; `vidgen weights fetch NAME --from=URL` downloads")
  check_writable(flag_values.out, "--out", suffix=".safetensors")
  digits = flag_values.sha256
  if digits is not None and (len(digits) < 8 or set(digits.lower()) - set("0123456789abcdef") or len(digits) > 64):
    raise UserError(f"--sha256={digits} must be 8 to 64 hexadecimal digits")


def _import(network: str, origin: str, out: str, **options: str | None) -> None:
  from vidgen_jax.scores.weights.arrays import read_arrays
  from vidgen_jax.scores.weights.importing import import_weights

  _write(out, import_weights(network, read_arrays(origin), **options))


def _fetch(
  name: str, *, origin: str | None, out: str | None, mean: str | None, heads: str | None, sha256: str | None
) -> None:
  published = find_source(name)
  path = Path(out or f"{name}.safetensors")
  check_writable(str(path), "--out", suffix=".safetensors")
  for flag, value, owners in (("mean", mean, "c3d"), ("heads", heads, "lpips and vjepa")):
    if value and getattr(published, flag) is None:
      raise UserError(f"--{flag} applies to {owners}, not to {name}; leave it out")
  from vidgen_jax.scores.weights.fetching import fetch
  from vidgen_jax.scores.weights.importing import import_weights

  # Next to the result, so that an interrupted download is found again.
  folder = path.with_name(f".{path.stem}.download")
  fetched = fetch(published, folder, origin=origin, mean=mean, heads=heads, sha256=sha256 or "")
  try:
    weights = import_weights(published.network, fetched.source, mean=fetched.mean, heads=fetched.heads)
  except UserError as error:
    kept = f"; the download is kept in {folder}" if folder.exists() else ""
    raise UserError(f"{error}{kept}") from error
  _write(str(path), weights)
  shutil.rmtree(folder, ignore_errors=True)


def _write(path: str, weights: "WeightFile") -> None:
  from vidgen_jax.scores.weights.weight_file import write_weight_file

  write_weight_file(path, weights)
  logging.info("wrote %s and its description: %s, %s values", path, weights.network, f"{weights.num_values:,}")


def _selftest(path: str) -> int:
  from vidgen_jax.parallel.config import MeshConfig
  from vidgen_jax.parallel.mesh import make_mesh
  from vidgen_jax.parallel.processes import enable_compilation_cache
  from vidgen_jax.scores.extraction import load_extractor
  from vidgen_jax.scores.networks import FLOW_NETWORKS, PAIR_NETWORKS
  from vidgen_jax.scores.weights.selftest import flow_selftest, selftest
  from vidgen_jax.scores.weights.weight_file import read_weight_file

  weights = read_weight_file(path)
  enable_compilation_cache()
  if weights.network in PAIR_NETWORKS:
    raise UserError(f"{path} holds {weights.network}, of which no known answers are published")
  if weights.network in FLOW_NETWORKS:
    passed, report = flow_selftest(weights)
  else:
    passed, report = selftest(load_extractor(path, mesh=make_mesh(MeshConfig()), batch_size=4))
  sys.stdout.write(report)
  return 0 if passed else 1


def _show(path: str) -> None:
  from vidgen_jax.scores.weights.weight_file import read_weight_file

  weights = read_weight_file(path)
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
  sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in shown.items()))
