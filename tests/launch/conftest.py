"""A copy of the scripts that sees nothing of the machine but stand-ins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
# Scripts run with a PATH of their own, which holds these and the stand-ins that a test adds.
TOOLS = (
  "bash",
  "cat",
  "cp",
  "dirname",
  "env",
  "find",
  "flock",
  "grep",
  "gzip",
  "head",
  "ln",
  "mkdir",
  "mktemp",
  "mv",
  "nohup",
  "od",
  "rm",
  "rmdir",
  "sed",
  "setsid",
  "sleep",
  "sort",
  "stat",
  "tail",
  "tar",
  "tee",
  "touch",
  "tr",
  "wc",
)


class Sandbox:
  """A checkout with the scripts of launch/, and a PATH."""

  def __init__(self, folder: Path, scripts: Path):
    self.folder = folder
    self.bin = folder / "bin"
    self.checkout = folder / "checkout"
    self.bin.mkdir()
    for tool in TOOLS:
      (self.bin / tool).symlink_to(shutil.which(tool))
    shutil.copytree(scripts, self.checkout / "launch")
    shutil.copy(scripts.parent / "pyproject.toml", self.checkout)
    self.environment = {"PATH": str(self.bin), "HOME": str(folder), "FAKE": str(folder)}

  def program(self, name: str, text: str) -> None:
    """A stand-in on the PATH."""
    path = self.bin / name
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)

  def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a script of launch/ to its end."""
    return subprocess.run(
      ["bash", self.checkout / "launch" / script, *arguments],
      env=self.environment | environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )

  def lines(self, name: str) -> list[str]:
    """Of a file that a stand-in wrote; none if it did not."""
    path = self.folder / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def sandbox(tmp_path, repository) -> Sandbox:
  """The copy of one test."""
  return Sandbox(tmp_path, repository / "launch")


@pytest.fixture(scope="session")
def shellcheck() -> str:
  """The program; a test that needs it is skipped where it is absent."""
  found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
  if found is None:
    pytest.skip("shellcheck is not installed; the extra dev holds it")
  return found
