"""Functions of all devices' clips, under `jax.shard_map` over eight devices and outside of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vidgen_jax.gans.common import draw_latent
from vidgen_jax.gans.mvt.motion_constraint import motion_similarity
from vidgen_jax.gans.sr_cgan.anchors import draw_anchors
from vidgen_jax.nn.norm import BatchNorm
from vidgen_jax.ops import devices, losses, resampling
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.networks import tsn
from vidgen_jax.types import BATCH_AXES

CLIPS = np.random.default_rng(0).normal(size=(16, 5, 6, 4, 2)).astype(np.float32)
LABELS = np.arange(16) % 3
KEY = jax.random.key(7)


def _on_devices(function, *arrays, gathered: bool, batch_size: int = 16):
  """Results of a function of this device's share of the arrays: of all devices in order, or of the first device."""
  mesh = make_mesh(MeshConfig(fsdp=4, repeat_clips=True), batch_size=batch_size)
  clips, whole = PartitionSpec(BATCH_AXES), PartitionSpec()
  out_specs = PartitionSpec(mesh.axis_names) if gathered else whole
  run = jax.shard_map(function, mesh=mesh, in_specs=(clips,) * len(arrays), out_specs=out_specs, check_vma=False)
  return jax.tree.map(np.asarray, jax.jit(run)(*arrays))


DRAWS = {
  "latents": lambda x: draw_latent(KEY, (x.shape[0], 3)),
  "truncated latents": lambda x: draw_latent(KEY, (x.shape[0], 3), truncation=0.5),
  "frames": lambda x: resampling.random_frames(KEY, x, 2),
  "crops": lambda x: resampling.random_crop(KEY, x, (2, 2)),
  "anchors": lambda x: draw_anchors(KEY, x.shape[0], num_frames=5, counts=(1, 3)),
  "segments": lambda x: tsn.random_frames(KEY, 9, 3, batch=x.shape[0]),
}


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_clip_gets_the_same_random_numbers_on_any_number_of_devices(draw, repeated):
  one = jax.tree.map(np.asarray, jax.jit(draw)(CLIPS))
  many = _on_devices(draw, CLIPS, gathered=True, batch_size=4 if repeated else 16)
  # Vectorised code rounds normal values differently for other lengths. Repeating devices have the same clips again.
  repeats = 2 if repeated else 1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, np.concatenate([b] * repeats), rtol=1e-6, atol=1e-6), many, one
  )
  assert all(len(np.unique(leaf)) > 1 for leaf in jax.tree.leaves(one))


def test_draws_take_the_rows_of_the_global_batch():
  drawn = devices.draw_per_clip(functools.partial(jax.random.uniform, KEY), (16, 2))
  np.testing.assert_array_equal(drawn, jax.random.uniform(KEY, (16, 2)))


@pytest.mark.parametrize("repeated", [False, True])
def test_means_sums_and_clips_by_hand(repeated):
  def found(x):
    return devices.mean_over_devices(jnp.mean(x)), devices.sum_over_devices(jnp.sum(x)), devices.all_clips(x)

  values = np.arange(16.0, dtype=np.float32)
  # A batch of four clips occupies four devices; the other four repeat it.
  mean, total, clips = _on_devices(found, values, gathered=False, batch_size=4 if repeated else 16)
  assert (mean, total) == (7.5, 120.0)
  np.testing.assert_array_equal(clips, values)
  assert devices.device_axes() == ()
  outside = found(values)
  assert (float(outside[0]), float(outside[1])) == (7.5, 120.0)
  np.testing.assert_array_equal(outside[2], values)


def _norm_loss(weight, x, target):
  module = BatchNorm(momentum=0.0)
  variables = module.init(jax.random.key(0), x, train=False)
  normalised, updated = module.apply(variables, x * weight + x**2, train=True, mutable=["batch_stats"])
  return jnp.mean((normalised - target) ** 3), updated["batch_stats"]


def _head_loss(weight, x, target):
  scores = jnp.mean(x, axis=(2, 3))
  head = losses.mixed_projection(weight * scores[..., 0], scores[..., 1] ** 2 * weight)
  return losses.hinge_discriminator_loss(head, head * jnp.mean(target, axis=(1, 2, 3, 4))[:, None, None]), jnp.zeros(())


def _motion_loss(weight, x, target):
  label = jnp.argmax(target[:, 0, 0, 0], axis=-1)
  similarity, pairs = motion_similarity(target, x * weight + x**2, label, label, num_classes=2)
  return 1.0 - similarity, pairs


@pytest.mark.parametrize("clips", [16, 4], ids=["each clip once", "each clip twice"])
@pytest.mark.parametrize("loss", [_norm_loss, _head_loss, _motion_loss], ids=lambda loss: loss.__name__)
def test_mean_gradients_of_the_devices_are_those_of_the_whole_batch(loss, clips):
  def gradients(x, target):
    (value, extra), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.float32(0.7), x, target)
    return devices.mean_over_devices((value, gradient)), extra

  # The mean of the targets differs between devices.
  target = np.random.default_rng(1).normal(size=CLIPS.shape).astype(np.float32) + LABELS[:, None, None, None, None]
  arrays = CLIPS[:clips], target[:clips]
  one = jax.tree.map(np.asarray, jax.jit(gradients)(*arrays))
  many = _on_devices(gradients, *arrays, gathered=False, batch_size=clips)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), many, one)
  assert abs(one[0][1]) > 1e-3
