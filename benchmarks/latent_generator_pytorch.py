"""Speed of Inbetweening's latent generator and of its variants: `python -m benchmarks.latent_generator_pytorch`.

Measures a forward and backward pass of all 24 blocks in train mode, their compilation, and a single 3x3x3 convolution
in each of its forms (and in PyTorch, if installed), at [B, 16, 8, 8, 64]: medians over alternating rounds.
"""

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.parity.timing import alternating_medians
from vidgen_jax.gans.inbetween.latent_generator import LatentGenerator, LatentLevel, level_lengths, resize_time
from vidgen_jax.nn.convolution import Form, convolve

BLOCKS, FEATURES, FRAMES, SIDE, NOISE = (8, 8, 8), 64, 16, 8, 128


class OneByOne(nn.Module):
  """The same blocks as separate modules, without stacking over a level."""

  @nn.compact
  def __call__(self, ends: jax.Array, noise: jax.Array, *, num_frames: int, train: bool) -> jax.Array:
    """See `LatentGenerator`."""
    z = ends
    for level, (length, count) in enumerate(zip(level_lengths(num_frames, len(BLOCKS)), BLOCKS, strict=True)):
      z = resize_time(z, length)
      for index in range(count):
        z, _ = LatentLevel(1, FEATURES, name=f"level_{level}_{index}")(z, ends, noise, train=train)
    return z


def compiled_generator(module: nn.Module, batch: int) -> tuple[Callable[[], Any], float]:
  """(a call of the compiled gradient, seconds of tracing and compilation)."""
  ends = jax.random.normal(jax.random.key(0), (batch, 2, SIDE, SIDE, FEATURES))
  noise = jax.random.normal(jax.random.key(1), (batch, NOISE))
  variables = jax.jit(functools.partial(module.init, num_frames=FRAMES, train=True))(jax.random.key(2), ends, noise)

  def loss(params: Any, ends: jax.Array, noise: jax.Array) -> jax.Array:
    inputs = variables | {"params": params}
    z, _ = module.apply(inputs, ends, noise, num_frames=FRAMES, train=True, mutable=["batch_stats"])
    return jnp.mean(jnp.square(z))

  start = time.perf_counter()
  compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(variables["params"], ends, noise).compile()
  return functools.partial(compiled, variables["params"], ends, noise), time.perf_counter() - start


def compiled_convolution(form: Form, batch: int) -> Callable[[], Any]:
  """A call of the compiled gradient of one convolution."""
  x = jax.random.normal(jax.random.key(0), (batch, FRAMES, SIDE, SIDE, FEATURES))
  kernel = 0.02 * jax.random.normal(jax.random.key(1), (3, 3, 3, FEATURES, FEATURES))

  def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(convolve(x, kernel, precision=None, form=form)))

  return functools.partial(jax.jit(jax.grad(loss, argnums=(0, 1))), x, kernel)


def torch_convolution(batch: int) -> Callable[[], Any]:
  """A call of PyTorch's gradient of the same convolution."""
  import torch

  x = torch.randn(batch, FEATURES, FRAMES, SIDE, SIDE, requires_grad=True)
  layer = torch.nn.Conv3d(FEATURES, FEATURES, 3, padding=1, bias=False)

  def run() -> np.ndarray:
    return torch.autograd.grad(layer(x).square().mean(), (layer.weight, x))[0].numpy()

  return run


def main() -> None:
  """Prints both tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--rounds", type=int, default=5)
  options = parser.parse_args()
  modules = {"scan over stacked blocks": LatentGenerator(BLOCKS, FEATURES), "one module per block": OneByOne()}
  built = {name: compiled_generator(module, options.batch) for name, module in modules.items()}
  calls: dict[str, Callable[[], Any]] = {form: compiled_convolution(form, options.batch) for form in get_args(Form)}
  if importlib.util.find_spec("torch"):
    calls["PyTorch"] = torch_convolution(options.batch)
  lines = [f"24 blocks, forward and backward, batch {options.batch}, {jax.default_backend()}"]
  for name, seconds in alternating_medians({name: call for name, (call, _) in built.items()}, options.rounds).items():
    lines.append(f"  {name:<30}{1e3 * seconds:10.1f} ms   compiled in {built[name][1]:.1f} s")
  lines.append("one 3x3x3 convolution, 64 -> 64, forward and backward")
  for name, seconds in alternating_medians(calls, options.rounds).items():
    lines.append(f"  {name:<30}{1e3 * seconds:10.1f} ms")
  sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
