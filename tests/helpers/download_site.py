"""A server on this machine that sends the archive, errors, or nothing at all."""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar.data import download, sources
from cifar.data.download import partial_file

Reply = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server with a reply for each path.

    Attributes:
        replies: by path.
        visits: the paths requested so far.
        ranges: the Range header of each visit, None where there was none.
        closing: set when the test ends.
    """

    daemon_threads = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.monkeypatch = monkeypatch
        self.replies: dict[str, Reply] = {}
        self.visits: list[str] = []
        self.ranges: list[str | None] = []
        self.closing = threading.Event()

    def published(self, reply: Reply) -> str:
        """Let this site be the published source, with this reply, and return its URL."""
        self.monkeypatch.setattr(sources, "PUBLISHED_URL", self.at("/published", reply))
        return sources.PUBLISHED_URL

    def own(self, reply: Reply) -> str:
        """Let this site be the address of the user's own, with this reply, and return its URL."""
        url = self.at("/own", reply)
        self.monkeypatch.setenv("CIFAR10_URL", url)
        return url

    def mirrors(self, *replies: Reply) -> list[str]:
        """Let this site be the mirrors /0, /1 and so on, with these replies, and return their URLs."""
        urls = [self.at(f"/{number}", reply) for number, reply in enumerate(replies)]
        self.monkeypatch.setattr(sources, "MIRRORS", tuple(urls))
        return urls

    def at(self, path: str, reply: Reply) -> str:
        """Reply so to a path, and return its URL."""
        self.replies[path] = reply
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.visits.append(self.path)
        self.server.ranges.append(self.headers.get("Range"))
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


def continues(content: bytes, stop: int | None = None, pause: float | None = None) -> Reply:
    """Send the bytes from the requested one on, as a server that knows ranges.

    Args:
        content: the file.
        stop: the index of the byte before which the connection breaks off; None for none.
        pause: seconds to wait there instead, with the connection open, or until the test ends.
    """

    def reply(handler: BaseHTTPRequestHandler) -> None:
        start = 0
        if "Range" in handler.headers:
            start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        with contextlib.suppress(OSError):  # hung up
            handler.wfile.write(content[start:stop])
            handler.wfile.flush()
            if pause is not None:
                handler.server.closing.wait(pause)  # type: ignore[attr-defined]

    return reply


def drips(content: bytes, piece: int, pause: float) -> Reply:
    """Send the bytes from the requested one on, a piece after each pause, until the client hangs up."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        continues(content, stop=0)(handler)
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        with contextlib.suppress(OSError):
            while start < len(content) and not handler.server.closing.wait(pause):  # type: ignore[attr-defined]
                handler.wfile.write(content[start : start + piece])
                start += piece

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
    """The files in the cache, except for its lock and the part of an interrupted download."""
    return [path for path in download.cache().iterdir() if path not in (download.cache() / ".lock", partial_file())]
