"""A copy of the scripts whose PATH contains only basic tools and fake programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
# Real programs on the PATH of the sandbox.
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
  """A checkout with the scripts of launch/, and its own PATH and HOME."""

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
    """Adds a fake program to the PATH."""
    path = self.bin / name
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)

  def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a script of launch/."""
    return subprocess.run(
      ["bash", self.checkout / "launch" / script, *arguments],
      env=self.environment | environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      check=False,
    )

  def lines(self, name: str) -> list[str]:
    """Lines of a file that a fake program wrote; none if it does not exist."""
    path = self.folder / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def sandbox(tmp_path, repository) -> Sandbox:
  """A new sandbox."""
  return Sandbox(tmp_path, repository / "launch")


@pytest.fixture(scope="session")
def shellcheck() -> str:
  """Path of shellcheck; tests that need it are skipped if it is missing."""
  found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
  if found is None:
    pytest.skip("shellcheck is not installed; the extra dev contains it")
  return found
