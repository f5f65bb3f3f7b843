"""launch/local.sh: its options become variables and flags; all other words are passed on."""

import pytest


@pytest.fixture
def local(sandbox):
  (sandbox.checkout / "launch" / "setup.sh").write_text("")
  python = sandbox.checkout / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(
    '#!/bin/bash\nprintf "%s\\n" "${JAX_DEBUG_NANS:-} ${JAX_DISABLE_JIT:-}" "$@" >"$FAKE/called"; exit "${CODE:-0}"\n'
  )
  python.chmod(0o755)

  def run(*words: str, **environment: str):
    return sandbox.run("local.sh", *words, **environment)

  return run


TRAIN = ("train", "--config=a.py:smoke", "--workdir=runs/it's a run")


@pytest.mark.parametrize(
  ("options", "variables", "added"),
  [
    ((), " ", ()),
    (("--nan-check",), "1 ", ()),
    (("--no-jit",), " 1", ()),
    (("--steps=3",), " ", ("--config.train.num_steps=3",)),
    (("--steps=1", "--no-jit", "--nan-check"), "1 1", ("--config.train.num_steps=1",)),
  ],
)
def test_options_become_variables_and_flags(options, variables, added, local, sandbox):
  assert local(*options, *TRAIN).returncode == 0
  assert sandbox.lines("called") == [variables, "-m", "vidgen_jax", *TRAIN, *added]


def test_flags_after_the_command_are_passed_on(local, sandbox):
  assert local("bench", "--steps=12").returncode == 0
  assert sandbox.lines("called")[1:] == ["-m", "vidgen_jax", "bench", "--steps=12"]
  assert local("--help").returncode == 0
  assert sandbox.lines("called")[1:] == ["-m", "vidgen_jax", "--help"]


def test_the_exit_status_is_that_of_the_command(local):
  assert local(*TRAIN, CODE="75").returncode == 75


def test_steps_apply_to_train_only(local, sandbox):
  result = local("--steps=3", "sample")
  assert (result.returncode, sandbox.lines("called")) == (2, [])
  assert "--steps=3 applies to train only" in result.stderr
