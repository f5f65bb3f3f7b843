"""Which tensors of a weight file a classifier starts from."""

import dataclasses

import numpy as np
import pytest

from vidgen_jax.errors import UserError
from vidgen_jax.scores.classifier.initial import initial_tensors
from vidgen_jax.scores.weights.weight_file import WeightFile

VARIABLES = {
  "params": {"stem": {"kernel": np.ones((3, 2))}, "fc": {"kernel": np.ones((2, 4)), "bias": np.ones(4)}},
  "batch_stats": {"stem": {"mean": np.ones(2)}},
}
WEIGHTS = WeightFile(
  network="tsn",
  settings={},
  variables=VARIABLES,
  preprocessing={},
  source="",
  source_hash="",
  class_names=tuple("abcd"),
)
LAST = {"params/fc/kernel", "params/fc/bias"}


@pytest.mark.parametrize(
  ("stored", "classes", "left_out"),
  [("abcd", "abcd", set()), ("abcd", "abdc", LAST), ("", "abcd", LAST), ("abcd", "ab", LAST)],
  ids=["same", "other order", "unnamed", "fewer"],
)
def test_the_last_layer_is_taken_only_for_the_same_classes(stored, classes, left_out):
  new = VARIABLES | {"params": VARIABLES["params"] | {"fc": {"kernel": np.ones((2, len(classes)))}}}
  new["params"]["fc"]["bias"] = np.ones(len(classes))
  weights = dataclasses.replace(WEIGHTS, class_names=tuple(stored))
  found = initial_tensors(weights, new, class_names=tuple(classes), path="w.safetensors")
  assert set(found) == set(WEIGHTS.tensors) - left_out


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"stem": {"kernel": np.ones((3, 1))}}, r"params/stem/kernel is \(3, 2\) in the file and \(3, 1\)"),
    ({"stem": {}}, "params/stem/kernel is .* in the file and absent"),
    ({"layer": {"kernel": np.ones(1)}}, "params/layer/kernel is absent in the file"),
  ],
)
def test_other_tensors_must_fit(change, message):
  new = VARIABLES | {"params": VARIABLES["params"] | change}
  with pytest.raises(UserError, match=f"--init=w.safetensors: {message}.*; choose the --network"):
    initial_tensors(WEIGHTS, new, class_names=tuple("ab"), path="w.safetensors")
