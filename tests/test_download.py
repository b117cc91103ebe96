"""Downloads from a server on this machine."""

import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.cifar10_copies import isolated, only_reading, packed, publish, tar, warnings_of
from helpers.download_site import (
    Reply,
    Site,
    _frozen_garbage,
    cached,
    fails,
    points_to,
    sends,
    sends_without_length,
    site,
    stalls,
)

from cifar.data import archive, dataset, download
from cifar.errors import NotFoundError, StorageError

__all__ = ["_frozen_garbage", "isolated", "site"]  # fixtures


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


def test_the_published_address_goes_before_the_mirror(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar()))
    site.mirror(sends(tar()))
    download.fetch(lambda _: None)
    assert site.visits == ["/published"]


@pytest.mark.parametrize(
    "reply", [fails(404), fails(503), sends(tar(seed=1)), sends(tar()[:-9], claimed=len(tar())), sends(b"")]
)
def test_the_mirror_is_tried_where_the_published_address_fails(
    reply: Reply, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.published(reply)
    site.mirror(sends(tar()))
    notes: list[str] = []
    assert download.fetch(notes.append).read_bytes() == tar()
    assert site.visits == ["/published", "/mirror"]
    assert [note.rpartition("/")[2] for note in notes] == ["published", "mirror"]


def test_the_mirror_is_tried_without_a_network_to_the_published_address(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    site.mirror(sends(tar()))
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


def test_both_addresses_and_their_failures_are_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    published, mirror = site.published(fails(404)), site.mirror(sends(b"hello"))
    reason = not_found()
    assert f"{published}: 404" in reason
    assert f"{mirror}: the file is not the published one" in reason


@pytest.mark.parametrize("code", [401, 403, 404, 410, 429, 500, 503])
def test_an_address_that_responds_with_an_error_is_a_failure(code: int, site: Site) -> None:
    site.published(fails(code))
    assert f": {code} " in not_found()


def test_a_page_that_is_whole_but_empty_is_refused(site: Site) -> None:
    url = site.published(sends(b""))
    assert f"{url}: the file is not the published one" in not_found()


def test_a_connection_dropped_halfway_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    site.published(sends(tar()[: len(tar()) // 2], claimed=len(tar())))
    assert "not the published one" not in not_found()


@pytest.mark.parametrize("length", ["much", "-5", ""])
def test_an_invalid_length_is_survived(length: str, site: Site) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"hello")

    site.published(reply)
    not_found()


@pytest.mark.parametrize("content", [None, b"x" * 10_000], ids=["at once", "halfway"])
def test_a_server_that_stalls_is_given_up(content: bytes | None, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    url = site.published(stalls(content))
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
    assert f"; {url}: " in reason
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
