"""The JobSet: failure policy, resources, volumes and command."""

import pytest
import yaml

from vidgen_jax.cli import COMMANDS
from vidgen_jax.parallel.processes import PREEMPTED_EXIT_CODE


@pytest.fixture(scope="module")
def documents(repository):
  text = (repository / "launch" / "k8s_jobset.yaml").read_text()
  return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture
def job_set(documents):
  return documents["JobSet"]["spec"]


@pytest.fixture
def job(job_set):
  (replicated,) = job_set["replicatedJobs"]
  assert replicated["replicas"] == 1
  return replicated["template"]["spec"]


@pytest.fixture
def pod(job):
  return job["template"]["spec"]


@pytest.fixture
def container(pod):
  (container,) = pod["containers"]
  return container


def test_documents(documents):
  assert list(documents) == ["ServiceAccount", "Role", "RoleBinding", "JobSet"]
  assert documents["JobSet"]["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert documents["RoleBinding"]["roleRef"]["name"] == documents["Role"]["metadata"]["name"]


def test_a_preempted_pod_does_not_count_as_a_restart(job, container):
  rules = job["podFailurePolicy"]["rules"]
  assert job["backoffLimit"] == 0  # any failure without a rule restarts all pods
  on_exit = {rule["action"]: rule["onExitCodes"] for rule in rules if "onExitCodes" in rule}
  assert on_exit["Ignore"] == {"containerName": container["name"], "operator": "In", "values": [PREEMPTED_EXIT_CODE]}
  assert on_exit["FailJob"]["values"] == [2]
  (disruption,) = [rule for rule in rules if "onPodConditions" in rule]
  assert disruption == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_mistakes_end_the_job_set_and_restarts_have_a_limit(job_set):
  policy = job_set["failurePolicy"]
  (rule,) = policy["rules"]
  assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
  assert 0 < policy["maxRestarts"] < 1000


def test_pods_have_time_to_save(pod, container):
  assert pod["terminationGracePeriodSeconds"] == 120
  assert pod["restartPolicy"] == "Never"  # required by a pod failure policy
  # No other shell: local.sh replaces itself by the run.
  assert container["command"] == ["bash", "/bucket/vidgen_jax/launch/local.sh", "train", "--distributed"]


def test_one_pod_for_each_host_of_the_slice(job, pod, container):
  width, height = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
  resources = container["resources"]
  chips = resources["limits"]["google.com/tpu"]
  assert resources["requests"] == resources["limits"]
  assert job["parallelism"] == job["completions"] == width * height // chips
  assert job["completionMode"] == "Indexed"


def test_all_mounted_volumes_exist(pod, container):
  volumes = {volume["name"] for volume in pod["volumes"]}
  assert {mount["name"] for mount in container["volumeMounts"]} == volumes
  (bucket,) = [volume["csi"] for volume in pod["volumes"] if "csi" in volume]
  assert bucket["volumeAttributes"]["bucketName"] == "BUCKET"
  flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
  assert flags["workdir"].startswith("/bucket/")
  assert flags["config.data.data_dir"].startswith("/bucket/")


def test_the_command_and_the_config_exist(container, repository):
  assert container["command"][2] in COMMANDS
  flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
  assert (repository / flags["config"].split(":")[0]).is_file()


def test_compiled_programs_survive_their_host(container):
  (folder,) = [entry["value"] for entry in container["env"] if entry["name"] == "JAX_COMPILATION_CACHE_DIR"]
  assert any(
    folder.startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"] if mount["name"] == "bucket"
  )
