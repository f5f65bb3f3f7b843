"""Pooling by hand: the 'moments' of a batch are its mean and its first label."""

import jax
import jax.numpy as jnp
import pytest

from vidgen_jax.core.standing_statistics import standing_statistics
from vidgen_jax.core.state import NetState


def _nets():
  stats = {"norm": {"mean": jnp.float32(99.0), "var": jnp.float32(99.0)}}
  return {
    "g": NetState(params={"w": jnp.float32(1.0)}, variables={"batch_stats": stats, "spectral_stats": jnp.float32(0.0)}),
    "plain": NetState(params={"w": jnp.float32(2.0)}, variables={}),
  }


def _moments(nets, batch, key):
  del key
  moments = {"norm": {"mean": jnp.mean(batch["video"]), "var": batch["label"][0].astype(jnp.float32)}}
  passes = nets["g"].variables["spectral_stats"] + 1
  return nets | {"g": nets["g"].replace(variables={"batch_stats": moments, "spectral_stats": passes})}


def test_statistics_are_the_mean_over_batches_and_nothing_is_mutated():
  nets = _nets()
  batches = [
    {"video": jnp.array([1.0, 3.0]), "label": jnp.array([4])},
    {"video": jnp.array([5.0, 9.0]), "label": jnp.array([8])},
  ]
  pooled = standing_statistics(_moments, nets, batches, jax.random.key(0))
  assert pooled["g"].variables["batch_stats"] == {"norm": {"mean": 4.5, "var": 6.0}}  # (2 + 7) / 2, (4 + 8) / 2
  assert pooled["g"].variables["spectral_stats"] == 2.0  # advanced by both passes
  assert pooled["plain"] is nets["plain"]
  assert nets["g"].variables["batch_stats"]["norm"]["mean"] == 99.0


def test_every_pass_has_its_own_key():
  keys = []

  def moments(nets, batch, key):
    keys.append(tuple(jax.random.key_data(key).tolist()))
    return _moments(nets, batch, key)

  batch = {"video": jnp.array([1.0]), "label": jnp.array([1])}
  standing_statistics(moments, _nets(), [batch] * 3, jax.random.key(0))
  assert len(set(keys)) == 3


def test_no_batch_is_an_error():
  with pytest.raises(ValueError, match="at least one batch"):
    standing_statistics(_moments, _nets(), [], jax.random.key(0))
