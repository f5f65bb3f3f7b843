"""launch/slurm.sbatch, with a fake srun that exits with a given status and a fake scontrol that logs its arguments."""

import os
import re
import subprocess
import sys

import pytest

SUBMITTED = {
  "SLURM_JOB_ID": "4242",
  "SLURM_NTASKS_PER_NODE": "4",
  "SLURM_GPUS_ON_NODE": "4",
  "VIDGEN_CONFIG": "experiments/a.py:paper",
  "VIDGEN_WORKDIR": "/shared/it's a run",
}


@pytest.fixture
def job(sandbox):
  """A function that runs the job like sbatch: a copy of the script, in the folder that it was submitted from."""
  (sandbox.checkout / "launch" / "setup.sh").write_text('echo set up >>"$FAKE/installed"\n')
  sandbox.program(
    "srun",
    'printf "%s\\n" "$*" >>"$FAKE/srun"; echo "${JAX_LOCAL_DEVICE_IDS:-unset}" >"$FAKE/devices"\n'
    'echo "$JAX_COMPILATION_CACHE_DIR" >"$FAKE/cache"; exit "$CODE"',
  )
  sandbox.program(
    "scontrol",
    'echo "$*" >>"$FAKE/scontrol"\n'
    'if [[ "$1" == show ]]; then echo "   JobState=${STATE:-RUNNING} Reason=None"; else exit "${REFUSED:-0}"; fi',
  )
  sandbox.program("seq", 'for ((i = $3; i < $4; i++)); do printf "%s," "$i"; done; echo "$4"')
  spool = sandbox.folder / "spool"
  spool.mkdir()
  script = spool / "slurm_script"
  script.write_bytes((sandbox.checkout / "launch" / "slurm.sbatch").read_bytes())

  def run(code: int, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    submitted = SUBMITTED | {"SLURM_SUBMIT_DIR": str(sandbox.checkout), "CODE": str(code)} | environment
    return subprocess.run(
      ["bash", script, *arguments],
      env=sandbox.environment | submitted,
      cwd=spool,
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def test_a_finished_run_ends_the_job(job, sandbox):
  assert job(0, "--config.train.num_steps=8").returncode == 0
  assert sandbox.lines("srun") == [
    "--kill-on-bad-exit=0 .venv/bin/python -m vidgen_jax train --distributed --config=experiments/a.py:paper "
    "--workdir=/shared/it's a run --config.train.num_steps=8"
  ]
  assert sandbox.lines("installed") == ["set up"]
  assert sandbox.lines("cache") == ["/shared/it's a run/compilation_cache"]
  assert sandbox.lines("scontrol") == []


def test_a_preempted_run_is_requeued(job, sandbox):
  result = job(75)
  assert result.returncode == 0, result.stderr
  assert sandbox.lines("scontrol") == ["show job 4242", "requeue 4242"]


@pytest.mark.parametrize("code", [1, 2, 137, 143])
def test_another_exit_status_fails_the_job(code, job, sandbox):
  assert job(code).returncode == code
  assert sandbox.lines("scontrol") == []


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PREEMPTED"])
def test_a_cancelled_job_is_not_requeued(state, job, sandbox):
  result = job(75, STATE=state)
  assert result.returncode == 75
  assert "is not requeued" in result.stderr
  assert sandbox.lines("scontrol") == ["show job 4242"]


def test_restarts_have_a_limit(job, sandbox):
  assert job(75, SLURM_RESTART_COUNT="2", VIDGEN_MAX_RESTARTS="3").returncode == 0
  result = job(75, SLURM_RESTART_COUNT="3", VIDGEN_MAX_RESTARTS="3")
  assert result.returncode == 75
  assert "VIDGEN_MAX_RESTARTS=3" in result.stderr
  assert sandbox.lines("scontrol").count("requeue 4242") == 1


def test_a_failing_requeue_fails_the_job(job):
  assert job(75, REFUSED="1").returncode == 1


def test_one_task_per_node_uses_all_its_gpus(job, sandbox):
  job(0)
  assert sandbox.lines("devices") == ["unset"]
  job(0, SLURM_NTASKS_PER_NODE="1")
  assert sandbox.lines("devices") == ["0,1,2,3"]


@pytest.mark.parametrize("name", ["VIDGEN_CONFIG", "VIDGEN_WORKDIR"])
def test_missing_variables_are_reported(name, job, sandbox):
  result = job(0, **{name: ""})
  assert result.returncode == 2
  assert f"{name} is missing" in result.stderr
  assert sandbox.lines("srun") == []


def test_a_job_must_be_submitted_from_a_checkout(job, tmp_path):
  result = job(0, SLURM_SUBMIT_DIR=str(tmp_path))
  assert result.returncode == 2
  assert "submit the job from a checkout" in result.stderr


def test_the_directives_leave_time_to_save_and_allow_a_requeue(repository):
  text = (repository / "launch" / "slurm.sbatch").read_text()
  # sbatch reads directives up to the first line that is neither empty nor a comment.
  head = text[: text.index("\nset -euo pipefail")]
  directives = re.findall(r"^#SBATCH (\S+)$", head, re.MULTILINE)
  assert len(directives) == text.count("#SBATCH --")
  assert {"--requeue", "--signal=TERM@120", "--open-mode=append", "--nodes=2"} <= set(directives)


def test_jax_finds_its_peers_from_the_variables_of_slurm(repository):
  code = (
    "from vidgen_jax.parallel.processes import initialize_distributed; initialize_distributed(); import jax, sys;"
    "sys.stdout.write(f'{jax.process_index()} {jax.process_count()} {jax.device_count()}')"
  )
  step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
  processes = []
  for task in "01":
    environment = os.environ | step | {"SLURM_PROCID": task, "SLURM_LOCALID": task, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    processes.append(
      subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=repository, stdout=subprocess.PIPE, text=True)
    )
  try:
    assert [process.communicate()[0] for process in processes] == ["0 2 2", "1 2 2"]
  finally:
    for process in processes:
      process.kill()
      process.wait()
