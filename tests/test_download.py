"""Downloads from a server on this machine."""

import json
import re
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.cifar10_copies import closed_address, isolated, only_reading, packed, publish, tar, warnings_of
from helpers.download_site import (
    Reply,
    Site,
    _frozen_garbage,
    cached,
    continues,
    drips,
    fails,
    points_to,
    sends,
    sends_without_length,
    site,
    stalls,
)
from helpers.in_process import run_cli

from cifar.data import archive, dataset, download, sources, transfer
from cifar.data.download import partial_file
from cifar.errors import NotFoundError, StorageError

__all__ = ["_frozen_garbage", "isolated", "site"]  # fixtures
PUBLIC = (*sources.MIRRORS, sources.PUBLISHED_URL)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written at once fits the small archives."""
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 500)


def be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give servers up after half a second."""
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)


def not_found() -> str:
    """Why nothing could be fetched; and nothing may be left of the attempt."""
    before = sys.stdout, sys.stderr
    with pytest.raises(NotFoundError) as caught:
        download.fetch(lambda _: None)
    assert caught.value.exit_code == 3
    assert cached() == []
    assert (sys.stdout, sys.stderr) == before
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("rich"):  # what shows the progress; it ends a little after its display
            thread.join(5)
            assert not thread.is_alive()
    return str(caught.value)


@pytest.mark.parametrize("sending", [sends, sends_without_length])
def test_the_published_archive_is_fetched_into_the_cache(
    sending: Callable[[bytes], Reply], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    url = site.published(sending(tar()))
    notes: list[str] = []
    path = download.fetch(notes.append)
    assert path == download.cache() / archive.ARCHIVE
    assert path.read_bytes() == tar()
    assert cached() == [path]
    assert notes == [f"Fetching {url}"]


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_cifar10_is_fetched_once(choice: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar()))
    first = dataset.load(choice, None, lambda _: None)
    again = dataset.load(choice, None, only_reading)
    assert (first.name, first.official) == ("cifar10", True)
    assert again.sha256 == first.sha256
    assert site.visits == ["/published"]


def test_the_own_address_goes_first_then_the_mirrors_then_the_published_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.own(fails(404))
    site.mirrors(fails(503), sends(b"a page"))
    site.published(sends(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert site.visits == ["/own", "/0", "/1", "/published"]


def test_the_sources_are_addresses_of_one_file_by_https() -> None:
    assert PUBLIC[-1] == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert len({sources.host(url) for url in PUBLIC}) == len(PUBLIC) == 6
    for url in PUBLIC:
        assert url.startswith("https://")
        assert url.endswith(f"/{archive.ARCHIVE}")


@pytest.mark.parametrize(
    "reply", [fails(404), fails(503), sends(tar(seed=1)), sends(tar()[:-9], claimed=len(tar())), sends(b"")]
)
def test_the_next_source_is_tried_where_one_fails(reply: Reply, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.own(reply)
    site.published(sends(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert site.visits == ["/own", "/published"]


def test_the_next_source_is_tried_without_a_network_to_the_first(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    monkeypatch.setenv("CIFAR10_URL", closed_address())
    site.published(sends(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()


def test_a_redirection_is_followed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.at("/elsewhere", sends(tar()))
    site.published(points_to("/elsewhere"))
    assert download.fetch(lambda _: None).read_bytes() == tar()


def test_wrong_bytes_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    url = site.published(sends(tar(seed=1)))
    assert f"{url}: the file is not the published one" in not_found()


def test_all_addresses_and_their_failures_are_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(fails(404))
    own = site.own(sends(b"hello"))
    elsewhere = site.mirrors(fails(503), fails(404))
    monkeypatch.setattr(sources, "MIRRORS", (elsewhere[0], elsewhere[1].replace("127.0.0.1", "localhost")))
    reason = not_found()
    assert f"{own}: the file is not the published one" in reason
    assert f"{elsewhere[0]}: 503 " in reason
    assert "localhost, 127.0.0.1: 404 " in reason  # the same reason: by their servers


@pytest.mark.parametrize("code", [401, 403, 404, 410, 429, 500, 503])
def test_an_address_that_responds_with_an_error_is_a_failure(code: int, site: Site) -> None:
    site.published(fails(code))
    assert f": {code} " in not_found()


def test_a_page_that_is_whole_but_empty_is_refused(site: Site) -> None:
    url = site.published(sends(b""))
    assert f"{url}: the file is not the published one" in not_found()


def test_a_connection_dropped_halfway_leaves_the_half_for_the_next_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    half = 200_000
    url = site.published(sends(tar()[:half], claimed=len(tar())))
    assert f"{url}: the connection broke" in not_found()
    assert partial_file().read_bytes() == tar()[:half]
    site.published(continues(tar()))
    notes: list[str] = []
    assert download.fetch(notes.append).read_bytes() == tar()
    assert site.ranges[-1] == f"bytes={half}-"
    assert not partial_file().exists()
    assert "MB on" in notes[0]


@pytest.mark.parametrize("length", ["much", "-5", ""])
def test_an_invalid_length_is_survived(length: str, site: Site) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"hello")

    site.published(reply)
    not_found()


@pytest.mark.parametrize("stop", [None, 3000], ids=["at once", "halfway"])
def test_a_server_that_stalls_is_given_up(stop: int | None, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    be_quick(monkeypatch)
    url = site.published(continues(tar(), stop, pause=60) if stop else stalls(None))
    assert f"{url}: the server is too slow or silent" in not_found()


def test_redirections_in_a_circle_are_given_up(site: Site) -> None:
    site.at("/there", points_to("/published"))
    site.published(points_to("/there"))
    assert "redirects" in not_found()
    assert len(site.visits) < 50


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[x"])
def test_an_invalid_address_of_a_mirror_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_URL", url)
    reason = not_found()
    assert reason.startswith(f"{url}: ")
    assert "not the published one" not in reason


def test_a_redirection_to_a_local_file_is_not_followed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.published(points_to(packed(tmp_path / "local.tar.gz").as_uri()))
    not_found()


def test_a_damaged_file_in_the_cache_is_replaced(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar()))
    path = packed(download.cache() / archive.ARCHIVE)
    path.write_bytes(b"damaged")
    notes: list[str] = []
    assert dataset.load("auto", None, notes.append).official is True
    assert path.read_bytes() == tar()
    assert "damaged" in warnings_of(notes)[0]


def test_a_failed_download_leaves_the_cache_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar(seed=1)))
    path = packed(download.cache() / archive.ARCHIVE, seed=2)
    with pytest.raises(NotFoundError):
        dataset.load("cifar10", None, lambda _: None)
    assert cached() == [path]
    assert path.read_bytes() == tar(seed=2)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_cache_that_cannot_be_written_is_an_error_of_its_own(
    choice: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar()))
    (tmp_path / "cache").write_text("a file where a folder has to be")
    with pytest.raises(StorageError, match="cache") as caught:
        dataset.load(choice, None, lambda _: None)
    assert caught.value.exit_code == 4


# Sources that break off, stall or lie: another one continues.


@pytest.mark.parametrize("pause", [None, 60], ids=["breaks off", "stalls"])
def test_another_source_continues_a_download(
    pause: float | None, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    be_quick(monkeypatch)
    first, _ = site.mirrors(continues(tar(), 1000, pause), continues(tar(), 5000, pause))
    published = site.published(continues(tar()))
    notes: list[str] = []
    assert download.fetch(notes.append).read_bytes() == tar()
    assert site.ranges == [None, "bytes=1000-", "bytes=5000-"]
    assert notes[0] == f"Fetching {first}"
    assert notes[1].startswith(f"Leaving {first}: ")
    assert notes[-1].startswith(f"Fetching {published}, from 0.0 of ")


def test_a_source_that_ignores_ranges_continues_a_download(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.mirrors(continues(tar(), 4000), sends(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert site.visits == ["/0", "/1"]


def test_a_slow_source_is_left_for_a_faster_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 bytes in half a second, where 100,000 are expected."""
    publish(monkeypatch, tar())
    be_quick(monkeypatch)
    monkeypatch.setattr(download, "MIN_SPEED", 200_000)
    slow, _ = site.mirrors(drips(tar(), 1000, 0.05), continues(tar()))
    notes: list[str] = []
    assert download.fetch(notes.append).read_bytes() == tar()
    assert site.visits == ["/0", "/1"]
    assert re.match(re.escape(f"Leaving {slow}: the server is too slow or silent (") + r"\d+\.\d kB/s\)", notes[1])


def test_where_every_source_is_slow_the_best_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    be_quick(monkeypatch)
    monkeypatch.setattr(download, "MIN_BYTES", 100)
    site.mirrors(drips(tar(), 1000, 0.05), drips(tar(), 20_000, 0.05))
    monkeypatch.setattr(download, "MIN_SPEED", 10 * len(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert site.visits[:2] == ["/0", "/1"]
    assert site.visits[-1] == "/1"


def test_parts_of_different_files_are_thrown_away_and_the_source_is_asked_for_the_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    lie = tar()[:100] + bytes(len(tar()) - 100)
    site.mirrors(continues(lie, 2000), continues(tar()))
    notes: list[str] = []
    assert download.fetch(notes.append).read_bytes() == tar()
    assert site.visits == ["/0", "/1", "/1"]
    assert site.ranges == [None, "bytes=2000-", None]
    assert "The parts of the download are not of the published file; starting again." in notes


def test_of_a_source_of_another_file_nothing_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.mirrors(continues(tar(), 3000), sends_without_length(tar() + b"more"), continues(tar()))
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert site.ranges[-1] == "bytes=3000-"


@pytest.mark.parametrize("content_range", ["", "bytes */5", "bytes x-y/z", "bytes 7-9999/9999", "bytes 0-"])
def test_a_part_other_than_the_one_requested_is_refused(
    content_range: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", content_range)
        handler.end_headers()
        handler.wfile.write(tar()[7:])

    publish(monkeypatch, tar())
    site.published(reply)
    if content_range == "bytes 0-":  # from the start, whatever the bytes are
        assert "not the published one" in not_found()
    else:
        assert "another part" in not_found() or "does not name" in not_found()


@pytest.mark.parametrize("content", [b"x" * 10, tar(), tar() + b"x", tar(seed=1)])
def test_whatever_part_is_in_the_cache_the_published_file_comes_out(
    content: bytes, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.published(continues(tar()))
    partial_file().parent.mkdir(parents=True)
    partial_file().write_bytes(content)
    assert download.fetch(lambda _: None).read_bytes() == tar()
    assert not partial_file().exists()


def test_an_abandoned_transfer_writes_nothing_more(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(monkeypatch, tar())
    url = site.published(drips(tar(), 1000, 0.05))
    thread = transfer.Transfer(url, tmp_path / "file", 0, 5)
    thread.start()
    while not thread.position:
        thread.join(0.01)
    thread.abandon()
    size = (tmp_path / "file").stat().st_size
    thread.join(10)
    assert not thread.is_alive()
    assert (tmp_path / "file").stat().st_size == size


# `cifar data fetch --list`


def test_the_list_says_which_sources_respond(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    monkeypatch.setattr(sources, "PROBE_TIMEOUT", 1.0)
    site.mirrors(continues(tar()), sends(tar()), fails(404), sends(b"page"), stalls(None))
    own = closed_address()
    monkeypatch.setenv("CIFAR10_URL", own)
    site.published(points_to("/0"))
    probes = sources.probe_all(sources.addresses())
    assert [probe.url for probe in probes] == sources.addresses()
    assert [probe.responds for probe in probes] == [False, True, True, False, False, False, True]
    messages = [probe.message for probe in probes]
    assert messages[0] == "no connection"
    assert messages[3].startswith("404 ")
    assert messages[4:6] == ["the file is not the published one", "the server is too slow or silent"]
    assert list(download.cache().parent.glob("*/*")) == []


def test_the_list_is_printed_as_a_table_and_as_json(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    (mirror,) = site.mirrors(continues(tar()))
    site.published(fails(404))
    table = run_cli(["data", "fetch", "--list"])
    assert (table.code, "127.0.0.1  responds" in table.out) == (0, True)
    listed = run_cli(["data", "fetch", "--list", "--json"])
    (first, second) = json.loads(listed.out)["sources"]
    assert (first["url"], first["responds"], second["responds"]) == (mirror, True, False)
    assert second["message"].startswith("404 ")


def test_progress_shows_source_size_speed_and_time_left() -> None:
    with download._progress() as progress, progress.console.capture() as shown:
        progress.add_task("127.0.0.1", total=10_000_000, completed=5_000_000)
        progress.start()
        progress.stop()
    assert re.search(r"127\.0\.0\.1 .* 5\.0/10\.0 MB \S+ \S+ left", shown.get())
