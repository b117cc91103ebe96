"""SIGKILL, which cannot be caught, at random moments; then the same command again."""

import contextlib
import functools
import hashlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import TINY

from cifar.data import archive, download, sources
from faults import whole
from faults.conftest import Count, Tally
from faults.forked import PATIENCE, Forked, cifar

SEED = int(os.environ.get("FAULTS_SEED", "20"))
RUN = Path("runs") / "tinynet.build-shift-flip-s0"
TRAIN = (
    "train", "--network", "tinynet:build", "--augment", "shift-flip", "--data", "synthetic", "--epochs", "40",
)  # fmt: skip
EXPORT = ("export", str(RUN), "--format", "saved-model,onnx")  # a folder and a file

Condition = Callable[[], bool]


def kill(process: Forked) -> None:
    assert process.kill() == -signal.SIGKILL, f"seed {SEED}: it ended before it could be killed: {process.err}"


def wait(process: Forked, condition: Condition, pause: float = 0.005) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.running(), f"seed {SEED}: it ended before it could be killed: {process.err}"
        assert time.monotonic() < deadline, f"seed {SEED}: it got stuck: {process.err}"
        time.sleep(pause)


def finish(home: Path, *arguments: str) -> None:
    process = cifar(home, *arguments)
    assert process.end() == 0, f"seed {SEED}: {process.err}"


def home_of_tiny(path: Path) -> Path:
    (path / "tinynet.py").write_text(TINY)
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the run was trained, exported and reported without interruption."""
    home = home_of_tiny(tmp_path_factory.mktemp("uninterrupted"))
    finish(home, *TRAIN)
    return home


def wait_for_epochs(process: Forked, epochs: int) -> None:
    """Wait until training has begun and this process has trained so many epochs: a title, then lines, on stderr."""

    def progress_lines() -> int:
        return sum(line.startswith(("[1/1]", "  epoch")) for line in process.err.splitlines())

    wait(process, lambda: progress_lines() > epochs)


def is_being_written(folder: Path, name: str) -> Condition:
    """Whether a file of this name is being written in a folder right now."""
    return lambda: any(folder.glob(f".{name}.*.part"))


def is_replaced(path: Path) -> Condition:
    """Whether another file or folder has replaced the one at a path: its manifest does not describe it yet."""
    before = path.stat().st_ino

    def look() -> bool:
        with contextlib.suppress(FileNotFoundError):  # for a moment there is neither
            return path.stat().st_ino != before
        return False

    return look


def kill_while_training(home: Path, draw: random.Random) -> bool:
    process = cifar(home, *TRAIN)
    wait_for_epochs(process, draw.randrange(5))
    time.sleep(draw.uniform(0, 0.2))
    kill(process)
    return not (home / RUN / "metrics.json").exists()


def kill_while_checkpointing(home: Path, draw: random.Random) -> bool:
    """True if the checkpoint was hit: its unfinished file still exists."""
    process = cifar(home, *TRAIN)
    wait_for_epochs(process, draw.randrange(5))
    written = is_being_written(home / RUN, "checkpoint.npz")
    wait(process, written, pause=0)
    time.sleep(draw.uniform(0, 0.0005))
    kill(process)
    return written()


KILLS = {"training": kill_while_training, "checkpointing": kill_while_checkpointing}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory, count: Count, tally: Tally
) -> None:
    draw = random.Random(SEED)
    expected = whole.outcome(uninterrupted / RUN)
    for _ in range(count(1, 10)):
        home = home_of_tiny(tmp_path_factory.mktemp("killed"))
        for kind in ("training", "checkpointing", "training"):
            for _attempt in range(5):
                hit = KILLS[kind](home, draw)
                whole.check(home / RUN)
                if hit:
                    break
            assert hit, f"seed {SEED}: {kind} was never hit"
            tally(f"killed while {kind}")
        finish(home, *TRAIN)
        whole.check(home / RUN)
        assert not list((home / RUN).rglob("*.part")), "unfinished files pile up"
        assert whole.outcome(home / RUN) == expected, f"seed {SEED}"
        tally("resumed to the same bits")


@pytest.mark.slow
def test_a_killed_export_leaves_a_correct_manifest_and_can_be_repeated(
    uninterrupted: Path, tmp_path: Path, count: Count, tally: Tally
) -> None:
    """The export replaces earlier files, so that there is something to lose."""
    draw = random.Random(SEED)
    expected = whole.outcome(uninterrupted / RUN)
    home = home_of_tiny(tmp_path)
    shutil.copytree(uninterrupted / "runs", home / "runs")
    for number in range(count(1, 10)):
        process = cifar(home, *EXPORT)
        if number % 2:
            wait(process, lambda: any((home / "tmp").glob("cifar-export-*")))
            time.sleep(draw.uniform(0, 4))
        else:
            replaced = is_replaced(home / RUN / "exports" / f"{RUN.name}.saved_model")
            wait(process, replaced, pause=0)
        kill(process)
        shutil.rmtree(home / "tmp")
        whole.check(home / RUN)
        tally("killed while exporting")
    finish(home, *EXPORT)
    whole.check(home / RUN)
    assert whole.outcome(home / RUN) == expected, f"seed {SEED}"
    tally("exported to the same predictions")


# Downloads, from a server on this machine.

ARCHIVE = b"\x1f\x8b" + random.Random(SEED).randbytes(2_000_000)


def fetch_archive(url: str) -> None:
    sources.PUBLISHED_URL, sources.MIRRORS = url, ()
    archive.ARCHIVE_SHA256, archive.ARCHIVE_BYTES = hashlib.sha256(ARCHIVE).hexdigest(), len(ARCHIVE)
    print(download.fetch(lambda _: None))


class Handler(BaseHTTPRequestHandler):
    """Sends the archive in 40 pieces: at once, or over two seconds."""

    pause = 0.0
    server: "Site"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ARCHIVE)))
        self.end_headers()
        piece = len(ARCHIVE) // 40
        with contextlib.suppress(OSError):  # the client was killed
            for begin in range(0, len(ARCHIVE), piece):
                self.wfile.write(ARCHIVE[begin : begin + piece])
                self.server.sent.set()
                time.sleep(self.server.pause)

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent = threading.Event()
        self.pause = 0.0


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(home: Path, site: Site) -> Forked:
    site.sent.clear()
    return Forked(home, fetch_archive, f"http://127.0.0.1:{site.server_port}/{archive.ARCHIVE}", NO_PROXY="*")


def test_a_killed_download_leaves_nothing_that_looks_like_the_archive(
    site: Site, tmp_path: Path, count: Count, tally: Tally
) -> None:
    draw = random.Random(SEED)
    for _ in range(count(1, 10)):
        site.pause = 0.05
        process = fetch(tmp_path, site)
        wait(process, site.sent.is_set)
        time.sleep(draw.uniform(0, 1.8))
        kill(process)
        assert not list(tmp_path.glob(f"cache/*/{archive.ARCHIVE}")), f"seed {SEED}"
        unfinished = [path for path in tmp_path.glob("cache/*/*") if path.name != ".lock"]
        assert len(unfinished) <= 1, "unfinished files pile up"
        for path in unfinished:
            assert path.name == f"{archive.ARCHIVE}.partial"
            assert ARCHIVE.startswith(path.read_bytes())
        tally("killed while downloading")
    site.pause = 0.0
    process = fetch(tmp_path, site)
    assert process.end() == 0, process.err
    assert Path(process.out.strip()).read_bytes() == ARCHIVE
    assert [path.name for path in tmp_path.glob("cache/cifar-bench/*") if path.name != ".lock"] == [archive.ARCHIVE]
    tally("downloaded whole afterwards")
