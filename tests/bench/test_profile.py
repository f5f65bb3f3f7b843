"""Times of operations from a trace, by module and direction."""

import collections
import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from experiments import trivd_shape_motion
from tests.tiny_experiment import TINY
from vidgen_jax import cli
from vidgen_jax.bench import hlo, profile
from vidgen_jax.bench.profile import ScopeTime
from vidgen_jax.errors import UserError

pytest_plugins = ("tests.trained_runs",)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    return jnp.sum(nn.Dense(8, name="second")(jnp.sin(nn.Dense(16, name="first")(x))) ** 2)


@pytest.fixture(scope="module")
def program():
  net, x = Net(), jnp.ones((4, 3))
  params = net.init(jax.random.key(0), x)
  step = jax.jit(jax.grad(lambda params, x: net.apply(params, x))).lower(params, x).compile()
  return step, functools.partial(step, params, x)


@pytest.mark.parametrize(
  ("scope", "expected"),
  [
    ("jit(train_step)/jvp(Net)/first/dot_general", ("Net/first", "forward")),
    ("jit(train_step)/transpose(jvp(Net))/first/dot_general", ("Net/first", "backward")),
    ("jit(step)/while/body/closed_call/jvp(Net)/Net.decode/unit_0/unit_0.step/add", ("Net/unit_0", "forward")),
    ("jit(step)/jvp(Net)/checkpoint/conv/branch_0_fun/jit(relu)/max", ("Net/conv", "forward")),
    ("jit(step)/shard_map/transpose(jvp(Net))/conv/add", ("Net/conv", "backward")),
    ("jit(step)/add", ("", "forward")),
    ("", ("", "forward")),
  ],
)
def test_modules_of_scopes(scope, expected):
  assert profile.module_of(scope) == expected


def _traced(run, text, *, runs=1):
  return profile.scope_times(lambda: [jax.block_until_ready(run()) for _ in range(runs)], text, runs=runs, devices=1)


def test_each_module_has_its_operations_of_one_run(program):
  step, run = program
  times = _traced(run, step.as_text(), runs=3)
  assert [time.seconds for time in times] == sorted((time.seconds for time in times), reverse=True)
  found = {(time.scope, time.direction): time.opcodes for time in times}
  modules = {("Net/first", "forward"), ("Net/second", "forward"), ("Net/first", "backward"), ("Net/second", "backward")}
  assert found.keys() >= modules
  once = {(time.scope, time.direction): time.opcodes for time in _traced(run, step.as_text())}
  assert {key: dict(opcodes) for key, opcodes in found.items()} == once


def test_loops_count_by_their_instructions_and_not_again():
  def count(length):
    loop = jax.jit(lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, length=length)[0])
    text = loop.lower(jnp.eye(32)).compile().as_text()
    assert "while" in {opcode for opcode, _ in hlo.scopes(text).values()}
    totals = collections.Counter()
    for time in _traced(lambda: loop(jnp.eye(32)), text):
      totals.update(time.opcodes)
    assert "while" not in totals
    return totals.total()

  longer, shorter = count(20), count(10)
  assert longer > shorter
  assert (longer - shorter) % 10 == 0


def test_a_trace_without_operations_is_an_error(program):
  step, _ = program
  with pytest.raises(UserError, match="names no operations"):
    profile.scope_times(lambda: None, step.as_text(), runs=1, devices=1)


def test_figures_are_shares_of_all_operations():
  times = [
    ScopeTime(scope="Net/first", direction="backward", seconds=0.006, opcodes={"dot": 1.0, "fusion": 2.5}),
    ScopeTime(scope="", direction="forward", seconds=0.003, opcodes={"fusion": 2.0}),
    ScopeTime(scope="Net", direction="forward", seconds=0.001, opcodes={"copy": 1.0}),
  ]
  figures = profile.profile_figures(times, count=2)
  assert [(figure.name, figure.value, figure.note) for figure in figures] == [
    ("Net/first, backward", pytest.approx(6), "60.0 %: 1 dot, 2.5 fusion"),
    ("outside of modules, forward", pytest.approx(3), "30.0 %: 2 fusion"),
    ("all others", pytest.approx(1), "10.0 %: 1 modules and directions"),
  ]


def test_the_command_lists_ten_modules(run_config, capsys):
  fields = TINY | {"data.data_dir": run_config.data.data_dir}
  text = {name: ",".join(map(str, v)) + "," if isinstance(v, tuple) else v for name, v in fields.items()}
  words = [f"--config.{name}={value}" for name, value in text.items()]
  config = f"--config={trivd_shape_motion.__file__}:smoke"
  assert cli.dispatch(["bench", config, *words, "--profile", "--steps=1"]) == 0
  lines = [line for line in capsys.readouterr().out.splitlines() if " ms " in line]
  assert len(lines) == 11
  assert any(line.startswith(("ResidualDiscriminator/", "Generator/")) for line in lines)
  assert lines[-1].startswith("all others")


def test_modes_exclude_each_other(vidgen):
  config = f"--config={trivd_shape_motion.__file__}:smoke"
  assert vidgen("bench", config, "--profile", "--estimate") == "--estimate and --profile exclude each other"
