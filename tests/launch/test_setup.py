"""launch/setup.sh with fake interpreters."""

import sys

CONSTRAINTS = "constraints-py311.txt" if sys.version_info < (3, 12) else "constraints-py312.txt"

# An interpreter whose `-m venv` copies itself, and whose pip logs its arguments.
FAKE_PYTHON = f"""
case "$1 ${{2:-}}" in
  "-m venv")
    mkdir -p "$4/bin"
    cat "${{BASH_SOURCE[0]}}" >"$4/bin/python"
    /bin/chmod +x "$4/bin/python"
    : >"$4/pyvenv.cfg"
    ;;
  "-m pip")
    [[ "$3" != --version ]] || exit 0
    echo "${{@:3}}" >>"$HOME/pip.log"
    [[ ! -e "$HOME/broken" ]]
    ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


def test_setup_without_python_names_the_variable(sandbox):
  sandbox.program("python3", "exit 1")  # too old
  sandbox.program("python3.13", "exit 127")  # a shim that does not run
  result = sandbox.run("setup.sh")
  assert result.returncode == 1
  assert result.stderr == "setup: error: no Python >= 3.11 found; install one, or set VIDGEN_PYTHON to its path\n"


def test_setup_with_python_that_lacks_ensurepip_names_the_package(sandbox):
  sandbox.program("python3", '[[ "$2" != *ensurepip* ]]')
  result = sandbox.run("setup.sh")
  assert result.returncode == 1
  assert "python3 has no ensurepip" in result.stderr
  assert "apt-get install python3-venv" in result.stderr


def test_setup_prefers_the_newest_interpreter_that_works(sandbox):
  sandbox.program("python3.13", "exit 127")  # a shim that does not run
  sandbox.program("python3.12", f'touch "$HOME/newest"\n{FAKE_PYTHON}')
  sandbox.program("python3.11", f'touch "$HOME/older"\n{FAKE_PYTHON}')
  result = sandbox.run("setup.sh")
  assert result.returncode == 0, result.stderr
  assert (sandbox.folder / "newest").exists()
  assert not (sandbox.folder / "older").exists()


def test_setup_installs_once_and_again_when_something_changed(sandbox, tmp_path):
  def installs() -> list[str]:
    return sandbox.lines("pip.log")

  sandbox.program("python3", FAKE_PYTHON)
  (tmp_path / "broken").touch()
  assert sandbox.run("setup.sh").returncode == 1  # the installation fails
  (tmp_path / "broken").unlink()
  for _ in range(2):  # the second run has nothing to do
    result = sandbox.run("setup.sh")
    assert result.returncode == 0, result.stderr
    assert len(installs()) == 2
  assert result.stderr == ""
  assert f"launch/{CONSTRAINTS}" in installs()[0]
  assert installs()[0].rstrip().endswith("/checkout[dev,tensorboard]")
  with (tmp_path / "checkout" / "launch" / CONSTRAINTS).open("a") as file:
    file.write("something==1.0\n")
  assert sandbox.run("setup.sh").returncode == 0
  assert len(installs()) == 3
  sandbox.program("nvidia-smi", "exit 9")  # a driver without a GPU: nothing changes
  assert sandbox.run("setup.sh").returncode == 0
  assert len(installs()) == 3
  sandbox.program("nvidia-smi", "echo 'GPU 0: a GPU'")
  assert sandbox.run("setup.sh").returncode == 0
  assert installs()[-1].rstrip().endswith("[dev,tensorboard,cuda13]")
