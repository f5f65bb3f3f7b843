"""Downloads from a server on this machine, verified hashes, and the command that imports what it downloaded."""

import dataclasses
import functools
import hashlib
import http.server
import importlib.util
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from flax import traverse_util

from vidgen_jax import cli
from vidgen_jax.errors import UserError
from vidgen_jax.scores.networks.tsn import TSN
from vidgen_jax.scores.weights import fetching, importing, sources
from vidgen_jax.scores.weights.arrays import SourceArrays
from vidgen_jax.scores.weights.download import download
from vidgen_jax.scores.weights.naming import NAMINGS
from vidgen_jax.scores.weights.sources import PublishedFile, PublishedWeights
from vidgen_jax.scores.weights.weight_file import read_weight_file

pytest_plugins = ("tests.trained_runs",)


def git_blob_sha1(data):
  return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


CONTENT = bytes(range(256)) * 9000  # more than two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
  """Serves `files` below /good, and misbehaves below other folders. `ranges` lists the requested parts."""

  daemon_threads = True

  def __init__(self):
    super().__init__(("127.0.0.1", 0), Handler)
    self.files, self.ranges = {"w.bin": CONTENT}, []
    self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
  server: Server

  def do_GET(self):
    _, folder, name = self.path.split("?")[0].split("/")
    asked = self.headers.get("Range")
    self.server.ranges.append(asked)
    content = self.server.files.get(name)
    if content is None or folder == "missing":
      self.send_error(404)
    elif folder == "redirect":
      self.answer(302, b"", Location=f"/good/{name}")
    elif folder == "page":
      self.answer(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"})
    else:
      self.send(folder, content, asked)

  def send(self, folder, content, asked):
    if folder == "slow":
      time.sleep(0.5)
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and folder != "whole" else 0
    part = content[start:]
    if not part:
      self.send_error(416)
      return
    sent = part[: len(part) // 2] if folder == "truncated" else part
    self.answer(206 if start else 200, sent, **{"Content-Length": len(part)})

  def answer(self, status, body, **headers):
    self.send_response(status)
    for name, value in {"Content-Length": len(body), **headers}.items():
      self.send_header(name, str(value))
    self.end_headers()
    try:
      self.wfile.write(body)
    except OSError:  # the client of /slow has hung up
      self.close_connection = True

  def log_message(self, *arguments):
    pass


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv("no_proxy", "*")
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def published(server, folder, **hashes):
  return PublishedFile(name="w.bin", url=f"{server.url}/{folder}/w.bin?dl=1", **hashes)


@pytest.mark.parametrize("folder", ["good", "redirect"])
@pytest.mark.parametrize("hashes", [{}, {"sha256": SHA256[:8].upper()}, {"git_blob_sha1": git_blob_sha1(CONTENT)}])
def test_a_file_is_downloaded(server, tmp_path, folder, hashes):
  path = download(published(server, folder, **hashes), tmp_path / "new")
  assert path == tmp_path / "new" / "w.bin"
  assert path.read_bytes() == CONTENT
  assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
  ("folder", "hashes", "reason"),
  [
    ("good", {"sha256": "01234567"}, f"has SHA-256 {SHA256}, expected 01234567: another file or a damaged download"),
    ("good", {"git_blob_sha1": "0" * 40}, f"has git blob {git_blob_sha1(CONTENT)}, expected {'0' * 40}"),
    ("missing", {}, "cannot be downloaded: HTTP 404 Not Found; run the command again, or download w.bin in a browser"),
    ("truncated", {}, "cannot be downloaded: the connection ended after 1,152,000 of 2,304,000 bytes; run the command"),
    ("page", {}, "cannot be downloaded: the answer is a web page and not a file"),
    ("slow", {}, "cannot be downloaded: .*timed out"),
  ],
)
def test_a_failed_download_leaves_no_file(server, tmp_path, folder, hashes, reason):
  with pytest.raises(UserError, match=reason) as error:
    download(published(server, folder, **hashes), tmp_path, timeout=0.1 if folder == "slow" else 5.0)
  assert "\n" not in str(error.value)
  assert f"{server.url}/{folder}/w.bin" in str(error.value)
  assert not (tmp_path / "w.bin").exists()


def test_no_server(tmp_path):
  with pytest.raises(UserError, match=r"cannot be downloaded: .*refused"):
    download(PublishedFile(name="w.bin", url="http://127.0.0.1:9/w.bin"), tmp_path)


def test_the_rest_of_an_interrupted_download_is_requested_if_the_hash_is_known(server, tmp_path):
  for folder in ("truncated", "truncated", "good"):
    file = published(server, folder, sha256=SHA256)
    if folder == "truncated":
      with pytest.raises(UserError, match="the connection ended"):
        download(file, tmp_path)
  assert download(file, tmp_path).read_bytes() == CONTENT
  assert server.ranges == [None, "bytes=1152000-", "bytes=1728000-"]
  download(file, tmp_path)  # verified and not downloaded again
  assert len(server.ranges) == 3


@pytest.mark.parametrize("folder", ["whole", "good"])
def test_an_interrupted_download_starts_again(server, tmp_path, folder):
  # The server of the first case ignores ranges; without a hash the client does not ask for one.
  hashes = {"sha256": SHA256} if folder == "whole" else {}
  (tmp_path / "w.bin.part").write_bytes(b"other bytes")
  assert download(published(server, folder, **hashes), tmp_path).read_bytes() == CONTENT
  assert server.ranges == ["bytes=11-" if hashes else None]


def test_damaged_beginnings_are_discarded(server, tmp_path):
  file = published(server, "good", sha256=SHA256)
  for size in (1000, len(CONTENT)):
    (tmp_path / "w.bin.part").write_bytes(bytes(size))
    with pytest.raises(UserError, match=r"a damaged download; run the command again|HTTP 416"):
      download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == CONTENT
    (tmp_path / "w.bin").unlink()


@functools.cache
def shapes(num_classes):
  """Our variables of a small ResNet-50."""
  clip = jax.ShapeDtypeStruct((1, 3, 32, 32, 3), jnp.float32)
  return jax.eval_shape(lambda x: TSN(num_classes, width=4).init(jax.random.key(0), x), clip)


@functools.cache
def resnet():
  """Random values of a ResNet-50 with 5 classes under torchvision's names."""
  (naming,) = (n for n in NAMINGS if n.network == "tsn")
  generator = np.random.default_rng(0)
  arrays = {}
  for path, struct in traverse_util.flatten_dict(shapes(5)).items():
    values = generator.uniform(0.5, 1.0, struct.shape).astype(np.float32)
    arrays[naming.foreign(path)] = np.moveaxis(values, (-1, -2), (0, 1)) if path[-1] == "kernel" else values
  return arrays


@pytest.fixture
def release(monkeypatch, server, tmp_path):
  """Published weights, a small ResNet-50, served as r.npz."""
  monkeypatch.setattr(importing, "abstract_variables", lambda network, settings: shapes(**settings))
  np.savez(tmp_path / "r.npz", **resnet())
  server.files["r.npz"] = (tmp_path / "r.npz").read_bytes()
  file = PublishedFile(name="r.npz", url=f"{server.url}/good/r.npz", git_blob_sha1=git_blob_sha1(server.files["r.npz"]))
  release = PublishedWeights(name="small", network="tsn", content="", page="https://page", files=(file,))
  monkeypatch.setattr(sources, "SOURCES", (release,))
  return release


@pytest.mark.parametrize("origin", [None, "url", "file"])
def test_fetch_downloads_and_imports(server, release, tmp_path, monkeypatch, origin):
  monkeypatch.chdir(tmp_path)
  words = {None: [], "url": [f"--from={server.url}/redirect/r.npz"], "file": ["--from=r.npz"]}[origin]
  assert cli.dispatch(["weights", "fetch", "small", *words]) == 0
  weights = read_weight_file("small.safetensors")
  assert weights.network == "tsn"
  np.testing.assert_array_equal(weights.variables["params"]["fc"]["bias"], resnet()["fc.bias"])
  assert weights.source_hash == hashlib.sha256(server.files["r.npz"]).hexdigest()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["r.npz", "small.json", "small.safetensors"]


def test_a_download_that_does_not_fit_is_kept(server, release, vidgen, tmp_path):
  np.savez(tmp_path / "r.npz", **{name: array for name, array in resnet().items() if name != "fc.bias"})
  server.files["r.npz"] = (tmp_path / "r.npz").read_bytes()
  digits = hashlib.sha256(server.files["r.npz"]).hexdigest()
  message = vidgen("weights", "fetch", "small", f"--sha256={digits}", f"--out={tmp_path}/o.safetensors")
  assert "missing: params/fc/bias (1)" in message
  assert message.endswith(f"; the download is kept in {tmp_path}/.o.download")
  assert (tmp_path / ".o.download" / "r.npz").read_bytes() == server.files["r.npz"]


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ("small --sha256=12345678", "has SHA-256"),
    ("small --from={folder}/other", "other has git blob"),
    ("small --from={folder}/nothing", "nothing does not exist"),
    ("small --sha256=vwxyzvwxyz", "--sha256=vwxyzvwxyz must be 8 to 64 hexadecimal digits"),
    ("small --sha256=1234567", "must be 8 to 64"),
    ("small --mean=m.npz", "--mean applies to c3d"),
    ("smal", "no published weights are called 'smal'; did you mean small?"),
    ("", "usage: vidgen weights list|fetch NAME"),
    ("small --network=tsn", "--network does not apply"),
    ("small --from=gs://bucket/r.npz", "--from=gs://bucket/r.npz must be a local path"),
  ],
)
def test_mistakes_are_one_line(release, vidgen, tmp_path, words, message):
  (tmp_path / "other").write_bytes(b"other")
  assert message in vidgen(
    "weights", "fetch", *words.format(folder=tmp_path).split(), f"--out={tmp_path}/o.safetensors"
  )
  assert not (tmp_path / "o.safetensors").exists()


def test_files_without_recorded_hash_or_address(server, release, tmp_path, monkeypatch):
  warnings = []
  monkeypatch.setattr(logging, "warning", lambda text, *arguments: warnings.append(text % arguments))
  files = (PublishedFile(name="r.npz", url=f"{server.url}/good/r.npz"),)
  unverified = PublishedWeights(name="c", network="c3d", content="", page="https://page", files=files, mean=files[0])
  fetched = fetching.fetch(unverified, tmp_path / "d")
  assert fetched.mean == tmp_path / "d" / "r.npz"
  assert fetched.source.sha256 in warnings[0]
  (tmp_path / "mean.npz").write_bytes(server.files["r.npz"])
  assert fetching.fetch(unverified, tmp_path / "d", mean=f"{tmp_path}/mean.npz").mean == tmp_path / "mean.npz"
  heads = PublishedFile(name="h.npz", sha256="01234567")
  two = dataclasses.replace(release, heads=heads)
  for given in (f"{tmp_path}/mean.npz", f"{server.url}/good/r.npz"):
    with pytest.raises(UserError, match=r"has SHA-256 .*, expected 01234567"):
      fetching.fetch(two, tmp_path / "d", heads=given)
  with pytest.raises(
    UserError, match=r"no address of r.npz itself is known; download it from https://page in a browser"
  ):
    fetching.fetch(
      PublishedWeights(name="c", network="tsn", content="", page="https://page", files=(PublishedFile(name="r.npz"),)),
      tmp_path,
    )


def test_weights_in_two_files_come_from_one_folder(server, release, tmp_path, monkeypatch):
  # The arrays are not read: the last file stands for the whole checkpoint.
  read = []
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "tensorflow")
  monkeypatch.setattr(fetching, "read_arrays", lambda path: read.append(path))
  files = tuple(
    PublishedFile(name=n, url="http://127.0.0.1:9/", git_blob_sha1=git_blob_sha1(server.files[n])) for n in server.files
  )
  both = PublishedWeights(name="b", network="i3d", content="", page="https://page", files=files)
  fetching.fetch(both, tmp_path / "d", origin=f"{server.url}/good/")
  assert read == [tmp_path / "d" / "r.npz"]
  assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["r.npz", "w.bin"]
  local = SourceArrays(arrays={}, format="tf checkpoint", path=tmp_path, sha256="", git_blob_sha1="0" * 40)
  monkeypatch.setattr(fetching, "read_arrays", lambda path: local)
  with pytest.raises(UserError, match=f"has git blob {'0' * 40}, expected {files[1].git_blob_sha1}"):
    fetching.fetch(both, tmp_path, origin=str(tmp_path))
  with pytest.raises(UserError, match="--sha256 applies to weights in one file"):
    fetching.fetch(both, tmp_path, sha256="01234567")


def test_a_missing_package_is_named_before_the_download(monkeypatch, tmp_path):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(
    UserError, match=r"^i3d needs tensorflow: pip install 'vidgen-jax\[convert\]'; i3d_torchscript needs"
  ):
    fetching.fetch(sources.find_source("i3d"), tmp_path)
  with pytest.raises(UserError, match=r"^pwc_net needs torch: pip install 'vidgen-jax\[convert\]'$"):
    fetching.fetch(sources.find_source("pwc_net"), tmp_path)
