"""Pretrained weights from which the training of a classifier starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict

from vidgen_jax.errors import UserError
from vidgen_jax.scores.weights.weight_file import WeightFile

LAST_LAYERS = ("fc", "fc8")
"""Names of the networks' last layers, whose outputs are the classes."""


def initial_tensors(
  weights: WeightFile, variables: Mapping[str, Any], *, class_names: Sequence[str], path: str
) -> dict[str, np.ndarray]:
  """Tensors of `weights` with which a classifier starts, by their paths joined by '/'.

  The last layer is included only if the file's classes are known and are those of the data set; otherwise it starts
  anew.

  Args:
    weights: weights of the same network.
    variables: variables of the classifier, or their shapes, nested by collection, module and name.
    class_names: classes of the data set, by label.
    path: weight file, for messages.

  Raises:
    UserError: if any other tensor is missing, unused or of another shape.
  """
  same_classes = tuple(weights.class_names) == tuple(class_names)

  def taken(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {
      name: tensor
      for name, tensor in tensors.items()
      if same_classes or not any(part in LAST_LAYERS for part in name.split("/"))
    }

  found, expected = taken(weights.tensors), taken(flatten_dict(dict(variables), sep="/"))
  for name in sorted(found.keys() | expected.keys()):
    shapes = [tuple(group[name].shape) if name in group else "absent" for group in (found, expected)]
    if shapes[0] != shapes[1]:
      raise UserError(
        f"--init={path}: {name} is {shapes[0]} in the file and {shapes[1]} in the classifier; choose the --network, "
        "--width and, for c3d, the window of the file"
      )
  if not same_classes:
    logging.info("--init=%s: the last layer starts anew, because the file has other or unnamed classes", path)
  return found
