import functools
import gc
import gzip
import hashlib
import io
import os
import pickle
import shutil
import socket
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cifar.data import archive, dataset, download
from cifar.data.dataset import Dataset
from cifar.errors import DataError, NotFoundError, StorageError, UsageError

REAL = os.environ.get("CIFAR10_DIR")
SMALL = 20  # images in each file of the small copies
TRAINING_METHODS = ("--data-dir", "CIFAR10_DIR", "CIFAR10_URL", "--data synthetic", archive.FOLDER, archive.ARCHIVE)


@pytest.fixture(autouse=True)
def _nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, no copy on this machine, and a published address where nobody answers."""
    monkeypatch.setattr(archive, "BATCH", SMALL)
    monkeypatch.setattr(dataset, "TRAIN", 5 * SMALL)
    monkeypatch.setattr(dataset, "TEST", SMALL)
    monkeypatch.setattr(download, "PUBLISHED_URL", closed_address())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.delenv("CIFAR10_URL", raising=False)
    assert tmp_path in download.cache().parents


def closed_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/{archive.ARCHIVE}"


@functools.cache
def files(seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    made = {}
    for name in archive.FILES_MD5:
        images = rng.integers(0, 256, (SMALL, 3072), np.uint8)
        made[name] = pickle.dumps({b"data": images, b"labels": [i % 10 for i in range(SMALL)]}, 2)
    names = [name.encode() for name in archive.CLASS_NAMES]
    return {**made, "batches.meta": pickle.dumps({b"label_names": names}, 2)}


def unpacked(path: Path, seed: int = 0) -> Path:
    """Make a folder of the data set."""
    path.mkdir(parents=True)
    for name, content in files(seed).items():
        (path / name).write_bytes(content)
    return path


def packed(path: Path, seed: int = 0) -> Path:
    """Make an archive of the data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar(seed))
    return path


@functools.cache
def tar(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packing:
        for name, content in files(seed).items():
            info = tarfile.TarInfo(f"{archive.FOLDER}/{name}")
            info.size = len(content)
            packing.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), compresslevel=1, mtime=0)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, seed: int = 0) -> None:
    """Let this archive, with the files of this seed, be the published one."""
    monkeypatch.setattr(archive, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    for name, file in files(seed).items():
        monkeypatch.setitem(archive.FILES_MD5, name, hashlib.md5(file).hexdigest())


def first_image(seed: int) -> np.ndarray:
    return pickle.loads(files(seed)["data_batch_1"])[b"data"][0].reshape(3, 32, 32).transpose(1, 2, 0)


def is_of(data: Dataset, seed: int) -> bool:
    return np.array_equal(data.x_train[0], first_image(seed))


def only_reading(note: str) -> None:
    """Takes notes where there is nothing to tell but what is read."""
    assert note.startswith("Reading ")


def warnings_of(notes: list[str]) -> list[str]:
    return [note for note in notes if not note.startswith("Reading ")]


# Places that the user names.


def test_a_named_folder_is_itself(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "any-name")
    assert dataset.named_copy(folder) == folder


def test_a_named_folder_lacking_files_is_itself_so_that_the_missing_one_is_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "any-name")
    (folder / "data_batch_2").unlink()
    with pytest.raises(DataError, match="any-name/data_batch_2: expected a readable file"):
        dataset.load("cifar10", folder, only_reading)


def test_a_named_archive_is_itself(tmp_path: Path) -> None:
    path = packed(tmp_path / "mine.tgz")
    assert dataset.named_copy(path) == path


def test_what_holds_the_folder_may_be_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / archive.FOLDER)
    assert dataset.named_copy(tmp_path) == folder


def test_what_holds_the_archive_may_be_named(tmp_path: Path) -> None:
    path = packed(tmp_path / archive.ARCHIVE)
    assert dataset.named_copy(tmp_path) == path


def test_the_folder_goes_before_the_archive_beside_it(tmp_path: Path) -> None:
    packed(tmp_path / archive.ARCHIVE)
    folder = unpacked(tmp_path / archive.FOLDER)
    assert dataset.named_copy(tmp_path) == folder


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "nul\0byte"])
def test_a_named_place_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        dataset.named_copy(tmp_path / name)
    assert caught.value.exit_code == 3
    assert str(tmp_path / name) in str(caught.value)
    assert archive.FOLDER in str(caught.value)
    assert archive.ARCHIVE in str(caught.value)


def test_a_missing_place_and_one_without_the_data_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        dataset.named_copy(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found neither"):
        dataset.named_copy(tmp_path)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_place_without_the_data_is_an_error_and_no_reason_to_look_elsewhere(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    with pytest.raises(DataError, match="nowhere"):
        dataset.load(choice, tmp_path / "nowhere", only_reading)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        dataset.load(choice, None, only_reading)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_copy_that_is_damaged_is_an_error(choice: str, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / archive.FOLDER)
    (folder / "test_batch").write_bytes(b"damaged")
    with pytest.raises(DataError, match="test_batch"):
        dataset.load(choice, folder, only_reading)


@pytest.mark.parametrize("choice", ["cifar10", "auto"])
def test_a_named_copy_that_is_not_the_published_one_is_used_and_its_digest_told(choice: str, tmp_path: Path) -> None:
    notes: list[str] = []
    data = dataset.load(choice, unpacked(tmp_path / archive.FOLDER), notes.append)
    assert (data.name, data.official) == ("cifar10", False)
    assert notes[0] == f"Reading {tmp_path / archive.FOLDER}"
    assert len(notes) == 2
    assert str(tmp_path / archive.FOLDER) in notes[1]
    assert data.sha256 in notes[1]


@pytest.mark.parametrize("make", [unpacked, packed])
def test_a_named_copy_that_is_the_published_one_is_official(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    assert dataset.load("cifar10", make(tmp_path / "copy"), only_reading).official is True


def test_the_argument_goes_before_the_environment_and_that_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    notes: list[str] = []
    assert is_of(dataset.load_cifar10(None, notes.append), 0)
    monkeypatch.setenv("CIFAR10_DIR", str(unpacked(tmp_path / "one", seed=1)))
    assert is_of(dataset.load_cifar10(None, notes.append), 1)
    assert is_of(dataset.load_cifar10(unpacked(tmp_path / "two", seed=2), notes.append), 2)


def test_an_empty_variable_names_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    packed(download.cache() / archive.ARCHIVE)
    monkeypatch.setenv("CIFAR10_DIR", "")
    assert dataset.load_cifar10(None, only_reading).official is True


def test_a_copy_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "TRAIN", 5 * SMALL + 1)
    with pytest.raises(DataError, match="expected 101/20 images, found 100/20"):
        dataset.load_cifar10(unpacked(tmp_path / "copy"), only_reading)


# Copies that nobody named.


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (packed, f"cache/cifar-bench/{archive.ARCHIVE}"),
        (unpacked, f"keras/datasets/{archive.FOLDER}"),
        (unpacked, f"keras/datasets/cifar-10-batches-py-target/{archive.FOLDER}"),
        (packed, f"keras/datasets/{archive.FOLDER}.tar.gz"),
    ],
)
def test_a_cached_copy_is_found(
    make: Callable[[Path], Path], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    make(tmp_path / place)
    data = dataset.load("auto", None, only_reading)
    assert (data.name, data.official) == ("cifar10", True)


def test_keras_keeps_its_copies_at_home_where_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_HOME")
    folder = unpacked(tmp_path / "home" / ".keras" / "datasets" / archive.FOLDER)
    assert list(dataset.cached_copies()) == [folder]


def test_the_own_cache_goes_before_that_of_keras(tmp_path: Path) -> None:
    keras = unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    own = packed(download.cache() / archive.ARCHIVE)
    assert list(dataset.cached_copies()) == [own, keras]


def test_a_cached_copy_that_is_not_the_published_one_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tar())
    other = packed(download.cache() / archive.ARCHIVE, seed=1)
    unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    notes: list[str] = []
    data = dataset.load_cifar10(None, notes.append)
    assert is_of(data, 0)
    (warning,) = warnings_of(notes)
    assert warning.startswith(f"{other} is not the published CIFAR-10")
    assert "--data-dir" in warning


def test_a_damaged_cached_copy_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    damaged = packed(download.cache() / archive.ARCHIVE)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    unpacked(tmp_path / "keras" / "datasets" / archive.FOLDER)
    notes: list[str] = []
    assert dataset.load_cifar10(None, notes.append).official is True
    (warning,) = warnings_of(notes)
    assert "damaged" in warning
    assert str(damaged) in warning


def test_a_copy_that_is_not_used_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, tar())
    other = packed(download.cache() / archive.ARCHIVE, seed=1)
    with pytest.raises(NotFoundError):
        dataset.load_cifar10(None, lambda _: None, download=False)
    assert other.read_bytes() == tar(seed=1)


def test_without_a_copy_and_without_leave_to_download_nothing_is_fetched(site: "Site") -> None:
    site.published(sends(tar()))
    with pytest.raises(NotFoundError, match="--data-dir or CIFAR10_DIR") as caught:
        dataset.load_cifar10(None, pytest.fail, download=False)
    assert caught.value.exit_code == 3
    assert site.visits == []


# Without a network.


def test_cifar10_without_a_copy_and_a_network_is_an_error_that_names_every_way_out() -> None:
    notes: list[str] = []
    with pytest.raises(NotFoundError) as caught:
        dataset.load("cifar10", None, notes.append)
    assert caught.value.exit_code == 3
    assert f"{download.PUBLISHED_URL}: no connection" in str(caught.value)
    for way in TRAINING_METHODS:
        assert way in str(caught.value)
    assert notes == [f"Fetching {download.PUBLISHED_URL}"]


def test_auto_without_a_copy_and_a_network_draws_pictures_and_says_so() -> None:
    notes: list[str] = []
    data = dataset.load("auto", None, notes.append)
    assert (data.name, data.official) == ("synthetic", None)
    assert (len(data.x_train), len(data.x_test)) == (4_000, 1_000)
    assert notes[-1].startswith("CIFAR-10 is not to be had.")
    for way in TRAINING_METHODS:
        assert way in notes[-1]


def test_synthetic_looks_nowhere(site: "Site", monkeypatch: pytest.MonkeyPatch) -> None:
    site.published(sends(tar()))
    monkeypatch.setenv("CIFAR10_DIR", "/nowhere")
    assert dataset.load("synthetic", None, pytest.fail).name == "synthetic"
    assert site.visits == []


def test_synthetic_with_a_place_of_cifar10_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir") as caught:
        dataset.load("synthetic", unpacked(tmp_path / archive.FOLDER), only_reading)
    assert caught.value.exit_code == 2


# Downloads, from a server on this machine.

Reply = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """Replies to each path as it was told to."""

    daemon_threads = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.monkeypatch = monkeypatch
        self.replies: dict[str, Reply] = {}
        self.visits: list[str] = []
        self.closing = threading.Event()

    def published(self, reply: Reply) -> str:
        self.monkeypatch.setattr(download, "PUBLISHED_URL", self.at("/published", reply))
        return download.PUBLISHED_URL

    def mirror(self, reply: Reply) -> str:
        url = self.at("/mirror", reply)
        self.monkeypatch.setenv("CIFAR10_URL", url)
        return url

    def at(self, path: str, reply: Reply) -> str:
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
def _quick_collection() -> Iterator[None]:
    """What is there already is not searched for garbage after each test."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def site(_quick_collection: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    server = Site(monkeypatch)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()
    gc.collect()  # sockets left open would be warned of here, in the test that left them


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
    """Sends nothing, or some of it, and then waits without hanging up."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if content is not None:
            sends(content, claimed=10 * len(content))(handler)
            handler.wfile.flush()
        handler.server.closing.wait(60)  # type: ignore[attr-defined]

    return reply


def cached() -> list[Path]:
    """All that lies in the cache, but for what it is held by."""
    return [path for path in download.cache().iterdir() if path.name != ".lock"]


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
def test_an_address_that_answers_with_an_error_is_a_failure(code: int, site: Site) -> None:
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
def test_a_length_that_is_none_is_survived(length: str, site: Site) -> None:
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
    start = time.monotonic()
    assert f"{url}: the server is too slow or silent" in not_found()
    assert 0.4 < time.monotonic() - start < 10


def test_redirections_in_a_circle_are_given_up(site: Site) -> None:
    site.at("/there", points_to("/published"))
    site.published(points_to("/there"))
    assert "redirects" in not_found()
    assert len(site.visits) < 50


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[x"])
def test_a_mirror_that_is_no_address_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


# What a data set says of itself.


def test_the_digest_is_over_images_and_labels_in_their_order(tmp_path: Path) -> None:
    data = dataset.load_cifar10(unpacked(tmp_path / "copy"), lambda _: None)
    parts = (data.x_train, data.y_train, data.x_test, data.y_test)
    assert data.sha256 == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_the_digest_is_the_same_for_the_folder_and_the_archive(tmp_path: Path) -> None:
    one, other = (dataset.load_cifar10(make(tmp_path / make.__name__), lambda _: None) for make in (unpacked, packed))
    assert one.sha256 == other.sha256
    shutil.rmtree(tmp_path / "unpacked")
    assert dataset.load_cifar10(unpacked(tmp_path / "unpacked", seed=1), lambda _: None).sha256 != one.sha256


def test_the_first_images_keep_the_whole_test_set() -> None:
    data = dataset.draw_synthetic(30, 20)
    part = data.head(7)
    assert np.array_equal(part.x_train, data.x_train[:7])
    assert np.array_equal(part.y_train, data.y_train[:7])
    assert np.array_equal(part.x_test, data.x_test)
    assert part.sha256 != data.sha256
    assert data.head(None).sha256 == data.sha256


def test_the_facts_are_those_of_the_data() -> None:
    data = dataset.draw_synthetic(30, 20)
    expected = {"name": "synthetic", "official": None, "sha256": data.sha256, "n_train": 7, "n_test": 20}
    assert data.head(7).facts() == {**expected, "sha256": data.head(7).sha256}


@pytest.mark.skipif(not REAL, reason="CIFAR10_DIR names no copy of CIFAR-10")
def test_the_real_data_are_what_everybody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BATCH", 10_000)
    monkeypatch.setattr(dataset, "TRAIN", 50_000)
    monkeypatch.setattr(dataset, "TEST", 10_000)
    data = dataset.load("cifar10", Path(str(REAL)), lambda _: None)
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert data.x_test.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.y_train).tolist() == [5_000] * 10
    assert np.bincount(data.y_test).tolist() == [1_000] * 10
    mean = data.x_train.mean((0, 1, 2)) / 255
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.0005)
    assert data.y_train[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.y_test[:5].tolist() == [3, 8, 8, 0, 6]
