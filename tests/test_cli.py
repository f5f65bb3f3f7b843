"""The command line: each mistake of the user is one line that names its cause; other exceptions pass through."""

import errno
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vidgen_jax import cli
from vidgen_jax.commands.flag_parsing import find_experiment
from vidgen_jax.errors import UserError

COMMAND = '''
import errno
import os
import sys

from absl import flags
from absl import logging

from vidgen_jax.commands.flag_parsing import define_config
from vidgen_jax.errors import RetryableError, UserError

SUMMARY = """moves widgets to another shelf

Needs a config.
"""
SEEN = []

def define_flags(flag_values):
  define_config(flag_values)
  flags.DEFINE_integer('widgets', 3, 'number of widgets', flag_values=flag_values)
  flags.DEFINE_enum('shelf', 'upper', ['upper', 'lower'], 'shelf', flag_values=flag_values)
  flags.DEFINE_string('workdir', None, 'folder', flag_values=flag_values, required=True)

def run(flag_values, arguments):
  SEEN.append((flag_values, arguments, list(sys.argv)))
  action = flag_values.workdir
  if action == 'invalid':
    raise UserError('config.batch_size=3:\\n  not divisible')
  if action == 'again':
    raise RetryableError('the network is down; run the same command')
  if action == 'full':
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/full/metrics.jsonl')
  if action == 'no_name':
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
  if action == 'lost':
    raise FileNotFoundError(errno.ENOENT, 'gone', 'x')
  if action == 'stop':
    raise KeyboardInterrupt
  if action == 'defect':
    raise ValueError('a defect of the package')
  return {'three': 3, 'zero': 0}.get(action)
'''

CONFIG = """
import ml_collections


def get_config(variant='cpu'):
  if variant not in ('cpu', 'paper'):
    raise ValueError(f'variant {variant!r} is not one of cpu, paper')
  if variant == 'paper':
    return ml_collections.ConfigDict({'oops': undefined_name})
  train = {'num_steps': 10, 'learning_rate': 1e-3, 'remat': True, 'widths': (1, 2), 'note': None}
  return ml_collections.ConfigDict({'train': train})
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
  """Registers `vidgen fake` and `vidgen words`; the current folder contains their config."""
  (tmp_path / "fake_command.py").write_text(COMMAND)
  (tmp_path / "experiments").mkdir()
  (tmp_path / "experiments" / "widgets.py").write_text(CONFIG)
  (tmp_path / "experiments" / "syntax.py").write_text("def get_config():\n  return (\n")
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, "fake_command", raising=False)
  monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command(module="fake_command"))
  monkeypatch.setitem(cli.COMMANDS, "words", cli.Command(module="fake_command", arguments="ACTION NAME"))
  yield
  sys.modules.pop("fake_command", None)


@pytest.fixture
def error_line(capfd):
  """A function that runs words, which must fail with status 2 and one line on stderr, and returns that line."""

  def run(words: str) -> str:
    assert cli.dispatch(words.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("vidgen: error: ")
    return err.removeprefix("vidgen: error: ").rstrip("\n")

  return run


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_each_command_with_the_first_line_of_its_summary(words, command, capsys):
  assert cli.dispatch(words) == 0
  out = capsys.readouterr().out
  assert "usage: vidgen COMMAND" in out
  assert re.search(r"^  fake +moves widgets to another shelf$", out, re.MULTILINE)
  assert "Needs a config" not in out
  assert "fake_command" not in sys.modules  # the list imports no commands


def test_help_of_a_command_shows_the_summary_and_its_flags_only(command, capsys):
  assert cli.dispatch(["fake", "--help"]) == 0
  out = capsys.readouterr().out
  assert "moves widgets to another shelf\n\nNeeds a config." in out
  for flag in ("--config", "--widgets", "--shelf", "--workdir", "--[no]verbose"):
    assert f"  {flag}\n" in out
  assert "(default: '3')" in out
  assert "grain" not in out.split("--[no]verbose")[0]
  assert sys.modules["fake_command"].SEEN == []


def test_version(capsys):
  assert cli.dispatch(["--version"]) == 0
  assert re.fullmatch(r"vidgen_jax \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_names_find_experiments_of_the_current_folder_first(command):
  assert find_experiment("widgets") == "experiments/widgets.py"
  Path("experiments/trivd_bair.py").write_text(CONFIG)
  assert find_experiment("trivd_bair") == "experiments/trivd_bair.py"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "broken.py has no function get_config(variant) that returns a ConfigDict"),
    ("def get_config():\n  pass\n", "broken.py has no function get_config(variant) that returns a ConfigDict"),
    ("def get_config(variant):\n  pass\n", "broken.py: TypeError: get_config() missing 1 required positional argument"),
    ("def get_config():\n  raise RuntimeError('no')\n", "line 2: RuntimeError: no"),
    ("def get_config():\n  assert False, 'no'\n", "line 2: AssertionError: no"),
  ],
)
def test_a_file_that_is_not_an_experiment_is_one_line(text, message, command, error_line):
  Path("broken.py").write_text(text)
  assert message in error_line("fake --config=broken.py")


def test_flags_overrides_and_arguments_reach_the_command_in_any_order(command):
  words = "words build --widgets=5 shapes --config=experiments/widgets.py:cpu --config.train.num_steps=7 --workdir w"
  words += " --config.train.learning_rate 2 --noconfig.train.remat --config.train.widths=(3,4,5) -- --not_a_flag"
  argv = list(sys.argv)
  assert cli.dispatch(words.split()) == 0
  flag_values, arguments, seen_argv = sys.modules["fake_command"].SEEN[0]
  assert arguments == ["build", "shapes", "--not_a_flag"]
  assert (flag_values.widgets, flag_values.workdir, flag_values.shelf) == (5, "w", "upper")
  assert flag_values.config.train.to_dict() == {
    "num_steps": 7,
    "learning_rate": 2.0,
    "remat": False,
    "widths": (3, 4, 5),
    "note": None,
  }
  assert seen_argv == sys.argv == argv  # restored after the flags are parsed


def test_calls_do_not_leak_flags_into_each_other(command):
  assert cli.dispatch(["fake", "--workdir=a", "--widgets=9"]) == 0
  assert cli.dispatch(["fake", "--workdir=b"]) == 0
  assert [seen[0].widgets for seen in sys.modules["fake_command"].SEEN] == [9, 3]


def test_retryable_errors_have_their_own_status(command, capsys):
  assert cli.dispatch(["fake", "--workdir=again"]) == 75
  assert capsys.readouterr().err == "vidgen: error: the network is down; run the same command\n"


@pytest.mark.parametrize(("workdir", "status"), [("three", 3), ("zero", 0), ("none", 0)])
def test_exit_status_is_the_result_of_run(workdir, status, command):
  with pytest.raises(SystemExit) as caught:
    cli.main(["fake", f"--workdir={workdir}"])
  assert caught.value.code == status


def test_interrupt_is_130_without_traceback(command, capsys):
  assert cli.dispatch(["fake", "--workdir=stop"]) == 130
  assert "Traceback" not in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(command):
  with pytest.raises(ValueError, match="a defect of the package"):
    cli.dispatch(["fake", "--workdir=defect"])
  with pytest.raises(FileNotFoundError):
    cli.dispatch(["fake", "--workdir=lost"])


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    ("tarin", "unknown command 'tarin'; did you mean 'train'? the commands are train, "),
    ("fake", "--workdir is required"),
    ("fake --workdir=w --widget=3", "unknown flag --widget; did you mean '--widgets'? `vidgen fake --help` lists"),
    ("fake --workdir=w --widgets=many", "--widgets=many: expected a value of type int: "),
    ("fake --workdir=w --shelf=middle", "--shelf=middle: value should be one of"),
    ("fake --workdir=w --widgets", "Missing value for flag --widgets"),
    ("fake --workdir=w stray", "vidgen fake takes no arguments, got 'stray'; "),
    ("fake --workdir=invalid", "config.batch_size=3: not divisible"),
    ("fake --workdir=full", "/full/metrics.jsonl: No space left on device; free some space"),
    ("fake --workdir=no_name", "cannot write: Read-only file system; choose a folder that can be written"),
  ],
)
def test_mistakes_in_flags_and_files(words, expected, command, error_line):
  assert error_line(words).startswith(expected)


FILE = "experiments/widgets.py"


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    ("--config=experiments/widget.py", "--config: there is no file 'experiments/widget.py'; did you mean 'widgets'?"),
    ("--config=", "--config: there is no file ''; give FILE.py:VARIANT with the path of a file or one of "),
    ("--config=no.py --config.train.x=1", "--config: there is no file 'no.py'"),
    (f"--config={FILE}:big", f"{FILE}, line 7: ValueError: variant 'big' is not one of cpu, paper"),
    (f"--config={FILE}:paper", f"{FILE}, line 9: NameError: name 'undefined_name' is not defined"),
    ("--config=experiments/syntax.py", "experiments/syntax.py, line 2: SyntaxError: '(' was never closed"),
    (
      f"--config={FILE} --config.trian.num_steps=1",
      "--config.trian.num_steps: the config has no such field; did you mean 'train' instead of 'trian'?",
    ),
    (
      f"--config={FILE} --config.train.remat=false --config.train.num_step=1",
      "--config.train.num_step: the config has no such field; did you mean 'num_steps' instead of 'num_step'?",
    ),
    (f"--config={FILE} --config.train.num_steps.x=1", "--config.train.num_steps.x: the config has no such field"),
    (
      f"--config={FILE} --noconfig.train.rmat",
      "--noconfig.train.rmat: the config has no such field; did you mean 'remat'",
    ),
    (f"--config={FILE} --config.train.num_steps=1.5", "--config.train.num_steps=1.5: expected a value of type int"),
    (
      f"--config={FILE} --config.train.learning_rate=x",
      "--config.train.learning_rate=x: expected a value of type float",
    ),
    (f"--config={FILE} --config.train.remat=3", "--config.train.remat=3: expected a value of type bool"),
    (f"--config={FILE} --config.train=3", "--config.train=3: Failed to parse '3' as a ConfigDict"),
    (f"--config={FILE} --config.train.note=3", "Type <class 'NoneType'> of field config.train.note is not supported"),
    (f"--config={FILE} --config.train.widths[7]=3", "--config.train.widths[7]: "),
    (f"--config.train.num_steps=1 --config={FILE}", "Found --config.train.num_steps=1 in argv before a value for"),
    ("--config.train.num_steps=1", "--config.train.num_steps: give --config=FILE.py:VARIANT before its overrides"),
  ],
)
def test_mistakes_in_the_config_name_the_file_or_the_field(words, expected, command, error_line):
  assert error_line(f"fake --workdir=w {words}").startswith(expected)


@pytest.mark.parametrize("name", ["widgets", "widgets.py", "experiments/widgets.py", "./experiments/widgets"])
def test_configs_are_found_in_the_current_folder_first(name, command, tmp_path):
  (tmp_path / "widgets.py").write_text(CONFIG)
  found = find_experiment(name)
  assert Path(found).resolve().is_relative_to(tmp_path)
  assert Path(found).resolve().parent.name == ("experiments" if "experiments" in name else tmp_path.name)


@pytest.mark.parametrize("name", ["trivd_table1", "trivd_table1.py", "experiments/trivd_table1.py"])
def test_packaged_experiments_are_found_from_any_folder(name, command, repository):
  assert find_experiment(name) == str(repository / "experiments" / "trivd_table1.py")


def test_the_config_of_a_packaged_experiment_is_loaded(command):
  assert (
    cli.dispatch(["fake", "--workdir", "w", "--config", "trivd_shape_motion:smoke", "--config.train.num_steps=7"]) == 0
  )
  config = sys.modules["fake_command"].SEEN[0][0].config
  assert (config.name, config.train.num_steps) == ("trivd_shape_motion:smoke", 7)


def test_missing_configs_list_the_experiments(error_line, command):
  line = error_line("fake --workdir=w --config=somewhere/trivd_table1.py")
  assert "there is no file 'somewhere/trivd_table1.py'" in line
  assert "inbetween_bair, " in line and ", trivd_table1, " in line


def test_user_errors_inside_a_config_pass_through(command, error_line, tmp_path):
  (tmp_path / "own.py").write_text(
    "from vidgen_jax.errors import UserError\ndef get_config(variant):\n  raise UserError('variant: choose cpu')\n"
  )
  assert error_line("fake --workdir=w --config=own.py:x") == "variant: choose cpu"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM])
def test_disk_errors_name_the_file_and_the_remedy(number, command, monkeypatch, capsys):
  def raise_error(words):
    raise OSError(number, os.strerror(number), "/data/clips")

  monkeypatch.setattr(cli, "_dispatch", raise_error)
  assert cli.dispatch(["data"]) == 2
  assert capsys.readouterr().err.startswith(f"vidgen: error: /data/clips: {os.strerror(number)}; ")


def _python(code: str) -> subprocess.CompletedProcess:
  return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


def test_the_list_of_commands_imports_neither_jax_nor_tensorflow():
  result = _python("""
    import sys
    from vidgen_jax import cli
    assert cli.dispatch([]) == 0
    sys.exit(len({'jax', 'flax', 'tensorflow', 'tensorflow_datasets', 'orbax'} & set(sys.modules)))
  """)
  assert result.returncode == 0, result.stderr


def test_mistakes_in_flags_of_train_are_reported_before_jax_is_imported():
  result = _python("""
    import sys
    from vidgen_jax import cli
    mistakes = [
      ["--confg=trivd_shape_motion.py:cpu"],
      ["--config=trivd_shape_motoin.py:cpu", "--workdir=w"],
      ["--config=trivd_shape_motion.py:cpuu", "--workdir=w"],
      *(
        [f"--config={name}", "--workdir=w", "--config.train.batchsize=3"]
        for name in ("trivd_bair:smoke", "inbetween_bair:smoke", "sr_cgan_kth:smoke", "mvt_jester:mvt_smoke")
      ),
      ["--config=trivd_shape_motion.py:cpu", "--workdir=w", "--config.train.batch_size=many"],
    ]
    statuses = [cli.dispatch(["train", *words]) for words in mistakes]
    assert statuses == [2] * len(mistakes), statuses
    sys.exit(len({'jax', 'flax', 'optax', 'tensorflow', 'orbax'} & set(sys.modules)))
  """)
  assert result.returncode == 0, result.stderr
  assert result.stderr.count("no such field") == 4


def test_python_m_runs_the_same_program():
  words = ["-m", "vidgen_jax", "trainn"]
  result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
  assert result.returncode == 2
  assert result.stderr.startswith("vidgen: error: unknown command 'trainn'; did you mean 'train'?")
  assert result.stderr.count("\n") == 1


def test_log_lines_have_a_short_prefix_and_omit_libraries():
  result = _python("""
    import logging
    from absl import logging as absl_logging
    from vidgen_jax import cli
    def log_from(path):
      logger = logging.getLogger('absl')
      for level in (logging.INFO, logging.WARNING):
        logger.handle(logger.makeRecord('absl', level, path, 1, f'{path.split("/")[-1]} {level}', (), None))
    cli._log_to_stderr(verbose=False)
    log_from('/elsewhere/orbax.py')
    log_from(cli.__file__)
    cli._log_to_stderr(verbose=True)
    log_from('/elsewhere/grain.py')
    absl_logging.info('direct')
  """)
  assert result.returncode == 0, result.stderr
  assert [re.sub(r"\d\d:\d\d:\d\d", "TIME", line) for line in result.stderr.splitlines()] == [
    "W TIME orbax.py 30",
    "I TIME cli.py 20",
    "W TIME cli.py 30",
    "I TIME grain.py 20",
    "W TIME grain.py 30",
    "I TIME direct",
  ]


def test_user_errors_are_neither_os_nor_value_errors():
  assert issubclass(UserError, Exception)
  assert not issubclass(UserError, OSError | ValueError)
