"""The FLOPs of a whole train step by hand, and the command from end to end on a small data set."""

import json
import math
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidgen_jax import bench, cli, compilation, experiment, extraction_timing, flops, step_timing
from vidgen_jax import config as configs
from vidgen_jax.bench import Measurement
from vidgen_jax.data.shape_motion import ShapeMotionOptions, build_shape_motion
from vidgen_jax.flops import Part

pytest_plugins = ("tests.runs",)

# The smallest step that has every kind of layer: one stage, one block, frames of 8x8, 1 given frame and 2 predicted.
TINY = {
  "data.resolution": 8,
  "data.num_frames": 3,
  "train.batch_size": 8,
  "algorithm.conditioning_frames": 1,
  "algorithm.frames_per_clip": 2,
  "algorithm.generator_channels": 2,
  "algorithm.generator_multipliers": (1,),
  "algorithm.discriminator_channels": 5,
  "algorithm.discriminator_multipliers": (1,),
  "algorithm.temporal_blocks": 1,
}
B, TC, T, RGB, G, D, Z, CLASS, CLASSES = 8, 1, 3, 3, 2, 5, 4, 4, 2


@pytest.fixture
def tiny(repository):
  """Makes the tiny experiment, with changes."""

  def make(**changes) -> experiment.Experiment:
    scope: dict = {}
    exec((repository / "experiments" / "trivd_shape_motion.py").read_text(), scope)
    config = scope["get_config"]("smoke")
    config.update_from_flattened_dict(TINY | {name.replace("__", "."): value for name, value in changes.items()})
    return experiment.build(configs.from_config_dict(config), devices=jax.devices()[:1])

  return make


def conv(images: int, size: int, inputs: int, outputs: int, *, kernel: int = 3, frames: int = 0) -> int:
  """Of a SAME convolution: a 3-tap window meets 3 elements, but 2 at both ends: 3 n - 2 along an axis of n."""
  taps = (3 * size - 2) ** 2 if kernel == 3 else size**2
  return 2 * images * inputs * outputs * taps * (3 * frames - 2 if frames else 1)


def generator() -> tuple[int, int]:
  """Forward and backward FLOPs of the generator for B clips; backward all but the gradients of given frames."""
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
  """Power iterations: M u, v M, M u, v (M u), of which the last two have gradients; and the products W^T W."""
  forward, backward = 0, 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = [key.key for key in path]
    if not names[-1].startswith(("kernel", "embedding")):
      continue
    rows, columns = math.prod(leaf.shape[:-1]), leaf.shape[-1]
    if "input" not in names:
      forward += 3 * 2 * rows * columns + 2 * rows
      backward += 2 * rows * columns + 2 * rows
    if penalised and names[-1].startswith("kernel"):
      gram = 2 * min(rows, columns) ** 2 * max(rows, columns)
      forward, backward = forward + gram, backward + 2 * gram
  return forward, backward


def expected_flops(state) -> dict[str, tuple[int, int]]:
  """By update: forward and backward."""
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


@pytest.mark.parametrize("unroll", [True, False])
def test_flops_of_a_train_step_by_hand(unroll, tiny):
  made = tiny(algorithm__unroll=unroll, step__unroll=unroll)
  needed = {
    update: tuple(sum(n for part, n in parts.items() if part.direction == d) for d in ("forward", "backward"))
    for update, parts in bench.needed_flops(made, "main").items()
  }
  assert needed == expected_flops(made.abstract_state)


@pytest.mark.parametrize("changes", [{}, {"algorithm__unroll": False, "step__unroll": False}, {"step__accumulate": 2}])
def test_the_train_step_holds_no_product_that_is_not_needed(changes, tiny):
  made = tiny(**changes)
  needed = sum(sum(parts.values()) for parts in bench.needed_flops(made, "main").values())
  assert flops.traced_flops(compilation.trace_step(made, "main").jaxpr.jaxpr) == needed


def test_the_train_step_of_inbetween_holds_no_product_that_is_not_needed(repository):
  scope: dict = {}
  exec((repository / "experiments" / "inbetween_shape_motion.py").read_text(), scope)
  fields = scope["get_config"]("smoke")
  fields.algorithm.latent_blocks = (2,)
  fields.algorithm.unroll = False
  made = experiment.build(configs.from_config_dict(fields), devices=jax.devices()[:1])
  needed = bench.needed_flops(made, "main")
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


def test_accumulation_repeats_the_work_on_weights_only(tiny):
  whole, parts = (bench.needed_flops(tiny(step__accumulate=n), "main")["gen"] for n in (1, 4))
  for part in whole:
    assert parts[part] == whole[part] * (4 if part.on == "weights" else 1)
  assert Part(network="", direction="backward", on="weights") in whole


def test_loops_are_unrolled_before_xla_counts_them(tiny):
  rolled = tiny(algorithm__unroll=False, step__unroll=False)
  program = compilation.trace_step(rolled, "main").jaxpr.jaxpr
  uncompiled = compilation.Compilation(program=program, step=None, lowering=0.0, cold=0.0, cached=None)
  count, how = compilation.executed_flops(rolled, "main", uncompiled)
  needed = sum(sum(parts.values()) for parts in bench.needed_flops(rolled, "main").values())
  assert "unrolled" in how
  assert 1 < count / needed < 2  # elementwise operations weigh much in so small a model


class _SlowInput:
  """Yields a batch after a while, as an iterator of the pipeline."""

  def __init__(self, shapes, seconds: float):
    self._batch = {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    self._seconds = seconds

  def __iter__(self) -> Iterator:
    return self

  def __next__(self):
    time.sleep(self._seconds)
    return self._batch


def test_the_loop_is_timed_with_its_input_and_the_bare_step_without(tiny):
  made = tiny(train__log_every=1)

  metrics = {"disc/loss": jnp.zeros(())}

  def instant(state, batch, rates):
    return state, metrics

  slow = _SlowInput(made.batch_shape(), 0.05)
  timing = step_timing.time_steps(made, instant, None, slow, steps=8, first_step=0)
  assert timing.fastest <= timing.bare < 0.05 <= timing.loop


def test_goals():
  assert Measurement(name="a", value=1.0).met is None
  assert Measurement(name="a", value=None, at_most=1.0).met is None
  assert [Measurement(name="a", value=value, at_most=1.15).met for value in (1.15, 1.16)] == [True, False]
  assert [Measurement(name="a", value=value, at_least=3.0).met for value in (3.0, 2.9)] == [True, False]


def test_the_table_is_aligned_and_keeps_four_digits():
  text = bench.table(
    [
      Measurement(name="step", value=12.3456, unit="ms", note="alone"),
      Measurement(name="pipeline / step", value=1234.6, at_least=3.0),
      Measurement(name="loop / step", value=1.0456, at_most=1.03),
      Measurement(name="MFU", value=None, unit="%"),
    ]
  )
  assert text.splitlines() == [
    "step               12.35 ms                  alone",
    "pipeline / step    1,235     >= 3 met",
    "loop / step        1.046     <= 1.03 MISSED",
    "MFU              unknown %",
  ]


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H200 NVL", None),
    ("NVIDIA A100-SXM4-80GB", 312e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("cpu", None),
  ],
)
def test_peaks_go_by_the_whole_kind(kind, peak):
  assert bench.published_peak(kind) == peak


@pytest.fixture
def words(repository, tmp_path_factory):
  """`vidgen bench` on the tiny experiment and a data set of a few clips."""
  data_dir = tmp_path_factory.mktemp("data")
  build_shape_motion(ShapeMotionOptions(name="shape_motion", data_dir=str(data_dir), num_clips=40))
  quick = TINY | {"algorithm.discriminator_steps": 1, "train.num_steps": 1200}
  overrides = [f"--config.{name}={value}" for name, value in quick.items()]
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  return ["bench", config, f"--config.data.data_dir={data_dir}", *overrides]


def test_the_command_from_end_to_end(words, tmp_path, capsys):
  out = tmp_path / "new" / "figures.jsonl"
  cache = jax.config.jax_compilation_cache_dir
  try:
    assert cli.dispatch([*words, "--steps=4", "--peak_tflops=0.001", f"--out={out}"]) == 0
    assert jax.config.jax_compilation_cache_dir == cache  # the command's own cache is gone again
  finally:
    jax.config.update("jax_compilation_cache_dir", cache)
  head, *lines = map(json.loads, out.read_text().splitlines())
  figures = {line["name"]: line for line in lines}
  value = {name: line["value"] for name, line in figures.items()}
  assert (head["experiment"], head["devices"], head["steps"]) == ("trivd_shape_motion:smoke", jax.device_count(), 4)
  assert 0 < value["step, fastest"] <= value["step, median"]
  # Two micro-batches of 8 clips are consumed a step.
  assert value["clips consumed"] == pytest.approx(16 / (value["step, median"] / 1e3))
  assert value["loop / step"] == pytest.approx(value["loop, median"] / value["step, median"])
  hours = value["loop, median"] / 1e3 * 1200 / 3600
  assert value["whole run (1,200 steps)"] == pytest.approx(hours / 24)
  assert figures["whole run (1,200 steps)"]["unit"] == "days"
  assert value["whole run, all devices"] == pytest.approx(hours * jax.device_count())
  assert value["pipeline / step"] == pytest.approx(value["pipeline alone"] / value["clips consumed"])
  assert 0 < value["compilation, from cache"] < value["compilation, cold"]
  assert value["peak memory"] > 0
  parts = sum(value for name, value in value.items() if name.startswith("  "))
  assert parts == pytest.approx(value["FLOPs from layer shapes"])
  assert value["FLOPs of traced products"] == value["FLOPs from layer shapes"]
  # Every device repeats the work on weights.
  assert value["compiled / layer shapes"] > 1
  seconds, peak = value["step, median"] / 1e3, 0.001e12 * jax.device_count()
  assert value["MFU"] == pytest.approx(100 * value["FLOPs from layer shapes"] * 1e9 / seconds / peak)
  assert figures["loop / step"]["at_most"] == 1.03
  assert figures["loop / step"]["met"] in (True, False)
  printed = capsys.readouterr().out
  assert all(name in printed for name in value)


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--steps=3", "--steps=3 must be at least 4"),
    ("--peak_tflops=-1", "--peak_tflops=-1.0 must be positive"),
    ("--out={tmp}/a_file/out.jsonl", "cannot be written"),
    ("--config.data.data_dir={tmp}", "vidgen data build shape_motion"),
  ],
)
def test_mistakes_are_told_before_anything_is_measured(flag, expected, repository, tmp_path, capsys):
  (tmp_path / "a_file").write_text("")
  words = ["bench", f"--config={repository}/experiments/trivd_shape_motion.py:smoke", flag.format(tmp=tmp_path)]
  assert cli.dispatch(words) == 2
  assert expected in capsys.readouterr().err


def test_a_feature_network_is_timed_and_its_memory_looked_at(tmp_path, capsys):
  out = tmp_path / "bench.jsonl"
  words = ["--network=r3d18", "--width=2", "--clip=5x16x16x3", "--clips=90", "--feature_batch=8", f"--out={out}"]
  assert cli.dispatch(["bench", *words]) == 0
  head, *rows = (json.loads(line) for line in out.read_text().splitlines())
  assert (head["experiment"], head["clip"], head["batch"]) == ("r3d18", "5x16x16x3", 8)
  values = {row["name"]: row["value"] for row in rows}
  assert values["clips"] > 1
  assert values["peak memory, all clips"] >= values["peak memory, few clips"] > 10
  assert values["all / few"] == values["peak memory, all clips"] / values["peak memory, few clips"]
  assert "clips/s" in capsys.readouterr().out


def test_random_clips_are_made_when_they_are_asked_for():
  clips = extraction_timing.RandomClips(1000, (4, 2, 2, 3))
  first, second = clips.batches(3, indices=[0, 1, 4, 2])
  assert (first.shape, second.shape) == ((3, 4, 2, 2, 3), (1, 4, 2, 2, 3))
  np.testing.assert_array_equal(first[0, 1:], first[1, :-1])  # windows into one pool, a frame apart
  np.testing.assert_array_equal(first[0], first[2])  # every fourth is the same


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "give either --config of an experiment or --network"),
    (["--network=r3d18", "--clip=16x64x64"], "--clip=16x64x64 must be written as 16x64x64x3"),
    (["--network=i3d", "--clip=8x64x64x3"], "--network=i3d cannot be made for --clip=8x64x64x3"),
  ],
)
def test_mistakes_about_networks_are_one_line(words, message, vidgen):
  assert message in vidgen("bench", *words)
