"""A Google Cloud Storage of our own: enough of its JSON API, over HTTP, for the real clients to work with.

Three clients talk to it in a training: gcsfs (files), tensorstore (arrays) and google-cloud-storage (orbax asks by it
what kind of bucket it is). Loaded as a plugin by tests that need a bucket.
"""

import base64
import dataclasses
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

PAGE = 7
"""Entries of one page of a listing: few, so that every client has to turn pages."""

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_OBJECTS = re.compile(r"(/upload)?/storage/v1/b/([^/]+)/o")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/rewriteTo/b/([^/]+)/o/([^/]+)")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")


@dataclasses.dataclass(frozen=True)
class Request:
  """What a client asked for.

  Attributes:
    bucket: its name.
    name: of the object; '' for none.
    action: 'read', 'metadata', 'list', 'begin' (of an upload in parts), 'write', 'copy', 'delete', 'bucket'.
    client: 'gcsfs', 'tensorstore' or 'other'.
  """

  bucket: str
  name: str
  action: str
  client: str


class Storage(http.server.ThreadingHTTPServer):
  """Objects by bucket and name, behind HTTP.

  Attributes:
    buckets: by name, the content of each object by its name. Tests may change it.
    requests: all that were answered, faults included.
    fault: from a request to the status that is answered in place of it; None for no fault.
  """

  daemon_threads = True
  request_queue_size = 128

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.buckets: dict[str, dict[str, bytes]] = {}
    self.generations: dict[tuple[str, str], int] = {}
    self.uploads: dict[str, tuple[str, str, dict, bytearray]] = {}
    self.requests: list[Request] = []
    self.fault: Callable[[Request], int | None] = lambda request: None
    self.lock = threading.RLock()

  @property
  def url(self) -> str:
    return f"http://127.0.0.1:{self.server_port}"

  def handle_error(self, request, client_address):
    """A client that hangs up in the middle of an answer, as a killed one does, is no error."""

  def put(self, bucket: str, name: str, content: bytes) -> None:
    self.buckets[bucket][name] = content
    self.generations[bucket, name] = self.generations.get((bucket, name), 1000) + 1


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  disable_nagle_algorithm = True
  server: Storage

  def log_message(self, *arguments):
    pass

  def do_GET(self):
    self._answer()

  do_POST = do_PUT = do_DELETE = do_GET

  def _answer(self) -> None:
    split = urllib.parse.urlsplit(self.path)
    self.query = {name: values[0] for name, values in urllib.parse.parse_qs(split.query).items()}
    self.body = self._read_body()
    with self.server.lock:
      request, act = self._route(split.path)
      self.server.requests.append(request)
      status = self.server.fault(request)
      if status is not None:
        self._error(status, "fault")
      elif request.bucket not in self.server.buckets:
        self._error(404, "The specified bucket does not exist.")
      else:
        act(request)

  def _request(self, bucket: str, name: str, action: str) -> Request:
    agent = self.headers.get("User-Agent", "")
    client = next((client for client in ("gcsfs", "tensorstore") if client in agent), "other")
    return Request(bucket, name, action, client)

  def _read_body(self) -> bytes:
    if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    body = b""
    while size := int(self.rfile.readline().split(b";")[0], 16):
      body += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return body

  def _route(self, path: str) -> tuple[Request, Callable[[Request], None]]:
    unquote = urllib.parse.unquote
    if match := _COPY.fullmatch(path):
      return self._request(match[1], unquote(match[2]), "copy"), lambda request: self._copy(
        request, match[3], unquote(match[4])
      )
    if match := _OBJECT.fullmatch(path):
      name, media = unquote(match[2]), self.query.get("alt") == "media"
      if self.command == "DELETE":
        return self._request(match[1], name, "delete"), self._delete
      return self._request(match[1], name, "read" if media else "metadata"), (self._read if media else self._metadata)
    if match := _OBJECTS.fullmatch(path):
      if match[1]:
        return self._route_upload(match[2])
      return self._request(match[2], "", "list"), self._list
    if match := _BUCKET.fullmatch(path):
      return self._request(match[1], "", "bucket"), self._bucket
    return self._request("", path, "unknown"), lambda request: self._error(501, f"{self.command} {path}")

  def _route_upload(self, bucket: str) -> tuple[Request, Callable[[Request], None]]:
    kind = self.query["uploadType"]
    if kind == "multipart":
      fields, content = self._parts()
      return self._request(bucket, fields["name"], "write"), lambda request: self._write(request, content)
    if kind == "media":
      return self._request(bucket, self.query["name"], "write"), lambda request: self._write(request, self.body)
    assert kind == "resumable", kind
    if "upload_id" in self.query:
      _, name, _, _ = self.server.uploads[self.query["upload_id"]]
      return self._request(bucket, name, "write"), self._chunk
    return self._request(bucket, self.query.get("name") or json.loads(self.body)["name"], "begin"), self._begin

  def _parts(self) -> tuple[dict, bytes]:
    """The two parts of a multipart upload, as gcsfs writes them: with plain line feeds."""
    boundary = b"\n--" + re.search(r'boundary="(.+)"', self.headers["Content-Type"])[1].encode()
    fields, _, rest = self.body.partition(b"\n\n")[2].partition(boundary)
    return json.loads(fields), rest.partition(b"\n\n")[2].removesuffix(boundary + b"--")

  def _condition_fails(self, bucket: str, name: str) -> int | None:
    """The status that says so."""
    found = self.server.generations[bucket, name] if name in self.server.buckets[bucket] else 0
    if "ifGenerationMatch" in self.query and int(self.query["ifGenerationMatch"]) != found:
      return 412
    if "ifGenerationNotMatch" in self.query and int(self.query["ifGenerationNotMatch"]) == found:
      return 304
    return None

  def _write(self, request: Request, content: bytes) -> None:
    if status := self._condition_fails(request.bucket, request.name):
      self._error(status, "conditionNotMet")
      return
    self.server.put(request.bucket, request.name, content)
    self._metadata(request)

  def _begin(self, request: Request) -> None:
    if status := self._condition_fails(request.bucket, request.name):
      self._error(status, "conditionNotMet")
      return
    identifier = str(len(self.server.uploads))
    self.server.uploads[identifier] = (request.bucket, request.name, dict(self.query), bytearray())
    location = f"{self.server.url}/upload/storage/v1/b/{request.bucket}/o?uploadType=resumable&upload_id={identifier}"
    self._send(200, b"{}", {"Location": location})

  def _chunk(self, request: Request) -> None:
    received = self.server.uploads[self.query["upload_id"]][-1]
    conditioning = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers["Content-Range"])
    if conditioning[1] is not None:
      assert int(conditioning[1]) == len(received), (conditioning[0], len(received))
      received += self.body
    if conditioning[3] == str(len(received)):
      self._write(request, bytes(received))
    else:
      self._send(308, b"", {"Range": f"bytes=0-{len(received) - 1}"})

  def _read(self, request: Request) -> None:
    content = self.server.buckets[request.bucket].get(request.name)
    if content is None:
      self._error(404, "No such object")
      return
    if status := self._condition_fails(request.bucket, request.name):
      self._error(status, "conditionNotMet")
      return
    head = {"x-goog-generation": str(self.server.generations[request.bucket, request.name])}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
    if wanted is None:
      self._send(200, content, head)
      return
    size = len(content)
    begin = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
    end = min(int(wanted[2]) + 1, size) if wanted[1] and wanted[2] else size
    if begin >= size:
      self._send(416, b"", {"Content-Range": f"bytes */{size}"})
      return
    self._send(206, content[begin:end], head | {"Content-Range": f"bytes {begin}-{end - 1}/{size}"})

  def _describe(self, bucket: str, name: str) -> dict:
    return {
      "kind": "storage#object",
      "bucket": bucket,
      "name": name,
      "size": str(len(self.server.buckets[bucket][name])),
      "generation": str(self.server.generations[bucket, name]),
      "metageneration": "1",
      "timeCreated": "2026-01-01T00:00:00.000Z",
      "updated": "2026-01-01T00:00:00.000Z",
    }

  def _metadata(self, request: Request) -> None:
    if request.name not in self.server.buckets[request.bucket]:
      self._error(404, "No such object")
    else:
      self._json(self._describe(request.bucket, request.name))

  def _list(self, request: Request) -> None:
    prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
    begin = base64.urlsafe_b64decode(self.query["pageToken"]).decode() if "pageToken" in self.query else ""
    items, prefixes, token, last = [], [], None, ""
    for name in sorted(self.server.buckets[request.bucket]):
      entry = name
      if delimiter and delimiter in name[len(prefix) :]:
        entry = prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
      outside = name < self.query.get("startOffset", "") or name >= self.query.get("endOffset", "\uffff")
      if not name.startswith(prefix) or outside or entry <= begin or entry in prefixes:
        continue
      if len(items) + len(prefixes) == min(PAGE, int(self.query.get("maxResults", PAGE))):
        token = base64.urlsafe_b64encode(last.encode()).decode()
        break
      last = entry
      if entry == name:
        items.append(self._describe(request.bucket, name))
      else:
        prefixes.append(entry)
    page = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
    self._json(page | ({"nextPageToken": token} if token else {}))

  def _copy(self, request: Request, bucket: str, name: str) -> None:
    content = self.server.buckets[request.bucket].get(request.name)
    if content is None:
      self._error(404, "No such object")
      return
    self.server.put(bucket, name, content)
    self._json({"kind": "storage#rewriteResponse", "done": True, "resource": self._describe(bucket, name)})

  def _delete(self, request: Request) -> None:
    if request.name not in self.server.buckets[request.bucket]:
      self._error(404, "No such object")
    elif status := self._condition_fails(request.bucket, request.name):
      self._error(status, "conditionNotMet")
    else:
      del self.server.buckets[request.bucket][request.name]
      self._send(204, b"", {})

  def _bucket(self, request: Request) -> None:
    self._json({"kind": "storage#bucket", "id": request.bucket, "name": request.bucket, "location": "US"})

  def _json(self, value: dict) -> None:
    self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

  def _error(self, status: int, message: str) -> None:
    body = b"" if status == 304 else json.dumps({"error": {"code": status, "message": message}}).encode()
    self._send(status, body, {"Content-Type": "application/json"})

  def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    if status not in (204, 304):
      self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)


@pytest.fixture(scope="session")
def storage() -> Iterator[Storage]:
  """The server; this process and those that it starts use it in place of Google's."""
  with Storage() as server, pytest.MonkeyPatch.context() as patch:
    patch.setenv("STORAGE_EMULATOR_HOST", server.url)
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    # It would ask by gRPC what kind of bucket this is.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def bucket(storage) -> Iterator[str]:
  """The URL of an empty bucket."""
  name = f"bucket-{len(storage.buckets)}"
  storage.buckets[name] = {}
  yield f"gs://{name}"
  storage.fault = lambda request: None
  storage.buckets[name] = {}


@pytest.fixture(scope="module")
def nothing_local(tmp_path_factory):
  """No URL is taken for the name of a local file: where the process runs, nothing appears."""
  folder = tmp_path_factory.mktemp("current")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    yield
  assert list(folder.iterdir()) == []
