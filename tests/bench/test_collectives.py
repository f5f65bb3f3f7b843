"""Traffic between the devices of a compiled step, and memory per device."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.bench import collectives
from vidgen_jax.core.algorithm import Update
from vidgen_jax.errors import UserError
from vidgen_jax.ops.devices import all_clips
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.runs.experiment import Experiment, build_experiment

pytest_plugins = ("tests.trained_runs", "tests.tiny_experiment")

# One conditioning and one predicted frame, and one discriminator, compile faster.
SHORT = {"data__num_frames": 2, "algorithm__decomposition": "downsampled"}


@pytest.fixture
def on_eight(tiny):
  """A function that builds the tiny experiment on eight devices, with its state split over `fsdp` of them."""

  def make(*, fsdp: int = 1, **changes) -> Experiment:
    config = dataclasses.replace(tiny(**SHORT | changes).config, mesh=MeshConfig(fsdp=fsdp, fsdp_min_size=16))
    return build_experiment(config, devices=jax.devices()[:8])

  return make


def _traffic(experiment: Experiment) -> dict[str, collectives.Traffic]:
  compiled = collectives.compile_step(experiment, "main")
  return collectives.traffic(experiment, "main", compiled.as_text())


@pytest.mark.slow
def test_split_parameters_are_gathered_once_per_update(on_eight):
  experiment = on_eight(fsdp=4)
  moved = _traffic(experiment)
  assert moved["other"].bytes == 0
  assert 0.95 < moved["gradients"].bytes / collectives.gradient_bytes(experiment, "main") <= 1.05
  split = {
    name: sum(leaf.size for leaf in jax.tree.leaves(net.params) if "fsdp" in str(leaf.sharding.spec))
    for name, net in experiment.abstract_state.nets.items()
  }
  # Every update uses all nets: two of the discriminator, one of the generator.
  assert 0 < moved["parameters"].bytes <= 3 * 4 * sum(split.values())


def test_gradients_of_accumulated_parts_are_exchanged_once(on_eight):
  # Two predicted frames: the gradients of the recurrence are exchanged after its last time step.
  experiment = on_eight(step__accumulate=4, train__batch_size=32, data__num_frames=3)
  moved = _traffic(experiment)
  assert 0.95 < moved["gradients"].bytes / collectives.gradient_bytes(experiment, "main") <= 1.05
  assert moved["other"].bytes == moved["parameters"].bytes == 0
  # Four parts exchange the moments of three layers with 2 frames x 2 channels: see the test of one part below.
  statistics = 4 * 3 * (3 * 2 + 2) * (2 * 2 * 4)
  assert statistics <= moved["batch statistics"].bytes <= 1.1 * statistics


class _ChangedLoss:
  """The first update of an algorithm, with another loss."""

  def __init__(self, algorithm, loss_fn):
    self._algorithm, self._loss_fn = algorithm, loss_fn

  def __getattr__(self, name):
    return getattr(self._algorithm, name)

  def updates(self, phase: str) -> tuple[Update, ...]:
    update, *_ = self._algorithm.updates(phase)
    return (dataclasses.replace(update, loss_fn=functools.partial(self._loss_fn, update.loss_fn)),)


def test_a_loss_that_needs_the_whole_batch_is_detected(on_eight):
  def sorted_clips(loss_fn, nets, frozen, batch, key, step):
    loss, output = loss_fn(nets, frozen, batch, key, step)
    # Sorted over the batch: for every pixel, some device needs all clips.
    ranked = jnp.sort(all_clips(batch["video"]), axis=0).astype(jnp.float32)
    weights = jnp.arange(ranked.shape[0], dtype=jnp.float32)[:, None, None, None, None]
    return loss, output.replace(metrics=output.metrics | {"ranked": jnp.mean(weights * ranked)})

  experiment = on_eight(algorithm__discriminator_steps=1)
  bad = dataclasses.replace(experiment, algorithm=_ChangedLoss(experiment.algorithm, sorted_clips))
  other = _traffic(bad)["other"]
  # Eight clips of 2 frames of 8 x 8 pixels with 3 channels of one byte.
  assert other.bytes == 8 * 2 * 8 * 8 * 3
  assert other.largest.kind == "all-gather"
  assert "all_gather" in other.largest.serves


def _program(*lines: str) -> str:
  body = "\n".join(f"  {line}" for line in lines)
  return f"ENTRY %main (p: f32[]) -> f32[] {{\n  %p = f32[] parameter(0)\n{body}\n}}\n"


def _reduction(number: int, array: str, scope: str, *, kind: str = "all-reduce") -> str:
  return (
    f"%x.{number} = {array} copy(%p)\n  %r.{number} = {array} {kind}(%x.{number}), replica_groups={{}}, "
    f'metadata={{op_name="jit(train_step)/{scope}"}}'
  )


def test_the_purpose_follows_from_scope_and_shape(on_eight):
  text = _program(
    # A kernel of the discriminators, known by its shape with transposed axes; a reshaped kernel, known by its scope.
    _reduction(0, "f32[5,3,3,5]", "jvp()/reduce_sum"),
    _reduction(1, "f32[5,135]", "transpose(jvp(ResidualDiscriminator))/block_0/conv_1/dot_general"),
    _reduction(2, "f32[1,2]", "jvp(Generator)/output_norm/batch_norm/reduce_sum"),
    _reduction(3, "f32[8,7]", "jvp(pairs_of_clips)/add", kind="all-gather"),
    _reduction(4, "f32[]", "jvp()/reduce_sum"),
    _reduction(5, "f32[5,3,3,5]", "jvp()/gather_parameters/sharding_constraint", kind="all-gather"),
    # An activation in a forward pass, and parameters outside of the gathering scope.
    _reduction(6, "f32[8,7]", "jvp(Generator)/output/dot_general"),
    _reduction(7, "f32[5,3,3,5]", "jvp(Generator)/output/dot_general", kind="all-gather"),
  )
  moved = collectives.traffic(on_eight(), "main", text)
  expected = {
    "gradients": 4 * (225 + 675),
    "parameters": 4 * 225,
    "batch statistics": 8,
    "pairs of clips": 4 * 56,
    "scalars": 4,
    "other": 4 * (56 + 225),
  }
  assert {purpose: part.bytes for purpose, part in moved.items()} == expected
  assert moved["other"].largest.array.shape == (5, 3, 3, 5)
  assert [moved[purpose].runs for purpose in expected] == [2, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("fsdp", [1, 4])
def test_bytes_of_the_state_are_those_of_one_devices_shards(fsdp, on_eight):
  experiment = on_eight(fsdp=fsdp)

  def held(tree) -> int:
    zeros = [jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding) for leaf in jax.tree.leaves(tree)]
    return sum(array.addressable_shards[0].data.nbytes for array in zeros)

  state = experiment.abstract_state
  assert collectives.state_bytes(experiment) == {
    "parameters": held({name: net.params for name, net in state.nets.items()}),
    "variables": held({name: net.variables for name, net in state.nets.items()}),
    "optimizer": held(state.opt_states),
    "averages": held(state.ema),
  }


def test_the_head_names_what_the_devices_compute_at_once(tiny):
  config = tiny(train__batch_size=12, step__accumulate=3).config
  config = dataclasses.replace(config, mesh=MeshConfig(repeat_clips=True, fsdp=2))
  experiment = build_experiment(config, devices=jax.devices()[:8])
  assert collectives.describe_step(experiment, "v5p:2x2x2") == {
    "devices": "v5p:2x2x2",
    "batch": 12,
    "accumulate": 3,
    "clips at once per device": 1,
    "devices that repeat clips": 4,
    "fsdp": 2,
    "remat": False,
  }


def test_replicated_parameters_exchange_gradients_once_and_statistics(on_eight, repository, tmp_path, capsys):
  experiment, out = on_eight(), tmp_path / "figures.jsonl"
  changes = TINY | {name.replace("__", "."): value for name, value in SHORT.items()} | {"algorithm.remat": True}
  overrides = [f"--config.{name}={value}" for name, value in changes.items()]
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  assert cli.dispatch(["bench", config, *overrides, "--collectives=8", f"--out={out}"]) == 0
  head, *rows = map(json.loads, out.read_text().splitlines())
  assert head["experiment"] == "trivd_shape_motion:smoke"
  assert all(row.items() >= collectives.describe_step(experiment, "8").items() - {("remat", False)} for row in rows)
  assert all(row["remat"] for row in rows)
  value = {row["name"].strip(): row["value"] * (1e6 if row["unit"] == "MB" else 1) for row in rows}
  nets = experiment.abstract_state.nets
  sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(net.params)) for name, net in nets.items()}
  # The discriminator steps twice, the generator once; a float32 has four bytes.
  needed = 4 * (2 * sizes["downsampled_video_disc"] + sizes["generator"])
  assert value["gradients of the step"] == pytest.approx(needed)
  assert value["moved / needed gradients"] == pytest.approx(value["gradients"] / needed)
  assert 0.95 < value["moved / needed gradients"] <= 1.05
  assert value["parameters"] == value["other"] == 0
  # Three layers with moments of 1 frame x 2 channels of float32: two moments in each of three forward passes, their two
  # gradients in the one backward pass. Recomputing activations adds none. Gradients of biases look the same where XLA
  # exchanges them together with moments.
  statistics = 3 * (3 * 2 + 2) * (1 * 2 * 4)
  biases = [leaf for leaf in jax.tree.leaves(nets["generator"].params) if leaf.size == 2]
  assert statistics <= value["batch statistics"] + 1e-6 <= statistics + 8 * len(biases) + 1e-5
  # Pairs of 8 clips are few; they grow with the batch.
  assert 0 < value["pairs of clips"] < 0.1 * needed
  assert 0 < value["scalars"] < 200
  assert value["moved by collectives"] == pytest.approx(sum(value[purpose] for purpose in collectives.PURPOSES))
  # Adam without a first moment keeps one number for every parameter, and a count for each of its two updates.
  assert value["optimizer on a device"] == pytest.approx(value["parameters on a device"] + 8)
  assert value["arguments"] > value["parameters on a device"] + value["optimizer on a device"]
  assert value["temporaries"] > 0
  assert [row["met"] for row in rows if row["at_most"] is not None] == [True, True]
  assert "moved / needed gradients" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ("8,100000", "--collectives=8,100000: give numbers from 1 to "),
    ("0", "--collectives=0: give numbers from 1 to "),
    ("v5p", "'v5p' is neither a number of devices nor a topology such as v5p:4x4x4"),
    ("-8", "'-8' is neither a number of devices"),
    ("8 --estimate", "--collectives and --estimate exclude each other"),
    # As in training.
    ("8 --config.train.batch_size=12", "config.train.batch_size=12 is not divisible by the 8 devices; choose"),
  ],
)
def test_mistakes_are_one_line(names, message, repository, vidgen):
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  assert message in vidgen("bench", config, *f"--collectives={names}".split())


def test_jax_is_never_started_with_zero_devices(monkeypatch):
  started = []
  monkeypatch.setattr(collectives.jax.config, "update", lambda _name, count: started.append(count))
  with pytest.raises(UserError, match="--collectives=0: give numbers from 1"):
    collectives.fake_devices(["0"])
  assert started == [1]


def test_a_step_that_does_not_fit_is_one_line(on_eight, monkeypatch):
  class Large:
    def trace(self, *_):
      return self

    def lower(self, *_):
      return self

    def compile(self, **_):
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 36.88G exceeds 15.48G\nand more")

  monkeypatch.setattr(Experiment, "step_fn", lambda *_: Large())
  for compiled in (collectives.compile_step, Experiment.compile_step):
    with pytest.raises(
      UserError, match=r"does not fit 8 devices: RESOURCE_EXHAUSTED: 36.88G .*use more of them, --config\.mesh\.fsdp=8"
    ):
      compiled(on_eight(), "main")


def test_topologies_need_libtpu(monkeypatch):
  def missing(**_):
    raise RuntimeError("no libtpu.so")

  monkeypatch.setattr(collectives.topologies, "get_topology_desc", missing)
  with pytest.raises(
    UserError, match=r"--collectives=v5p:4x4x4 needs libtpu \(pip install libtpu\), which reports: no lib"
  ):
    collectives.fake_devices(["v5p:4x4x4"])
