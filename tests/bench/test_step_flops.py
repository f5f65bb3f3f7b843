"""FLOPs of a whole train step, computed by hand."""

import math

import jax
import numpy as np
import pytest

from experiments import inbetween_shape_motion
from vidgen_jax.bench import compilation, flops
from vidgen_jax.bench.cost_estimate import flops_figures, needed_flops, total_flops
from vidgen_jax.bench.flops import Part
from vidgen_jax.runs import config as configs
from vidgen_jax.runs.experiment import build_experiment

pytest_plugins = ("tests.tiny_experiment",)

# Sizes of tests.tiny_experiment.
B, TC, T, RGB, G, D, Z, CLASS, CLASSES = 8, 1, 3, 3, 2, 5, 4, 4, 2


def conv(images: int, size: int, inputs: int, outputs: int, *, kernel: int = 3, frames: int = 0) -> int:
  """FLOPs of a SAME convolution: a 3-tap window covers 3 elements, but 2 at both ends: 3 n - 2 along an axis of n."""
  taps = (3 * size - 2) ** 2 if kernel == 3 else size**2
  return 2 * images * inputs * outputs * taps * (3 * frames - 2 if frames else 1)


def generator() -> tuple[int, int]:
  """Forward and backward FLOPs of the generator for B clips, without the gradients of conditioning frames."""
  on_frames = conv(B * TC, 8, RGB, D) + conv(B * TC, 4, RGB, D, kernel=1)
  encoder = conv(B * TC, 8, D, D) + conv(B, 4, TC * D, G)
  first = 2 * B * (Z + CLASS) * (4 * 4 * G)
  predicted = T - TC
  unit = conv(B, 4, G, 3 * G) + predicted * (conv(B, 4, G, 2 * G) + conv(B, 4, G, G))
  stage = conv(B * predicted, 4, G, G)
  gains = 2 * 2 * (2 * B * (Z + CLASS) * G)
  block = 2 * conv(B * predicted, 8, G, G) + conv(B * predicted, 4, G, G, kernel=1) + gains
  output = conv(B * predicted, 8, G, RGB)
  rest = encoder + first + unit + stage + block + output
  return on_frames + rest, on_frames + 2 * rest


def discriminators(clips: int) -> tuple[int, int]:
  """Forward FLOPs of both discriminators: (layers on their input, the rest)."""
  frames = 2
  first = conv(clips * frames, 8, RGB, D) + conv(clips * frames, 8, RGB, D, kernel=1)
  rest = conv(clips * frames, 8, D, D) + 2 * (2 * clips * frames * D)
  first += conv(clips, 4, RGB, D, frames=T) + conv(clips * T, 4, RGB, D, kernel=1)
  rest += conv(clips, 4, D, D, frames=T) + 2 * (2 * clips * T * D)
  return first, rest


def weights(params, *, penalised: bool) -> tuple[int, int]:
  """The products W^T W; power iterations are sums of products, which do not count."""
  forward, backward = 0, 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    rows, columns = math.prod(leaf.shape[:-1]), leaf.shape[-1]
    if penalised and path[-1].key.startswith("kernel"):
      gram = 2 * min(rows, columns) ** 2 * max(rows, columns)
      forward, backward = forward + gram, backward + 2 * gram
  return forward, backward


def expected_flops(state) -> dict[str, tuple[int, int]]:
  """Forward and backward FLOPs, by update."""
  g_forward, g_backward = generator()
  g_iterations, _ = weights(state.nets["generator"].params, penalised=False)
  g_weights = weights(state.nets["generator"].params, penalised=True)
  d_params = [net.params for name, net in state.nets.items() if name != "generator"]
  d_weights = np.sum([weights(params, penalised=False) for params in d_params], axis=0).tolist()
  on_both, on_fake = discriminators(2 * B), discriminators(B)
  return {
    "disc": (
      2 * (g_forward + g_iterations + sum(on_both) + d_weights[0]),
      2 * (on_both[0] + 2 * on_both[1] + d_weights[1]),
    ),
    "gen": (g_forward + g_weights[0] + sum(on_fake) + d_weights[0], g_backward + g_weights[1] + sum(on_fake)),
  }


def test_flops_of_a_train_step_by_hand(tiny):
  made = tiny()
  counted = needed_flops(made, "main", backend="tpu")  # convolutions of clips have another form on CPUs
  needed = {
    update: tuple(sum(n for part, n in parts.items() if part.direction == d) for d in ("forward", "backward"))
    for update, parts in counted.items()
  }
  assert needed == expected_flops(made.abstract_state)


@pytest.mark.parametrize("changes", [{}, {"step__accumulate": 2}])
def test_the_train_step_contains_only_needed_products(changes, tiny):
  made = tiny(**changes)
  needed = sum(sum(parts.values()) for parts in needed_flops(made, "main").values())
  assert flops.traced_flops(compilation.trace_step(made, "main").jaxpr.jaxpr) == needed


def test_the_train_step_of_inbetween_contains_only_needed_products():
  fields = inbetween_shape_motion.get_config("smoke")
  fields.algorithm.latent_blocks = (2,)
  made = build_experiment(configs.from_config_dict(fields), devices=jax.devices()[:1])
  needed = needed_flops(made, "main")
  generator, critics = {"Encoder", "LatentGenerator", "VideoGenerator"}, {"ImageDiscriminator", "VideoDiscriminator"}
  by_direction = {
    (update, direction): {part.network for part in parts if part.direction == direction}
    for update, parts in needed.items()
    for direction in ("forward", "backward")
  }
  assert by_direction == {
    ("disc", "forward"): generator | critics,
    ("disc", "backward"): critics,
    ("gen", "forward"): generator | critics,
    ("gen", "backward"): generator | critics,
  }
  total = sum(sum(parts.values()) for parts in needed.values())
  assert flops.traced_flops(compilation.trace_step(made, "main").jaxpr.jaxpr) == total


def test_accumulation_repeats_only_the_work_on_weights(tiny):
  whole, parts = (needed_flops(tiny(step__accumulate=n), "main")["gen"] for n in (1, 4))
  for part in whole:
    assert parts[part] == whole[part] * (4 if part.on == "weights" else 1)
  assert Part(network="", direction="backward", on="weights") in whole


def test_loops_are_unrolled_before_xla_counts_them(tiny):
  rolled = tiny()
  program = compilation.trace_step(rolled, "main").jaxpr.jaxpr
  uncompiled = compilation.Compilation(program=program, step=None, lowering=0.0, cold=0.0, cached=None)
  count, how = compilation.executed_flops(rolled, "main", uncompiled)
  needed = sum(sum(parts.values()) for parts in needed_flops(rolled, "main").values())
  assert "unrolled" in how
  assert 1 < count / needed < 2  # elementwise operations count, and the model is small


def test_figures_are_the_total_and_its_parts_by_network_and_direction():
  needed = {
    "disc": {
      Part(network="D", direction="forward", on="clips"): 3_000_000_000,
      Part(network="D", direction="backward", on="clips"): 5_000_000_000,
      Part(network="D", direction="forward", on="weights"): 500_000_000,
    },
    "gen": {
      Part(network="", direction="forward", on="clips"): 250_000_000,
      Part(network="G", direction="forward", on="weights"): 1_000_000_000,
      Part(network="G", direction="backward", on="weights"): 1_000_000_000,
    },
  }
  assert total_flops(needed) == 10_750_000_000
  assert [(figure.name, figure.value, figure.unit) for figure in flops_figures(needed)] == [
    ("FLOPs from layer shapes", 10.75, "GFLOP"),
    ("  disc: D backward", 5.0, "GFLOP"),
    ("  disc: D forward", 3.0, "GFLOP"),
    ("  disc: weights alone", 0.5, "GFLOP"),
    ("  gen: losses forward", 0.25, "GFLOP"),
    ("  gen: weights alone", 2.0, "GFLOP"),
  ]
