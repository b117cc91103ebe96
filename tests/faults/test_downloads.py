"""Servers that lie, stall, drop, drip and never end: a verified file or a clear refusal in time, and nothing left."""

import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.cifar10_copies import isolated, publish, tar
from helpers.download_site import (
    Reply,
    Site,
    _frozen_garbage,
    cached,
    continues,
    fails,
    points_to,
    sends,
    sends_without_length,
    site,
    stalls,
)

from cifar.data import archive, download, sources, transfer
from cifar.errors import NotFoundError
from faults.conftest import Count, Tally

__all__ = ["_frozen_garbage", "isolated", "site"]  # fixtures
TIMEOUT = 0.4  # seconds, instead of 30
OPEN = object()  # a connection that the server leaves open


def begins(handler: BaseHTTPRequestHandler, length: object) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.flush()


def until_closed(handler: BaseHTTPRequestHandler, piece: Callable[[int], bytes], pause: float) -> None:
    """Send pieces for as long as the client reads them and the test lasts."""
    number = 0
    try:
        while not handler.server.closing.wait(pause):  # type: ignore[attr-defined]
            handler.wfile.write(piece(number))
            number += 1
    except OSError:  # hung up
        pass


def drips(length: object = None) -> Reply:
    """A byte at a time, for ever."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        begins(handler, length)
        until_closed(handler, lambda _: b"x", 0.05)

    return reply


def drips_headers(handler: BaseHTTPRequestHandler) -> None:
    """A header whose end never comes."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    until_closed(handler, lambda _: b"x", 0.05)


def drips_redirections(handler: BaseHTTPRequestHandler) -> None:
    """Each response comes in time, and redirects further."""
    handler.server.closing.wait(TIMEOUT / 3)  # type: ignore[attr-defined]
    points_to("/published")(handler)


def never_ends(length: object = None) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        begins(handler, length)
        until_closed(handler, lambda _: bytes(1 << 16), 0)

    return reply


def counts_headers_for_ever(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    until_closed(handler, lambda number: b"X-%d: y\r\n" % number, 0)


def sends_raw(raw: bytes) -> Reply:
    """These bytes instead of a response."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)

    return reply


def encoded(content: bytes) -> Reply:
    """Bytes whose header claims a gzip encoding."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def wrong(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def replies(chance: random.Random) -> dict[str, Reply]:
    """A reply of every kind; those that could give the file for an honest reason are marked `may`."""
    whole = tar()
    part = whole[: chance.randrange(len(whole))]
    return {
        "an honest server: may": chance.choice([sends(whole), sends_without_length(whole)]),
        "a connection dropped": sends(part, claimed=len(whole)),
        "an end too early, without a length": sends_without_length(part),
        "a length too long": sends(whole, claimed=len(whole) + chance.randrange(1, 10**6)),
        "a length too short": sends(whole, claimed=chance.randrange(len(whole))),
        "a length beyond all numbers": sends(whole, claimed=10 ** chance.choice([20, 400, 4000])),
        "a length below nothing: may": sends(whole, claimed=-chance.randrange(1, 10**6)),
        "wrong bytes": sends(wrong(whole, chance)),
        "more behind the file": sends(whole + chance.randbytes(chance.randrange(1, 5000))),
        "nothing": sends(b""),
        "an error": fails(chance.choice([400, 401, 403, 404, 410, 429, 500, 502, 503])),
        "a stall at once": stalls(None),
        "a stall halfway": stalls(part[:2000] or b"x"),
        "redirections for ever": points_to("/published"),
        "slow redirections": drips_redirections,
        "a redirection to nowhere": points_to(chance.choice(["http://127.0.0.1:1/", "http://[", "x" * 9000, "//"])),
        "a drip": drips(chance.choice([None, len(whole), 10**15])),
        "a header that drips": drips_headers,
        "headers for ever": counts_headers_for_ever,
        "data for ever": never_ends(chance.choice([None, 10**15])),
        "no HTTP": sends_raw(chance.choice([b"", b"hello\r\n\r\n", chance.randbytes(500), b"HTTP/9.9 abc\r\n\r\n"])),
        "another encoding": encoded(part or b"x"),
    }


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", TIMEOUT)
    monkeypatch.setattr(download, "READ_TIMEOUT", TIMEOUT)


def fetched(site: Site, reply: Reply) -> tuple[str, float]:
    """`fetched`, or the refusal; and how long it took."""
    site.published(reply)
    started = time.monotonic()
    try:
        path = download.fetch(lambda _: None)
    except NotFoundError as error:
        assert cached() == []
        return str(error), time.monotonic() - started
    assert path.read_bytes() == tar()
    assert cached() == [path]
    path.unlink()
    return "fetched", time.monotonic() - started


@pytest.mark.parametrize("kind", replies(random.Random(0)))
def test_a_bad_server_gives_a_verified_file_or_a_refusal_in_time(
    kind: str, site: Site, monkeypatch: pytest.MonkeyPatch, count: Count, tally: Tally, tmp_path: Path
) -> None:
    publish(monkeypatch, tar())
    before = {thread.ident for thread in threading.enumerate()}
    for seed in range(count(1, 10)):
        outcome, seconds = fetched(site, replies(random.Random(seed))[kind])
        assert seconds < 20 * TIMEOUT, f"{outcome} after {seconds:.1f} s"
        if outcome == "fetched":
            assert kind.endswith("may") or kind == "a length too long", "a file from nowhere"
        else:
            assert not kind.startswith("an honest")
            assert outcome.startswith(f"{sources.PUBLISHED_URL}: ")
            assert outcome.isprintable()
            assert len(outcome) < 1000
        tally("downloads from a bad server")
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}
    site.closing.set()  # what drips ends, and with it whoever was given up
    for thread in threading.enumerate():
        if thread.ident not in before:
            thread.join(5)
            assert not thread.is_alive(), thread


def interrupted(chance: random.Random) -> Reply:
    """A server that knows ranges, with the published file or another; it breaks off, stalls, or does neither."""
    content = chance.choice([tar(), tar(), wrong(tar(), chance), tar()[:5000] + bytes(len(tar()) - 5000)])
    stop = chance.choice([None, chance.randrange(len(content))])
    return continues(content, stop, chance.choice([None, None, 60]))


def test_after_any_sources_an_honest_one_gives_the_published_file(
    site: Site, monkeypatch: pytest.MonkeyPatch, count: Count, tally: Tally
) -> None:
    publish(monkeypatch, tar())
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1000)
    site.published(continues(tar()))
    for seed in range(count(15, 300)):
        chance = random.Random(seed)
        bad = list(replies(chance).values())
        site.mirrors(*(chance.choice([interrupted(chance), chance.choice(bad)]) for _ in range(3)))
        assert download.fetch(lambda _: None).read_bytes() == tar(), f"seed {seed}"
        assert [path.name for path in download.cache().iterdir() if path.name != ".lock"] == [archive.ARCHIVE]
        (download.cache() / archive.ARCHIVE).unlink()
        tally("downloads from bad servers, then an honest one")


def test_a_slow_server_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower than the timeout altogether, and never too slow within it."""
    monkeypatch.setattr(download, "MIN_BYTES", 2000)
    publish(monkeypatch, tar())
    pieces = 12

    def reply(handler: BaseHTTPRequestHandler) -> None:
        begins(handler, len(tar()))
        step = -(-len(tar()) // pieces)
        for start in range(0, len(tar()), step):
            handler.wfile.write(tar()[start : start + step])
            time.sleep(TIMEOUT / 4)

    outcome, seconds = fetched(site, reply)
    assert outcome == "fetched"
    assert seconds > 2 * TIMEOUT


def test_no_more_is_kept_on_disk_than_the_published_archive_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    largest = 0

    def make_callback(handler: BaseHTTPRequestHandler) -> None:
        nonlocal largest
        begins(handler, None)

        def piece(_: int) -> bytes:
            nonlocal largest
            sizes = [path.stat().st_size for path in download.cache().rglob("*") if path.is_file()]
            largest = max([largest, *sizes])
            return bytes(1 << 14)

        until_closed(handler, piece, 0.001)

    outcome, _ = fetched(site, make_callback)
    assert "not the published one" in outcome
    assert largest <= len(tar()) + 4096
    assert archive.ARCHIVE in outcome
