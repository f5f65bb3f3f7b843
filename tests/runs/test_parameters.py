"""The parameter table; norms and singular values against NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidgen_jax.core.state import NetState
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.runs.experiment import build_experiment, parameter_norms, parameter_table

pytest_plugins = ["tests.tiny_experiment"]


def test_the_table_counts_parameters_by_their_shapes():
  shapes = jax.eval_shape(nn.Dense(5).init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
  table = parameter_table({"generator": {"Dense_0": shapes}, "disc": {"w": jnp.zeros((2, 3))}})
  # 4 * 5 weights + 5 biases; 2 * 3 weights.
  assert "Dense_0/kernel" in table and "(4, 5)" in table
  assert table.index("generator") < table.index("Total: 25") < table.index("disc\n") < table.index("Total: 6")
  assert table.endswith("All networks: 31 parameters")


def test_norms_by_hand():
  # Diagonal kernels whose stored vector is the singular vector: sigma is the largest entry, 3 and 5.
  wide = jnp.array([[3.0, 0.0], [0.0, 1.0]])
  deep = jnp.array([[2.0, 0.0], [0.0, 5.0]]).reshape(1, 2, 2)
  params = {"Dense_0": {"kernel": wide, "bias": jnp.array([10.0, 0.0])}, "block": {"inner": {"kernel_in": deep}}}
  stats = {"Dense_0": {"kernel_u": jnp.array([1.0, 0.0])}, "block": {"inner": {"kernel_in_u": jnp.array([0.0, 1.0])}}}
  nets = {
    "generator": NetState(params=params, variables={"spectral_stats": stats, "batch_stats": {"mean": jnp.ones(2)}}),
    "plain": NetState(params={"kernel": jnp.full((2, 2), 2.0)}, variables={}),
  }
  found = {name: float(value) for name, value in jax.jit(parameter_norms)(nets).items()}
  # 9 + 1 + 100 + 4 + 25 = 139; 4 * 4 = 16.
  expected = {"generator/param_norm": 139**0.5, "generator/sigma_max": 5, "generator/sigma_mean": 4}
  assert found == pytest.approx(expected | {"plain/param_norm": 4})


def test_norms_of_real_nets(tiny):
  state = tiny().init_state()
  draw = np.random.default_rng(0)
  moved = jax.tree.map(lambda x: np.asarray(x) + draw.normal(0, 0.1, x.shape).astype(np.float32), state.nets)
  found = jax.jit(parameter_norms)(moved)
  for name, net in moved.items():
    arrays = {
      jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(net.collections)
    }
    squares = [np.sum(np.square(value)) for key, value in arrays.items() if key.startswith("params/")]
    assert float(found[f"{name}/param_norm"]) == pytest.approx(np.sqrt(sum(squares)), rel=1e-5)
    sigmas = []
    for key, u in arrays.items():
      if key.startswith("spectral_stats/"):
        kernel = arrays[key.removesuffix("_u").replace("spectral_stats/", "params/")]
        matrix = kernel.reshape(-1, kernel.shape[-1])
        v = matrix @ u / np.linalg.norm(matrix @ u)
        sigmas.append(np.linalg.norm(v @ matrix))
        assert sigmas[-1] <= np.linalg.svd(matrix, compute_uv=False)[0] * (1 + 1e-5)
    assert len(sigmas) >= 5
    assert float(found[f"{name}/sigma_max"]) == pytest.approx(max(sigmas), rel=1e-5)
    assert float(found[f"{name}/sigma_mean"]) == pytest.approx(np.mean(sigmas), rel=1e-5)


def test_split_parameters_have_the_norms_of_replicated_ones(tiny):
  whole = tiny()
  split = build_experiment(dataclasses.replace(whole.config, mesh=MeshConfig(fsdp=8, fsdp_min_size=1)))
  state = split.init_state()
  leaves = jax.tree.leaves({name: net.params for name, net in state.nets.items()})
  assert sum(not leaf.sharding.is_fully_replicated for leaf in leaves) > 5
  found = split.parameter_norms(state.nets)
  expected = whole.parameter_norms(whole.init_state().nets)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert float(found[name]) == pytest.approx(float(value), rel=1e-5), name
    assert found[name].sharding.is_fully_replicated
