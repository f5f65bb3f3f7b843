"""launch/tpu_pod.sh, with a fake gcloud that keeps slices in folders and a fake training that counts steps."""

import re
import shutil
import time

import pytest

POD = ("--name=pod", "--zone=zone-a", "--poll=0.1")
RUN = ("--config=a.py:paper", "--workdir=bucket/run", "--config.data.name=it's")

SETUP = """set -eu
[[ ! -e "$FAKE/broken" ]]
python="$HOME/vidgen_jax/.venv/bin/python"
mkdir -p "${python%/*}"
cp "$FAKE/training" "$python"
/bin/chmod +x "$python"
echo "$VIDGEN_EXTRAS" >>"$FAKE/installed"
"""


class Cloud:
  """Runs the script, and gives access to the state of the fake gcloud."""

  def __init__(self, sandbox, folder):
    self._sandbox = sandbox
    self.folder = sandbox.folder
    self.checkout = sandbox.checkout
    shutil.copy(folder / "fake_gcloud.sh", sandbox.bin / "gcloud")
    (sandbox.bin / "gcloud").chmod(0o755)
    sandbox.program("hostname", 'echo "worker-$WORKER"')
    sandbox.program("python3", "exit 0")
    sandbox.program("mountpoint", '[[ -L "$2" ]]')
    sandbox.program("gcsfuse", 'echo "$*" >>"$FAKE/mounted"; rmdir "${@: -1}"; ln -s "$FAKE/bucket" "${@: -1}"')
    # setup.sh installs the fake training on a worker.
    shutil.copy(folder / "fake_training.sh", sandbox.folder / "training")
    (sandbox.checkout / "launch" / "setup.sh").write_text(SETUP)

  def __call__(self, *words: str, check: int | None = 0, **environment: str):
    result = self._sandbox.run("tpu_pod.sh", *POD, *words, **environment)
    assert check is None or result.returncode == check, result.stdout + result.stderr
    return result

  def plan(self, *lines: str) -> None:
    """Sets the events of the training: 'STEP EVENT'."""
    (self.folder / "plan").write_text("".join(f"{line}\n" for line in lines))

  def called(self, words: str) -> list[str]:
    """The calls of `gcloud compute tpus` that begin with these words."""
    return [line for line in self._sandbox.lines("called") if line.startswith(f"compute tpus {words} ")]

  def lines(self, name: str) -> list[str]:
    return self._sandbox.lines(name)

  def write(self, name: str, text: str) -> None:
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def cloud(sandbox, repository):
  return Cloud(sandbox, repository / "tests" / "launch")


def shown_steps(output: str) -> list[int]:
  return [int(step) for step in re.findall(r"^step (\d+)$", output, re.MULTILINE)]


def labels(calls: list[str]) -> list[str]:
  return [re.search(r"--labels=created-by=(vidgen-[0-9a-f]{16}) ?", call).group(1) for call in calls]


def test_a_run_survives_two_preemptions(cloud):
  cloud.plan("3 preempt", "6 preempt")
  result = cloud("--type=v3-32", "--spot", "--bucket=gs://clips", "train", *RUN)
  # Each slice continues at the last step: 3 steps on the first, 3 on the second, 2 on the third.
  processes = cloud.lines("bucket/run/steps")
  assert [processes.count(process) for process in dict.fromkeys(processes)] == [3, 3, 2]
  creations = cloud.called("tpu-vm create pod")
  assert len(creations) == 3
  for creation in creations:
    assert "--zone=zone-a --accelerator-type=v3-32 --version=tpu-ubuntu2204-base" in creation
    assert creation.endswith(" --spot")
  assert len(set(labels(creations))) == 3
  assert len(cloud.called("tpu-vm delete pod")) == 2
  # Two workers on each of three slices have the package, the bucket and the same command.
  assert set(cloud.lines("installed")) == {"tpu,tensorboard,gcs"}
  assert len(cloud.lines("installed")) == 12  # by `install` and by local.sh, where the real setup.sh has nothing to do
  assert len(cloud.lines("mounted")) == 6
  assert set(cloud.lines("runs")) == {"-m vidgen_jax train --distributed " + " ".join(RUN)}
  assert len(cloud.lines("runs")) == 6
  # A new slice finds the programs that the last one compiled.
  assert set(cloud.lines("caches")) == {"bucket/run/compilation_cache"}
  assert "the run is done" in result.stderr
  assert shown_steps(result.stdout)[-2:] == [7, 8]
  # A repetition finds the slice and the finished run.
  cloud("train")
  assert len(cloud.lines("bucket/run/steps")) == 8
  assert len(cloud.called("tpu-vm create pod")) == 3
  cloud("delete")
  assert not list((cloud.folder / "nodes").iterdir())


@pytest.mark.parametrize(
  ("words", "environment", "expected"),
  [
    (("--workdir=gs://clips/run/",), {}, "gs://clips/run/compilation_cache"),
    (("--workdir", "gs://clips/run"), {}, "gs://clips/run/compilation_cache"),
    (("--workdir=bucket/run",), {"JAX_COMPILATION_CACHE_DIR": "gs://it's/cache"}, "gs://it's/cache"),
  ],
)
def test_compiled_programs_are_kept_in_the_workdir_unless_another_folder_is_set(words, environment, expected, cloud):
  cloud("train", "--config=a.py:paper", *words, **environment)
  assert set(cloud.lines("caches")) == {expected}


def test_exit_status_75_restarts_the_run_on_the_same_slice(cloud):
  cloud.plan("4 75")
  result = cloud("--bucket=clips", "train", *RUN)
  assert len(cloud.lines("bucket/run/steps")) == 8
  assert shown_steps(result.stdout) == list(range(1, 9))
  assert len(cloud.lines("runs")) == 4
  assert (len(cloud.called("tpu-vm create pod")), len(cloud.called("tpu-vm delete pod"))) == (1, 0)


def test_a_lost_process_restarts_the_run(cloud):
  cloud.plan("4 lost")
  assert "the run is lost" in cloud("--bucket=clips", "train", *RUN).stderr
  assert len(cloud.lines("bucket/run/steps")) == 8
  assert len(cloud.called("tpu-vm create pod")) == 1


def test_another_exit_status_ends_with_the_tail_of_the_log(cloud):
  cloud.plan("4 3")
  result = cloud("--bucket=clips", "train", *RUN, check=1)
  assert "the run failed with exit status 3" in result.stderr
  assert shown_steps(result.stdout)[-4:] == [1, 2, 3, 4]
  assert (len(cloud.lines("runs")), len(cloud.called("tpu-vm delete pod"))) == (2, 0)


def test_a_failing_start_on_a_ready_slice_is_tried_three_times(cloud):
  cloud.plan("4 break")
  result = cloud("--bucket=clips", "train", *RUN, check=2)
  assert "pod is READY, but the run could not be started" in result.stderr
  assert result.stderr.count("the run is preempted, the slice READY") == 3
  (cloud.folder / "broken").unlink()
  cloud("train")
  assert len(cloud.lines("bucket/run/steps")) == 8


def test_failures_of_peers_before_the_preemption_is_reported(cloud):
  cloud.plan("4 134")
  cloud.write("late", "")
  cloud("--bucket=clips", "train", *RUN)
  assert len(cloud.lines("bucket/run/steps")) == 8
  assert (len(cloud.called("tpu-vm create pod")), len(cloud.called("tpu-vm delete pod"))) == (2, 1)


def test_restarts_are_bounded(cloud):
  cloud.plan(*(f"{step} preempt" for step in range(1, 9)))
  result = cloud("--bucket=clips", "--max_restarts=1", "train", *RUN, check=75)
  assert "--max_restarts=1" in result.stderr
  assert len(cloud.lines("bucket/run/steps")) == 2
  # A repetition of the command continues.
  cloud.plan()
  cloud("--max_restarts=1", "train", *RUN)
  assert len(cloud.lines("bucket/run/steps")) == 8


def test_queued_resources_are_requested_again(cloud):
  cloud.plan("5 preempt")
  result = cloud("--type=v5e-16", "--queued", "--spot", "--bucket=clips", "train", *RUN)
  assert len(cloud.lines("bucket/run/steps")) == 8
  creations = cloud.called("queued-resources create pod")
  assert len(creations) == 2
  for creation in creations:
    assert "--node-id=pod --accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite" in creation
    assert creation.endswith(" --spot")
  assert len(set(labels(creations))) == 2
  for state in ("WAITING_FOR_RESOURCES", "PROVISIONING"):
    assert f"pod is {state}; checking again" in result.stderr
  assert cloud.called("tpu-vm create") == []
  # The record contains --queued.
  cloud("delete")
  assert [call.endswith("--force --quiet") for call in cloud.called("queued-resources delete pod")] == [True, True]
  assert not list((cloud.folder / "nodes").iterdir())


def test_a_failed_request_is_an_error(cloud):
  cloud("--queued", "create")
  (cloud.folder / "requests" / "pod" / "states").write_text("FAILED\n")
  assert "the request for pod is FAILED" in cloud("create", check=2).stderr


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    (("create",), ["tpu-vm create pod", "--labels=created-by=vidgen-", "tpu-vm describe pod"]),
    (("--queued", "create"), ["queued-resources create pod", "queued-resources describe pod"]),
    (("upload",), ["tar -C", "tpu-vm scp", "tar -C vidgen_jax -xzf"]),
    (("--bucket=clips", "install"), ["launch/tpu_worker.sh install clips"]),
    (("run", *RUN), ["tpu-vm ssh pod", "tpu_worker.sh start --config=a.py:paper"]),
    (("log",), ["--worker=0", "tail -n 100 -F"]),
    (("status",), ["tpu-vm describe pod", "tpu_worker.sh status"]),
    (("stop",), ["tpu_worker.sh stop"]),
    (("watch",), ["tpu-vm describe pod", "tpu_worker.sh status", "tpu_worker.sh log"]),
    (("train", *RUN), ["tpu-vm create pod", "tpu-vm scp", "tpu_worker.sh install", "tpu_worker.sh start", "status"]),
    (("fetch", "gs://b/run", "out"), ["gcloud storage cp --recursive gs://b/run out"]),
    (("fetch", "run", "out"), ["tpu-vm scp --recurse pod:run out"]),
    (("delete",), ["tpu-vm delete pod --zone=zone-a --quiet"]),
    (("--queued", "delete"), ["queued-resources delete pod --zone=zone-a --force --quiet"]),
  ],
)
def test_dry_run_prints_all_commands_and_executes_none(words, expected, cloud):
  result = cloud("--dry-run", *words)
  lines = result.stdout.replace("\\", "").splitlines()
  assert all(line.startswith(("gcloud ", "tar ")) for line in lines)
  for text in expected:
    assert any(text in line for line in lines), (text, lines)
  assert cloud.lines("called") == []
  assert not (cloud.checkout / ".cache").exists()


@pytest.mark.parametrize(
  ("slice_type", "accelerator", "runtime"),
  [
    ("v3-32", "v3-32", "tpu-ubuntu2204-base"),
    ("v4-32", "v4-32", "tpu-ubuntu2204-base"),
    ("v5e-16", "v5litepod-16", "v2-alpha-tpuv5-lite"),
    ("v5litepod-16", "v5litepod-16", "v2-alpha-tpuv5-lite"),
    ("v5p-8", "v5p-8", "v2-alpha-tpuv5"),
    ("v6e-16", "v6e-16", "v2-alpha-tpuv6e"),
  ],
)
def test_each_type_has_its_runtime(slice_type, accelerator, runtime, cloud):
  for options, chosen in (((), runtime), (("--runtime=other",), "other")):
    output = cloud("--dry-run", f"--type={slice_type}", *options, "create").stdout
    assert f"--accelerator-type={accelerator} --version={chosen} " in output
  unknown = cloud("--dry-run", "--type=v99-8", "create", check=2)
  assert "unknown runtime" in unknown.stderr


def test_actions_may_be_repeated(cloud):
  cloud.plan("2 wait")
  for _ in range(2):
    cloud("--bucket=clips", "create")
    cloud("upload")
    cloud("install")
    cloud("run", *RUN)
  assert len(cloud.called("tpu-vm create pod")) == 1
  assert len(cloud.lines("mounted")) == 2
  assert cloud("status").stdout.split() == ["slice", "READY", "run", "running"]
  assert len(cloud.lines("runs")) == 2  # one on each worker
  other = cloud("train", "--config=b.py:paper", "--workdir=bucket/other", check=2)
  assert "another run is active: --config=a.py:paper" in other.stderr
  for _ in range(2):
    cloud("stop")
  cloud("delete")
  assert "did not create pod" in cloud("delete", check=2).stderr


@pytest.mark.parametrize("deaf", [False, True])
def test_stop_saves_the_state_and_watch_resumes(deaf, cloud):
  if deaf:  # SIGTERM ends the process before its handler is installed.
    cloud.write("deaf", "")
  cloud.plan("2 wait")
  cloud("--bucket=clips", "create")
  cloud("upload")
  cloud("install")
  cloud("run", *RUN)
  while len(cloud.lines("bucket/run/steps")) < 2:
    time.sleep(0.05)
  cloud("stop")
  assert (cloud.folder / "nodes/pod/home0/vidgen_run/status").read_text() == "exited 75\n"
  log = (cloud.folder / "nodes/pod/home0/vidgen_run/log").read_text()
  assert ("saved" in log) == (not deaf)
  assert cloud("status").stdout.splitlines()[1] == "run preempted"
  cloud.plan()
  result = cloud("watch")
  assert shown_steps(result.stdout)[-6:] == [3, 4, 5, 6, 7, 8]
  assert set(cloud.lines("runs")) == {"-m vidgen_jax train --distributed " + " ".join(RUN)}


def test_only_the_own_slice_is_deleted(cloud):
  cloud.write("nodes/pod/state", "READY\n")
  cloud.write("nodes/pod/label", "somebody\n")
  assert "did not create pod" in cloud("delete", check=2).stderr
  (cloud.folder / "nodes" / "pod").rename(cloud.folder / "theirs")
  cloud("create")
  label = (cloud.folder / "nodes/pod/label").read_text()
  cloud.write("nodes/pod/label", "somebody\n")  # deleted and created again by somebody else
  assert "has another label" in cloud("delete", check=2).stderr
  assert cloud.called("tpu-vm delete") == []
  cloud.write("nodes/pod/label", label)
  cloud("delete")
  assert len(cloud.called("tpu-vm delete pod")) == 1


def test_a_preempted_slice_of_somebody_else_is_not_deleted(cloud):
  for worker in "01":
    (cloud.folder / "nodes" / "pod" / f"home{worker}").mkdir(parents=True)
  cloud.write("nodes/pod/state", "READY\n")
  cloud.write("nodes/pod/label", "somebody\n")
  cloud.plan("3 preempt")
  result = cloud("--bucket=clips", "train", *RUN, check=2)
  assert "did not create pod; it is not deleted" in result.stderr
  assert cloud.called("tpu-vm delete") == []
  assert len(cloud.lines("bucket/run/steps")) == 3


def test_waiting_for_a_slice_has_a_limit(cloud):
  cloud.write("first_state", "CREATING\n")
  result = cloud("--timeout=1", "create", check=2)
  assert "pod was not ready for --timeout=1 seconds" in result.stderr
  cloud.write("nodes/pod/state", "READY\n")
  cloud("--timeout=1", "create")
  assert len(cloud.called("tpu-vm create pod")) == 1


def test_only_a_lack_of_capacity_is_retried(cloud):
  cloud.write("create_errors", 'There is no more capacity in the zone "zone-a"\n' * 2)
  cloud("create")
  assert len(cloud.called("tpu-vm create pod")) == 3
  cloud("delete")
  cloud.write("create_errors", "INVALID_ARGUMENT: no such accelerator\n")
  result = cloud("create", check=2)
  assert "gcloud could not create pod" in result.stderr
  assert "no such accelerator" in result.stderr
  assert len(cloud.called("tpu-vm create pod")) == 4


def test_missing_permissions_are_an_error_at_once(cloud, sandbox):
  sandbox.program("gcloud", 'echo "not logged in" >&2; exit 1')
  result = cloud("create", check=2)
  assert "not logged in" in result.stderr
  assert "gcloud could not list the resources" in result.stderr


def test_invalid_words_are_reported(cloud):
  for words, text in (
    (("erase",), "unknown action erase"),
    (("--nam=x", "run"), "unknown option --nam=x"),
    (("--name=A", "run"), "use lower-case letters"),
    (("--timeout=soon", "create"), "--timeout=soon is not a number"),
    (("--poll=1s", "create"), "--poll=1s is not a number"),
    (("--max_restarts=-1", "create"), "--max_restarts=-1 is not a number"),
    (("--dry-run", "run"), "run needs the arguments of vidgen train"),
    (("watch",), "no run was started from this checkout"),
    (("fetch", "a"), "fetch needs two arguments"),
    ((), "an action is missing"),
  ):
    assert text in cloud(*words, check=2).stderr
  assert "launch/tpu_pod.sh [OPTIONS]" in cloud("--help").stdout


def test_name_and_zone_are_required(sandbox):
  result = sandbox.run("tpu_pod.sh", "create")
  assert (result.returncode, result.stderr) == (2, "tpu_pod: error: --name and --zone are required\n")
