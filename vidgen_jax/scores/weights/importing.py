"""Published weights as weight files: conversion, preprocessing, and the mean volume of C3D."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vidgen_jax.errors import UserError
from vidgen_jax.scores.clip_sets.arrays import DAMAGED_ARRAY_ERRORS
from vidgen_jax.scores.extraction import CONSTANTS, VOLUME
from vidgen_jax.scores.networks import FLOW_NETWORKS, NETWORKS, PAIR_NETWORKS
from vidgen_jax.scores.weights.arrays import SourceArrays, join_arrays, read_arrays
from vidgen_jax.scores.weights.layouts import convert
from vidgen_jax.scores.weights.sources import SOURCES, source_of_file
from vidgen_jax.scores.weights.weight_file import WeightFile

_PREPROCESSING = {
  # torchvision's R3D_18_Weights and ResNet50_Weights; for Hara's 3D ResNets, mean and standard deviation of Kinetics.
  ("r3d18", "torchvision"): {"mean": [0.43216, 0.394666, 0.37645], "std": [0.22803, 0.22145, 0.216989]},
  ("r3d18", "hara"): {"mean": [0.4345, 0.4051, 0.3775], "std": [0.2768, 0.2713, 0.2737]},
  ("tsn", None): {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def import_weights(
  network: str, source: SourceArrays, *, mean: str | Path | None = None, heads: str | Path | None = None
) -> WeightFile:
  """Converts the arrays of a published file; logs what users of the weights should know.

  Args:
    network: name of the network.
    source: arrays of the file.
    mean: file of the mean volume, for C3D.
    heads: second file of networks whose last layers are published separately (LPIPS, V-JEPA).

  Raises:
    UserError: if the files do not fit the network, or the mean volume is not one.
  """
  if mean is not None and network != "c3d":
    raise UserError(f"--mean applies to c3d, not to {network}")
  if heads is not None:
    source = join_arrays(source, read_arrays(heads))
  try:
    converted = convert(network, source, functools.partial(abstract_variables, network))
  except UserError as error:
    if heads is None and (file := next((s.heads for s in SOURCES if s.network == network and s.heads), None)):
      raise UserError(f"{error}; if the last layers are missing, add --heads, such as {file.name}") from error
    raise
  variables = dict(converted.variables)
  if mean is not None:
    variables[CONSTANTS] = {VOLUME: read_mean_volume(mean)}
  elif network == "c3d":
    logging.warning("without --mean the weights cannot be used for the published inception score of UCF-101")
  details = {"mapping": converted.mapping} if converted.mapping else {}
  published = source_of_file(source.git_blob_sha1)
  if published is not None:
    details["published"] = f"{published.name}: {published.page}"
    logging.info("%s is the published file %s of %s", source.path, published.files[-1].name, published.page)
  for warning in (converted.warning, converted.mapping):
    if warning:
      logging.warning("%s: %s", source.path, warning)
  files = " and ".join(Path(path).name for path in (source.path, heads) if path is not None)
  return WeightFile(
    network=network,
    settings=converted.settings,
    variables=variables,
    preprocessing=_PREPROCESSING.get((network, converted.settings.get("stem")), {}),
    source=f"{files} ({converted.origin}, {source.format})",
    source_hash=source.sha256,
    details=details,
  )


def abstract_variables(network: str, settings: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of a network's variables for its constructor's `settings`, as nested dictionaries of ShapeDtypeStruct."""
  keys, of_two_images = {"params": jax.random.key(0)}, {**FLOW_NETWORKS, **PAIR_NETWORKS}
  if network in of_two_images:
    pair, image = of_two_images[network](**settings), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: pair.init(keys, x, x), image)
  module = NETWORKS[network](**settings)
  # The published size of clips: the last pool of I3D and the first linear layer of C3D fit no other.
  shape = (1, 16, 112, 112, 3) if network == "c3d" else (1, 16, 224, 224, 3)
  return jax.eval_shape(lambda x: module.init(keys, x), jax.ShapeDtypeStruct(shape, jnp.float32))


def read_mean_volume(path: str | Path) -> np.ndarray:
  """Reads the mean clip of Sports-1M, which C3D's protocols subtract: float32[T, H, W, 3], BGR on [0, 255].

  `path` is a .npy file, or a .npz file with one array: [3, T, H, W] with any axes of length 1.
  """
  try:
    loaded = np.load(path, allow_pickle=False)
    array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    array = np.asarray(array, np.float32)
  except (IndexError, *DAMAGED_ARRAY_ERRORS) as error:
    raise UserError(f"--mean={path} cannot be read as .npy or .npz: {' '.join(str(error).split())}") from error
  array = array.reshape([n for n in array.shape if n != 1])
  if array.ndim != 4 or array.shape[0] != 3:
    raise UserError(f"--mean={path} must contain [3, T, H, W], got shape {array.shape}")
  if not 1 < array.max() <= 255 or array.min() < 0:
    raise UserError(f"--mean={path} must contain values on [0, 255], got [{array.min():g}, {array.max():g}]")
  return np.ascontiguousarray(array.transpose(1, 2, 3, 0))
