"""A server on this machine that sends the archive, errors, or nothing at all."""

import gc
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar.data import download

Reply = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server with a reply for each path.

    Attributes:
        replies: by path.
        visits: the paths requested so far.
        closing: set when the test ends.
    """

    daemon_threads = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.monkeypatch = monkeypatch
        self.replies: dict[str, Reply] = {}
        self.visits: list[str] = []
        self.closing = threading.Event()

    def published(self, reply: Reply) -> str:
        """Let this site be the published source, with this reply, and return its URL."""
        self.monkeypatch.setattr(download, "PUBLISHED_URL", self.at("/published", reply))
        return download.PUBLISHED_URL

    def mirror(self, reply: Reply) -> str:
        """Let this site be the user's mirror, with this reply, and return its URL."""
        url = self.at("/mirror", reply)
        self.monkeypatch.setenv("CIFAR10_URL", url)
        return url

    def at(self, path: str, reply: Reply) -> str:
        """Reply so to a path, and return its URL."""
        self.replies[path] = reply
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.visits.append(self.path)
        self.server.replies[self.path](self)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def _frozen_garbage() -> Iterator[None]:
    """Garbage collection skips the objects that exist before the module's tests: it runs after each of them."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def site(_frozen_garbage: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    server = Site(monkeypatch)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()
    gc.collect()  # warns here of sockets left open, in the test that left them


def sends(content: bytes, claimed: int | None = None) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if claimed is None else claimed))
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def sends_without_length(content: bytes) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def fails(code: int) -> Reply:
    return lambda handler: handler.send_error(code)


def points_to(path: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return reply


def stalls(content: bytes | None) -> Reply:
    """Send nothing, or some content, and then wait without closing the connection."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if content is not None:
            sends(content, claimed=10 * len(content))(handler)
            handler.wfile.flush()
        handler.server.closing.wait(60)  # type: ignore[attr-defined]

    return reply


def cached() -> list[Path]:
    """The files in the cache, except for its lock."""
    return [path for path in download.cache().iterdir() if path.name != ".lock"]
