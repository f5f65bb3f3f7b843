"""The video discriminator against NumPy, and its shapes."""

import functools

import jax
import numpy as np
import pytest

from vidgen_jax.gans.mvt.networks import VideoDiscriminator
from vidgen_jax.nn.norm import BATCH_STATS
from vidgen_jax.nn.spectral import SPECTRAL_STATS


@pytest.mark.parametrize("batch_norm", [False, True])
def test_logits_against_numpy(batch_norm):
  module = VideoDiscriminator((2, 3), batch_norm=batch_norm, num_classes=4)
  rng = np.random.default_rng(0)
  video, label = rng.normal(size=(2, 4, 8, 4, 1)).astype(np.float32), np.array([3, 1])
  init = functools.partial(module.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), video, label)
  variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
  apply = functools.partial(module.apply, train=True, mutable=[BATCH_STATS, SPECTRAL_STATS])
  found, _ = jax.jit(apply)(variables, video, label)

  def normalised(kernel, u):
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = matrix.T @ v / np.linalg.norm(matrix.T @ v)
    return kernel / (v @ matrix @ u)

  params, stats = variables["params"], variables[SPECTRAL_STATS]
  x = video.astype(np.float64)
  for i in range(2):
    kernel = normalised(params[f"kernel_{i}"], stats[f"kernel_{i}_u"])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((2, *(side // 2 for side in x.shape[1:4]), kernel.shape[-1]))
    for t, r, c in np.ndindex(out.shape[1:4]):
      window = padded[:, 2 * t : 2 * t + 4, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4]
      out[:, t, r, c] = np.einsum("btrcx,trcxo->bo", window, kernel)
    if not batch_norm:
      out += params[f"bias_{i}"]
    elif i:  # The first convolution has neither bias nor normalisation.
      mean, var = out.mean(axis=(0, 1, 2, 3)), out.var(axis=(0, 1, 2, 3))
      out = (out - mean) / np.sqrt(var + 1e-5) * params[f"norm_{i}"]["scale"] + params[f"norm_{i}"]["bias"]
    x = np.where(out > 0, out, 0.2 * out)
  features = x.sum(axis=(1, 2, 3))
  output = params["output"]
  logit = features @ normalised(output["kernel"], stats["output"]["kernel_u"])[:, 0] + output["bias"]
  table = normalised(params["class_embedding"]["embedding"], stats["class_embedding"]["embedding_u"])
  np.testing.assert_allclose(found, logit + np.sum(features * table[label], axis=-1), rtol=1e-3, atol=1e-3)
