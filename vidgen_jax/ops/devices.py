"""Operations on the clips of all devices, for functions that run on each device with its own clips.

On several devices a train step computes its losses under `jax.shard_map`: an array with a batch axis contains this
device's share of the clips, [B] / devices, in the order of the global batch; devices without a share of their own
repeat that of others. Outside of it, on one device and in sampling, an array contains all clips, and these functions
return what they receive.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
from jax import lax

from vidgen_jax.types import BATCH_AXES

T = TypeVar("T")


def device_axes() -> tuple[str, ...]:
  """Mesh axes over which `jax.shard_map` has split the clips, major first; () outside of it."""
  return tuple(axis for axis in _manual_axes() if axis in BATCH_AXES)


def _manual_axes() -> tuple[str, ...]:
  mesh = jax.sharding.get_abstract_mesh()
  return tuple(axis for axis in mesh.axis_names if axis in mesh.manual_axes)


def mean_over_devices(values: T) -> T:
  """Means of arrays over the devices; of means over a device's clips these are the means over all clips."""
  # Also over devices that repeat the clips of others, so that rounding never makes their weights differ.
  return lax.pmean(values, axes) if (axes := _manual_axes()) else values


def sum_over_devices(values: T) -> T:
  """Sums of arrays over the devices among which the clips are split."""
  return lax.psum(values, axes) if (axes := device_axes()) else values


def all_clips(values: jax.Array) -> jax.Array:
  """The clips of all devices, [B, ...], from this device's."""
  return lax.all_gather(values, axes, tiled=True) if (axes := device_axes()) else values


def draw_per_clip(draw: Callable[[tuple[int, ...]], jax.Array], shape: Sequence[int]) -> jax.Array:
  """Random numbers of this device's clips that do not depend on the number of devices.

  Args:
    draw: function from a shape to random numbers, as `functools.partial(jax.random.normal, key)`.
    shape: shape of the result; the first axis counts this device's clips.
  """
  if not (axes := device_axes()):
    return draw(tuple(shape))
  # Every device draws the numbers of the global batch: they are few, and XLA computes only those that are taken.
  drawn = draw((shape[0] * lax.axis_size(axes), *shape[1:]))
  return lax.dynamic_slice_in_dim(drawn, shape[0] * lax.axis_index(axes), shape[0])
