"""`vidgen compare` and `vidgen features`: scores against those of the features, and errors of one line."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from vidgen_jax import cli
from vidgen_jax.commands import compare, metric_flags
from vidgen_jax.errors import UserError
from vidgen_jax.parallel.mesh import MeshConfig, make_mesh
from vidgen_jax.scores.extraction import FeatureExtractor
from vidgen_jax.scores.metrics.content_distance import object_content_distance
from vidgen_jax.scores.metrics.set_distance import frechet_distance

pytest_plugins = ("tests.classifier_files", "tests.trained_runs")

COUNT = 13


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """(real, fake): files of 13 and 17 clips; the fakes are brighter."""
  folder = tmp_path_factory.mktemp("sets")
  generator = np.random.default_rng(0)
  real = generator.integers(0, 160, (COUNT, 5, 16, 16, 3), dtype=np.uint8)
  fake = generator.integers(60, 256, (COUNT + 4, 5, 16, 16, 3), dtype=np.uint8)
  np.save(folder / "real.npy", real)
  np.savez_compressed(folder / "fake.npz", video=fake)
  return folder / "real.npy", folder / "fake.npz"


def scores_of(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  found = {(line["subject"], line["metric"]): line for line in lines}
  assert len(found) == len(lines)
  return found


@pytest.fixture(scope="module")
def compared(sets, classifier_file, tmp_path_factory):
  out = tmp_path_factory.mktemp("scores") / "scores.jsonl"
  words = [f"--real={sets[0]}", f"--fake={sets[1]}", f"--networks={classifier_file}", f"--out={out}"]
  assert cli.dispatch(["compare", *words, "--baselines"]) == 0
  return scores_of(out)


def test_distances_equal_those_of_the_features(compared, sets, classifier):
  extractor = FeatureExtractor(classifier, mesh=make_mesh(MeshConfig()))
  real, fake = np.load(sets[0]), np.load(sets[1])["video"]
  copied = np.repeat(real[:, :1], 5, axis=1)
  expected = {"fake.npz": fake, "copy_last": copied}
  for subject, video in expected.items():
    value = frechet_distance(extractor.extract(real).features, extractor.extract(video).features)
    distances = {name: line for (name, metric), line in compared.items() if metric == "clip_frechet"}
    found = next(line for name, line in distances.items() if name.endswith(subject))
    assert found["value"] == pytest.approx(value, rel=1e-4)
    assert (found["num_clips"], found["num_generated"]) == (COUNT, len(video))
    assert (found["extractor"], found["clip"]) == ("r3d18, 3 classes", "5x16x16x3")
  half = compared["real, other half", "clip_frechet"]
  assert (half["num_clips"], half["num_generated"]) == (6, 6)
  assert {("real", "inception_score"), ("cross_fade", "clip_frechet"), ("noise", "clip_kernel")} <= set(compared)


def test_nearest_neighbours_of_copies_are_their_originals(sets, classifier_file, tmp_path):
  copied = [4, 0, 12]
  copies = np.load(sets[0])[copied]
  copies[:, :, :2] += 1
  np.save(tmp_path / "copies.npy", copies)
  words = [f"--real={sets[0]}", f"--fake={tmp_path / 'copies.npy'}", f"--networks={classifier_file}"]
  sheet = tmp_path / "neighbours.png"
  options = ["--nointervals", f"--neighbours={sheet}", "--num_neighbours=2"]
  assert cli.dispatch(["compare", *words, *options]) == 0
  report = json.loads(sheet.with_suffix(".json").read_text())
  names = [clip["neighbours"][0]["real"] for clip in report["clips"]]
  assert [int(name.split("[")[1].rstrip("]")) for name in names] == copied
  for clip in report["clips"]:
    near, far = (neighbour["distance"] for neighbour in clip["neighbours"])
    assert near < 0.2 * far
  assert report["median_nearest"] < 0.2 * report["median_nearest_among_real"]
  assert (report["num_real"], report["network"]) == (COUNT, "r3d18, 3 classes")
  with Image.open(sheet) as image:
    # Three clips with two neighbours each; frames of 16 are shown four times as large.
    assert image.height == 2 + 9 * (64 + 4 + 2)


def test_content_distance_needs_no_network(compared, sets):
  colours = np.load(sets[0]).astype(float).mean(axis=(2, 3))
  i, j = np.triu_indices(5, k=1)
  expected = np.linalg.norm(colours[:, i] - colours[:, j], axis=-1).mean()
  assert compared["real", "content_distance"]["value"] == pytest.approx(expected, rel=1e-6)


def test_paired_clips_have_psnr_and_ssim(sets, tmp_path, capsys):
  noisy = np.load(sets[0])
  noisy[:, :, :, :, 0] ^= 4
  np.save(tmp_path / "noisy.npy", noisy)
  out = tmp_path / "scores.jsonl"
  words = [f"--real={sets[0]}", f"--fake={tmp_path / 'noisy.npy'}", "--paired", "--object_tracking", f"--out={out}"]
  assert cli.dispatch(["compare", *words]) == 0
  found = {metric: line for (_, metric), line in scores_of(out).items()}
  # One of three channels is off by 4 of 255: 10 log10(255^2 / (16 / 3)).
  assert found["psnr"]["value"] == pytest.approx(10 * np.log10(255**2 * 3 / 16), abs=1e-4)
  assert 0.9 < found["ssim"]["value"] < 1
  # Of the real clips, which are listed last.
  assert found["content_distance_object"]["value"] == object_content_distance(np.load(sets[0])).mean()
  assert "frame_mean, all frames" in capsys.readouterr().out


def test_small_frames_have_no_ssim(tmp_path, caplog):
  clips = np.random.default_rng(0).integers(256, size=(2, 3, 8, 8, 3), dtype=np.uint8)
  np.save(tmp_path / "small.npy", clips)
  path, out = tmp_path / "small.npy", tmp_path / "scores.jsonl"
  assert cli.dispatch(["compare", f"--real={path}", f"--fake={path}", "--paired", f"--out={out}"]) == 0
  assert "no SSIM: it needs frames of at least 11x11 pixels" in caplog.text
  assert "psnr" in {metric for _, metric in scores_of(out)}


@pytest.mark.parametrize(
  ("protocol", "expected"),
  [("styleganv", [("real", "random"), ("fake", "start")]), ("cdfvd", [("real", ""), ("fake", "")])],
)
def test_windows_follow_the_protocol(protocol, expected, monkeypatch, vidgen):
  opened = []

  def open_set(flag_values, name, *, window=""):
    opened.append((name, window))
    if name == "fake":
      raise UserError("both are open")
    return contextlib.nullcontext()

  monkeypatch.setattr(metric_flags, "load_extractor", lambda path, **options: SimpleNamespace(network="i3d"))
  monkeypatch.setattr(metric_flags, "open_set", open_set)
  words = ["--real=.", "--fake=.", "--networks=i3d", f"--fvd_protocol={protocol}", "--num_frames=16"]
  assert vidgen("compare", *words) == "both are open"
  assert opened == expected


def test_one_pair_has_no_distance_between_sets(sets, tmp_path, caplog):
  np.save(tmp_path / "one.npy", np.load(sets[0])[:1])
  out = tmp_path / "scores.jsonl"
  words = [f"--real={tmp_path / 'one.npy'}", f"--fake={tmp_path / 'one.npy'}", "--paired", f"--out={out}"]
  assert cli.dispatch(["compare", *words]) == 0
  assert "psnr" in {metric for _, metric in scores_of(out)}
  assert (
    "no distance between the sets: a distance between sets needs two clips on either side, got 1 and 1" in caplog.text
  )


def test_equal_sets_are_at_distance_zero(sets, classifier_file, tmp_path, caplog):
  out = tmp_path / "scores.jsonl"
  words = [f"--real={sets[0]}", f"--fake={sets[0]}", f"--networks={classifier_file}"]
  assert cli.dispatch(["compare", *words, "--nointervals", f"--out={out}"]) == 0
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  (distance,) = (x for x in lines if x["metric"] == "clip_frechet" and x["subject"] != "real, other half")
  (half,) = (x for x in lines if x["metric"] == "clip_frechet" and x["subject"] == "real, other half")
  assert abs(distance["value"]) < 1e-4 * half["value"]
  assert f"--fake: {COUNT} of {COUNT} clips are real clips" in caplog.text
  assert not [x for x in lines if x["subject"] in ("copy_last", "cross_fade", "noise")]


def test_baselines_with_any_conditioning_frames():
  video = np.arange(10, dtype=np.uint8).reshape(2, 5, 1, 1, 1) ** 2 * 2
  variants = compare._variants(compare._resolved((-1, 0), 5))
  assert list(variants) == ["copy_last", "cross_fade", "noise"]
  # The clips are 0, 2, 8, 18, 32 and 50, 72, 98, 128, 162.
  assert variants["copy_last"](video)[..., 0, 0, 0].tolist() == [[0, 0, 0, 0, 32], [50, 50, 50, 50, 162]]
  assert variants["cross_fade"](video)[..., 0, 0, 0].tolist() == [[0, 8, 16, 24, 32], [50, 78, 106, 134, 162]]


PROCESS = """
import sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vidgen_jax import cli
sys.exit(cli.dispatch(sys.argv[3:]))
"""


def test_two_processes_and_one_device_agree_with_eight(compared, sets, classifier_file, tmp_path, repository):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  out = tmp_path / "scores.jsonl"
  words = [f"--real={sets[0]}", f"--fake={sets[1]}", f"--networks={classifier_file}", f"--out={out}"]
  environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")}
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", PROCESS, address, str(index), "compare", *words, "--baselines", "--distributed"],
      cwd=repository,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  try:
    outputs = [process.communicate(timeout=240) for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [0, 0], outputs
  assert ["clip_frechet" in output[0] for output in outputs] == [True, False]  # only the first process writes
  found = scores_of(out)
  assert found.keys() == compared.keys()
  for key, line in found.items():
    assert line["value"] == pytest.approx(compared[key]["value"], rel=1e-4, abs=1e-6), key


def test_memory_does_not_grow_with_the_number_of_clips(classifier_file, tmp_path):
  peaks = []
  for count in (40, 160):
    clips = np.random.default_rng(0).integers(256, size=(count, 5, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / f"{count}.npy", clips)
    del clips
    words = [f"--clips={tmp_path}/{count}.npy", f"--networks={classifier_file}", f"--out={tmp_path}/{count}.npz"]
    tracemalloc.start()
    assert cli.dispatch(["features", *words]) == 0
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  # 120 clips more are 1.8 MB; their features are 17 kB.
  assert peaks[1] - peaks[0] < 0.5e6


def test_features_are_written_for_other_programs(sets, classifier, classifier_file, tmp_path):
  out = tmp_path / "features.npz"
  assert cli.dispatch(["features", f"--clips={sets[1]}", f"--networks={classifier_file}", f"--out={out}"]) == 0
  stored = np.load(out)
  assert set(stored.files) == {"features", "logits", "names", "protocol"}
  extractor = FeatureExtractor(classifier, mesh=make_mesh(MeshConfig(), devices=jax.devices()[:1]))
  expected = extractor.extract(np.load(sets[1])["video"])
  np.testing.assert_allclose(stored["features"], expected.features, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(stored["logits"], expected.logits, rtol=1e-3, atol=1e-4)
  protocol = json.loads(str(stored["protocol"]))
  assert protocol["extractor_hash"] == classifier.hash
  assert protocol["input"] == "16x16, 5 frames"


@pytest.fixture(scope="module")
def stored(sets, classifier_file, tmp_path_factory):
  """File of the statistics of the real set."""
  out = tmp_path_factory.mktemp("statistics") / "real.npz"
  words = [f"--clips={sets[0]}", f"--networks={classifier_file}", "--stats", f"--out={out}"]
  assert cli.dispatch(["features", *words]) == 0
  return out


def test_statistics_replace_the_real_clips(compared, stored, sets, classifier_file, tmp_path, caplog, monkeypatch):
  warned = []
  monkeypatch.setattr(compare, "warn_of_mistakes_by_facts", lambda *sets: warned.append(sets))
  out = tmp_path / "scores.jsonl"
  words = [f"--real={stored}", f"--fake={sets[1]}", f"--networks={classifier_file}", f"--out={out}"]
  assert cli.dispatch(["compare", *words]) == 0
  (line,) = scores_of(out).values()
  expected = compared[str(sets[1]), "clip_frechet"]
  assert line["value"] == pytest.approx(expected["value"], rel=1e-6)
  same = ("subject", "metric", "num_clips", "num_generated", "extractor", "extractor_hash", "clip", "window", "split")
  assert {name: line[name] for name in same} == {name: expected[name] for name in same}
  assert "only Frechet distances, without intervals" in caplog.text
  ((facts, fake),) = warned
  assert facts["content"] == expected["inputs"]["real"]["content"] and fake.name == str(sets[1])


@pytest.mark.parametrize(
  ("change", "words", "message"),
  [
    ({}, "--fake={fake} --paired", "--paired needs real clips, but --real={real} holds their statistics"),
    ({}, "--fake={fake} --num_frames=4", "have input '16x16, 5 frames', the clips of --fake '16x16, 4 frames"),
    ({"extractor_hash": "0" * 12}, "--fake={fake}", "have extractor_hash '000000000000', the clips of --fake"),
    ({"divisor": "N"}, "--fake={fake}", "have divisor 'N', the clips of --fake 'N - 1'"),
    ({"clips": {}}, "--fake={fake}", "holds no usable statistics"),
  ],
)
def test_other_statistics_are_refused(
  change, words, message, stored, sets, classifier_file, vidgen, tmp_path, monkeypatch
):
  monkeypatch.setattr(FeatureExtractor, "extract_all", None)  # before features are computed
  arrays = dict(np.load(stored))
  arrays["protocol"] = np.array(json.dumps(json.loads(str(arrays["protocol"])) | change))
  real = tmp_path / "real.npz"
  np.savez(real, **arrays)
  words = words.format(fake=sets[1]).split()
  assert message.format(real=real) in vidgen("compare", f"--real={real}", f"--networks={classifier_file}", *words)


def test_real_features_are_cached(sets, classifier_file, tmp_path, monkeypatch, caplog):
  caplog.set_level("INFO", logger="absl")
  monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / "cache"))
  extracted = []
  original = FeatureExtractor.extract_all
  monkeypatch.setattr(
    FeatureExtractor, "extract_all", lambda *args, **kw: extracted.append(args[1].name) or original(*args, **kw)
  )
  real, fake = map(str, sets)

  def values(*words):
    out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    extracted.clear()
    words = [f"--real={real}", f"--fake={fake}", f"--networks={classifier_file}", f"--out={out}", *words]
    assert cli.dispatch(["compare", *words]) == 0
    return [json.loads(line)["value"] for line in out.read_text().splitlines()]

  expected = values("--no_cache")
  assert extracted == [real, fake] and not (tmp_path / "cache").exists()
  assert values() == expected and extracted == [real, fake]
  assert values() == expected and extracted == [fake]
  assert "real features of r3d18, 3 classes are read from" in caplog.text
  values("--num_frames=4")
  assert extracted == [real, fake]  # other clips
  for entry in (tmp_path / "cache").iterdir():
    entry.write_bytes(entry.read_bytes()[:-100])
  assert values() == expected and extracted == [real, fake]
  assert "cannot be used and is ignored" in caplog.text


def test_a_score_is_repeated(sets, classifier_file, tmp_path, monkeypatch, capsys, caplog):
  monkeypatch.chdir(sets[0].parent)
  out, fake = tmp_path / "scores.jsonl", tmp_path / "fake.npy"
  np.save(fake, np.load(sets[1])["video"])
  words = ["--real=real.npy", f"--fake={fake}", f"--networks={classifier_file}", "--max_clips=9", "--seed=3"]
  assert cli.dispatch(["compare", *words, f"--out={out}"]) == 0
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  number = next(
    i for i, line in enumerate(lines, start=1) if (line["subject"], line["metric"]) == (str(fake), "clip_frechet")
  )
  inputs = lines[number - 1]["inputs"]
  assert inputs["real"].items() >= {"clips": 9, "encoding": ["uint8 array"], "window": "all frames"}.items()
  assert {"vidgen_jax", "av", "ffmpeg"} <= set(inputs["versions"])
  monkeypatch.chdir(tmp_path)
  capsys.readouterr()
  assert cli.dispatch(["compare", f"--repeat={out}:{number}"]) == 0
  assert "equal to rounding" in capsys.readouterr().out
  np.save(fake, np.load(fake) - 1)  # scores differ by 3 %
  assert cli.dispatch(["compare", f"--repeat={out}:{number}"]) == 1
  assert "different" in capsys.readouterr().out
  assert "not as recorded: fake.content: " in caplog.text


def test_unusable_files_are_listed(sets, tmp_path, caplog, monkeypatch, vidgen):
  folder = tmp_path / "clips"
  folder.mkdir()
  for index in range(3):
    np.save(folder / f"{index}.npy", np.full((5, 16, 16, 3), 50 * index + 9, np.uint8))
  for name in ("broken.mp4", "empty.avi", "text.gif"):
    (folder / name).write_bytes(b"" if name == "empty.avi" else b"no video at all")
  assert cli.dispatch(["compare", f"--real={sets[0]}", f"--fake={folder}"]) == 0
  for name in ("broken.mp4", "empty.avi", "text.gif"):
    assert f"--fake: {name} is left out: " in caplog.text
  monkeypatch.setattr("vidgen_jax.commands.metric_flags.MAX_LISTED", 2)
  assert "--paired needs every file, but broken.mp4" in vidgen(
    "compare", f"--real={folder}", f"--fake={folder}", "--paired"
  )
  assert "--real: and 1 more files" in caplog.text


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--fake={folder}/nothing --real={folder}/broken.npy", "--fake={folder}/nothing is neither a file or folder nor"),
    ("--fake={folder}/long.npy", "--real contains clips of 5 frames, --fake of 9; cut both with --num_frames=5"),
    ("--fake={folder}/large.npy", "and 5x20x20x3 (frames"),
    ("--fake={fake} --neighbours=sheet.jpg", "--neighbours=sheet.jpg must end in .png"),
    ("--fake={real} --paired --num_frames=3 --window=random", "--paired needs the same window of both clips"),
    ("--fake={fake} --paired", "--paired needs equally many clips, got 13 real and 17 fake ones"),
    (
      "--fake={fake} --conditioning_indices=4,0,1,3,-3 --baselines --networks={weights}",
      "--conditioning_indices=4,0,1,3,-3 contains all 5 frames; omit some",
    ),
    (
      "--fake={fake} --conditioning_indices=0,5 --baselines --networks={weights}",
      "is out of range for clips of 5 frames; give 0 to 4",
    ),
    (
      "--fake={fake} --conditioning_indices=-6 --baselines --networks={weights}",
      "is out of range for clips of 5 frames; give 0 to 4",
    ),
    (
      "--fake={fake} --conditioning_indices=4,-1 --baselines --networks={weights}",
      "--conditioning_indices=4,-1 contains a frame of clips of 5 twice",
    ),
    (
      "--fake={fake} --conditioning_indices=0,last --baselines --networks={weights}",
      "--conditioning_indices: 'last' is not an integer",
    ),
    (
      "--fake={fake} --conditioning_indices=0, --baselines --networks={weights}",
      "--conditioning_indices: '' is not an integer",
    ),
    ("--fake={fake} --conditioning_indices=0,1", "--conditioning_indices needs --baselines"),
    ("--fake={fake} --window=centre", "--window needs --num_frames"),
    ("--fake={real} --paired --max_clips=3", "--paired uses all clips, but --max_clips draws some at random"),
    (
      "--fake={fake} --networks={weights} --max_clips=1",
      "needs two clips on either side, got 1 and 1; give a folder of several",
    ),
    ("--fake={fake} --feature_batch=100000000 --networks={weights}", "--feature_batch=100000000"),
    ("--fake=", "--fake is required"),
    ("--fake={fake} --out={folder}", "--out={folder} cannot be written; choose another file"),
    ("--fake={fake} --seed=-1", "--seed"),
    ("--fake={fake} --networks=nothing.safetensors", "nothing.safetensors"),
    ("--fake={fake} --networks={weights},{weights}", "lists a file twice"),
    ("--fake={fake} --networks={weights} --splits=50", "--splits=50"),
    ("--fake={fake} --splits=0", "0 is not a positive integer"),
    ("--fake={folder}/nan.npy", "nan"),
    ("--fake={folder}/range.npy", "--fake: floats of 0..2 are neither 0..255 nor 0..1 nor -1..1; scale or clip them"),
    ("--fake={folder}/bits.npy", "--fake: values 0 and 1 only: [0, 1] floats cast to uint8?"),
  ],
)
def test_user_errors_are_one_line(words, message, sets, classifier_file, vidgen, tmp_path):
  for name, shape in {"long": (3, 9, 16, 16, 3), "large": (3, 5, 20, 20, 3)}.items():
    np.save(tmp_path / f"{name}.npy", np.full(shape, 9, np.uint8))
  noise = np.random.default_rng(0).integers(2, size=(3, 5, 16, 16, 3), dtype=np.uint8)
  np.save(tmp_path / "bits.npy", noise)
  (tmp_path / "broken.npy").write_text("")
  np.save(tmp_path / "range.npy", noise.astype(np.float32) * 2)
  np.save(tmp_path / "nan.npy", np.full((3, 5, 16, 16, 3), np.nan, np.float32))
  places = {"folder": tmp_path, "real": sets[0], "fake": sets[1], "weights": classifier_file}
  words, message = words.format(**places), message.format(**places)
  assert message.lower() in vidgen("compare", f"--real={sets[0]}", *words.split()).lower()


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--repeat=scores.jsonl", "scores.jsonl is not FILE:LINE, such as scores.jsonl:1"),
    ("--repeat=nothing.jsonl:1", "nothing.jsonl has no score in line 1 of 0"),
    ("--repeat=scores.jsonl:1 --seed=1", "--repeat takes all settings from the score; omit --seed"),
    ("--repeat=changed.jsonl:1", "changed.jsonl has no score in line 1 of 7"),
    ("--repeat=changed.jsonl:2", "changed.jsonl:2 is no score of `vidgen compare`; only these can be repeated"),
    ("--repeat=changed.jsonl:3", "changed.jsonl:3 is no score of `vidgen compare`; only these can be repeated"),
    ("--repeat=changed.jsonl:4", "--repeat: folder /nowhere of the command is missing; create it"),
    ("--repeat=changed.jsonl:5", "--reel"),
    ("--repeat=changed.jsonl:6", "changed.jsonl:6: no command is recorded with --neighbours"),
    ("--repeat=changed.jsonl:7", "changed.jsonl:7: no command is recorded with --out"),
    ("--repeat=changed.npy:1", "changed.npy is no file of scores"),
    ("--fake=b", "--real is required"),
  ],
)
def test_user_errors_of_repeats_are_one_line(words, message, vidgen, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  inputs = ["text", {"command": ["compare", 1], "folder": "."}, {"command": ["compare"], "folder": "/nowhere"}]
  inputs += [{"command": ["compare", f"--{word}"], "folder": "."} for word in ("reel=a", "neighbours=a.png")]
  (tmp_path / "flags").write_text("--out=a.jsonl")
  inputs.append({"command": ["compare", "--flagfile=flags"], "folder": "."})
  rows = [{"metric": "fvd"}, *({"metric": "fvd", "value": 1, "inputs": known} for known in inputs)]
  (tmp_path / "changed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  np.save(tmp_path / "changed.npy", np.full(9, 255, np.uint8))
  assert message in vidgen("compare", *words.split())


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("--out=f.npz", "--networks needs exactly one weight file, got 0"),
    ("--out=f.npy --networks={weights}", "--out=f.npy must end in .npz"),
    ("--out=f.npz --networks={weights},other", "exactly one weight file, got 2"),
  ],
)
def test_user_errors_of_features_are_one_line(words, message, sets, classifier_file, vidgen):
  assert message in vidgen("features", f"--clips={sets[0]}", *words.format(weights=classifier_file).split())
