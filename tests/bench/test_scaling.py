"""The model of step times on many chips: hand-derived times, and compiled programs of several sizes."""

import dataclasses
import functools
import json

import jax
import pytest

from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.bench import collectives, scaling
from vidgen_jax.bench.networks import LINK_SHARE, NETWORKS, Exchange
from vidgen_jax.bench.settings import PEAKS
from vidgen_jax.parallel.mesh import MeshConfig
from vidgen_jax.runs.experiment import build_experiment

pytest_plugins = ("tests.trained_runs", "tests.tiny_experiment")

SHORT = {"data__num_frames": 2, "algorithm__decomposition": "downsampled"}
MICRO = 1e-6


def test_every_known_accelerator_has_a_network():
  assert set(NETWORKS) == {peak.name for peak in PEAKS}


@pytest.mark.parametrize(
  ("kind", "group", "chips", "passes", "rates", "latency"),
  [
    # A server of 8 GPUs: 7 hops over NVLink in each of two passes. rates: (share of the payload, GB/s) of each network.
    ("NVIDIA H100", 8, 8, 2, [(7 / 8, 450)], 4.4 + 2 * 7 * 0.94),
    # Two servers: each GPU also exchanges its eighth over InfiniBand, in one hop.
    ("NVIDIA H100", 16, 16, 2, [(7 / 8, 450), (1 / 2 / 8, 50)], 4.4 + 2 * (7 * 0.94 + 5)),
    # 4 x 4 x 4 chips: closed axes, 2 hops along each of three.
    ("TPU v5p", 64, 64, 2, [(63 / 64, 600)], 2 * 6),
    # 2 x 2 x 2 chips, as a slice or as a part of one: three of six links, one hop along each axis.
    ("TPU v5p", 8, 8, 2, [(7 / 8, 300)], 2 * 3),
    ("TPU v5p", 8, 64, 1, [(7 / 8, 300)], 3),
    # Two pods of 16 x 16: each chip also exchanges its 256th over the data-centre network.
    ("TPU v5e", 512, 512, 2, [(255 / 256, 200), (1 / 2 / 256, 3.125)], 2 * (16 + 50)),
    ("TPU v4", 1, 64, 1, [], 0),
  ],
)
def test_time_of_collectives_is_latency_plus_bytes_over_bandwidth(kind, group, chips, passes, rates, latency):
  seconds = functools.partial(NETWORKS[kind].seconds, passes=passes, chips=chips)
  size = 3e9
  expected = passes * sum(share * size / (rate * 1e9 * LINK_SHARE) for share, rate in rates)
  assert seconds(Exchange(size, 0), group) == pytest.approx(expected)
  assert seconds(Exchange(0, 10), group) == pytest.approx(10 * latency * MICRO)
  assert seconds(Exchange(size, 10), group) == pytest.approx(expected + 10 * latency * MICRO)


WORK = scaling.Work(
  batch=64,
  accumulate=1,
  clip_flops=2e12,
  weight_flops=1e12,
  gradients=Exchange(480e6, 10),
  statistics=Exchange(0, 50),
  pairs=Exchange(0, 0),
  parameters={1: Exchange(0, 0), 8: Exchange(240e6, 0)},
  state={1: 2.765e9, 8: 2.765e9 / 8},
)


def _times(work: scaling.Work = WORK, *, fsdp: int = 1) -> dict[str, float]:
  times = scaling.step_time(work, NETWORKS["TPU v5p"], 100e12, chips=64, fsdp=fsdp)
  return {name: 1e3 * seconds for name, seconds in times.items()}


def test_parts_of_a_step_on_64_chips():
  times = _times()
  # One clip of 2 TFLOP and 1 TFLOP of weights at 100 TFLOP/s.
  assert times["compute"] == pytest.approx(30)
  # Two passes of 63/64 x 480 MB at 480 GB/s, and 10 times 12 hops.
  assert times["gradients"] == pytest.approx(2 * 63 / 64 + 0.12)
  # 50 exchanges of 12 hops of a microsecond; reading and writing 2.765 GB at 2.765 TB/s.
  assert times["statistics"] == pytest.approx(0.6)
  assert times["state"] == pytest.approx(2)
  assert times["parameters"] == times["pairs"] == 0
  assert times["fastest"] == pytest.approx(30 + 0.6 + 2)
  assert times["slowest"] == pytest.approx(times["fastest"] + times["gradients"])


def test_shared_state_is_gathered_and_its_parts_are_updated():
  times = _times(fsdp=8)
  # 7/8 x 240 MB at half of 480 GB/s.
  assert times["parameters"] == pytest.approx(7 / 8)
  assert times["state"] == pytest.approx(2 / 8)
  assert times["gradients"] == _times()["gradients"]


def test_exchange_bounds_a_step_that_computes_little():
  idle = dataclasses.replace(WORK, clip_flops=0, weight_flops=0)
  times = _times(idle)
  assert times["fastest"] == times["slowest"] == pytest.approx(times["gradients"] + 0.6 + 2)


def test_accumulation_repeats_statistics_but_not_gradients():
  once, parts = _times(), _times(dataclasses.replace(WORK, accumulate=4))
  assert parts["statistics"] == pytest.approx(4 * once["statistics"])
  assert parts["gradients"] == once["gradients"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_more_chips_compute_faster_but_not_more_efficiently(kind):
  counts = [2**i for i in range(14)]
  times = [scaling.step_time(WORK, NETWORKS[kind], 100e12, chips=n, fsdp=1) for n in counts]
  assert all(time["fastest"] <= time["slowest"] for time in times)
  computing = [time["compute"] for time in times]
  assert computing == sorted(computing, reverse=True)
  chip_seconds = [n * time["slowest"] for n, time in zip(counts, times, strict=True)]
  assert chip_seconds == sorted(chip_seconds)


@pytest.fixture(scope="module")
def programs():
  """Compiled steps and their experiments, by the numbers of devices and of parts; filled by `measured`."""
  return {}


@pytest.fixture
def measured(tiny, programs, monkeypatch):
  """A function that measures the work of the tiny experiment by a program for some devices, compiled once."""
  compile_step = collectives.compile_step

  def compiled_once(experiment, phase):
    key = experiment.mesh.size, experiment.config.step.accumulate
    if key not in programs:
      programs[key] = experiment, compile_step(experiment, phase)
    return programs[key][1]

  monkeypatch.setattr(collectives, "compile_step", compiled_once)
  monkeypatch.setattr(scaling, "SHARDS", (1, 2))
  config = dataclasses.replace(tiny(**SHORT).config, mesh=MeshConfig(fsdp_min_size=16))
  return lambda devices, **changes: scaling.measure_work(
    dataclasses.replace(config, **changes), jax.devices()[:devices], backend="tpu"
  )


def _moved(programs, devices: int, parts: int = 1) -> dict[str, collectives.Traffic]:
  experiment, compiled = programs[devices, parts]
  return collectives.traffic(experiment, "main", compiled.as_text())


def test_programs_for_two_and_eight_devices_exchange_the_same(measured, programs):
  two, eight = measured(2), measured(8)
  assert two == eight
  # Hand-derived as in test_collectives: three layers of 1 frame x 2 channels, moments in three forward passes, their
  # gradients in one backward pass; some biases look like moments.
  statistics = 3 * (3 * 2 + 2) * (1 * 2 * 4)
  assert statistics <= eight.statistics.bytes <= statistics + 4 * 8
  for devices in (2, 8):
    moved = _moved(programs, devices)
    assert moved["gradients"].bytes == pytest.approx(eight.gradients.bytes, rel=0.05)
    assert moved["gradients"].runs == eight.gradients.runs
    around = sum(moved[name].bytes for name in ("pairs of clips", "scalars", "other"))
    assert around == pytest.approx(eight.pairs.bytes)


def test_parts_repeat_the_exchange_of_statistics(measured, programs, tiny):
  work = measured(8)
  config = tiny(**SHORT, train__batch_size=16, step__accumulate=2).config
  experiment = build_experiment(config, devices=jax.devices()[:8])
  collectives.compile_step(experiment, "main")
  moved = _moved(programs, 8, parts=2)["batch statistics"]
  assert moved.bytes == 2 * work.statistics.bytes
  # A collective with arrays for several purposes counts for the first one.
  assert moved.runs == pytest.approx(2 * work.statistics.runs, abs=1)


def test_state_and_gathered_parameters_are_those_of_the_shards(measured, tiny):
  work = measured(8)
  params = jax.tree.leaves([net.params for net in tiny(**SHORT).abstract_state.nets.values()])
  # Axes of odd lengths are not split; the discriminator steps twice, the generator once.
  split = [x.size for x in params if x.size >= 16 and any(length % 2 == 0 for length in x.shape)]
  assert work.parameters[1] == (0, 0)
  assert work.parameters[2].bytes >= 3 * 4 * sum(split)
  assert work.parameters[2].runs >= 3 * len(split)
  assert work.state[1] / 2 < work.state[2] < work.state[1]


def test_command_reports_the_model(measured, repository, tmp_path, capsys):
  work, out = measured(8), tmp_path / "figures.jsonl"
  settings = ["--device_kind=TPU v5p", "--mfu=0.4", "--scaling=2,8,16", f"--out={out}"]
  changes = TINY | {name.replace("__", "."): value for name, value in SHORT.items()} | {"mesh.fsdp_min_size": 16}
  overrides = [f"--config.{name}={value}" for name, value in changes.items()]
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  assert cli.dispatch(["bench", config, *overrides, *settings]) == 0
  head, *rows = map(json.loads, out.read_text().splitlines())
  assert (head["device_kind"], head["mfu"]) == ("TPU v5p", 0.4)
  assert [(row["chips"], row["fsdp"], row["batch"], row["clips/chip"]) for row in rows] == [
    (2, 1, 8, 4), (2, 2, 8, 4), (8, 1, 8, 1), (8, 2, 8, 1), (16, 1, 16, 1), (16, 2, 16, 1),
  ]  # fmt: skip
  flops = 4 * work.clip_flops + work.weight_flops
  assert rows[0]["compute ms"] == pytest.approx(1e3 * flops / (0.4 * 459e12), rel=1e-3)
  assert rows[0]["efficiency slowest %"] == rows[0]["efficiency fastest %"] == 100
  assert rows[2]["efficiency slowest %"] == pytest.approx(100 * rows[0]["slowest ms"] / rows[2]["slowest ms"] / 4)
  text = capsys.readouterr().out
  assert "A model, not measured: 40 % of 459 TFLOP/s" in text
  assert "batch 8: at most 8 chips have a clip each per device" in text
  assert "NOT the batch of this config: raised to 16 on 16 chips; `train` needs --config.train.batch_size" in text
  assert "--device_kind is not set" not in text
  assert "slowest: efficiency falls below 50 % at 4 chips (2 clips per chip)" in text


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("--scaling=0,8", "--scaling=0,8: give numbers of chips from 1"),
    ("--scaling=eight", "--scaling: 'eight' is not an integer"),
    ("--scaling=8 --mfu=2", "--mfu=2.0 must be above 0 and at most 1"),
    ("--scaling=8 --estimate", "--scaling and --estimate exclude each other"),
  ],
)
def test_mistakes_are_one_line(arguments, message, repository, vidgen):
  config = f"--config={repository}/experiments/trivd_shape_motion.py:smoke"
  assert message in vidgen("bench", config, *arguments.split())
