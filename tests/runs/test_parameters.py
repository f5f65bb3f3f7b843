"""The parameter table counts by shape alone."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vidgen_jax.runs.parameters import parameter_table


def test_counts_by_hand():
  shapes = jax.eval_shape(nn.Dense(5).init, jax.random.key(0), jnp.zeros((1, 4)))["params"]
  table = parameter_table({"generator": {"Dense_0": shapes}, "disc": {"w": jnp.zeros((2, 3))}})
  # 4 * 5 weights + 5 biases; 2 * 3 weights.
  assert "Dense_0/kernel" in table and "(4, 5)" in table
  assert table.index("generator") < table.index("Total: 25") < table.index("disc\n") < table.index("Total: 6")
  assert table.endswith("All networks: 31 parameters")
