"""A transfer of the archive, or of what is missing of it, over one connection in a thread of its own."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from cifar.data import archive
from cifar.data.sources import OTHER_FILE, DownloadError, describe, first_byte, request

CHUNK_BYTES = 16 << 10  # written at once
GZIP_MAGIC = b"\x1f\x8b"


class Transfer(threading.Thread):
    """A transfer that appends to a file what the file lacks of the archive.

    It runs in a thread because the timeout of a socket starts anew with every byte: a server that sends a byte now
    and then could hold it for ever. An abandoned thread ends with its connection, or with this process.

    Args:
        url: the address.
        path: the file.
        offset: its bytes so far.
        read_timeout: seconds without a byte after which the connection is given up.

    Attributes:
        received: bytes that the server has sent.
        position: bytes in the file.
        outcome: done when the transfer ends; holds its error if it failed.
    """

    def __init__(self, url: str, path: Path, offset: int, read_timeout: float) -> None:
        super().__init__(daemon=True)
        self.url, self.path, self.offset, self.read_timeout = url, path, offset, read_timeout
        self.received = 0
        self.position = offset
        self.outcome: Future[None] = Future()
        self._writing = threading.Lock()
        self._abandoned = False

    def run(self) -> None:
        """Transfer, and keep an error for the thread that waits."""
        try:
            self._stream()
        except BaseException as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(None)

    def abandon(self) -> None:
        """Write nothing from now on."""
        with self._writing:
            self._abandoned = True

    def _stream(self) -> None:
        import requests

        try:
            with request(self.url, self.offset, self.read_timeout) as response:
                present = self.offset - first_byte(response)
                if present < 0:
                    raise DownloadError("the server sends another part")
                self._write(response.iter_content(CHUNK_BYTES), present)
        except (requests.RequestException, ValueError) as error:
            raise DownloadError(describe(error), self.received) from error
        if self.position < archive.ARCHIVE_BYTES:
            raise DownloadError("the connection broke", self.received)

    def _write(self, chunks: Iterator[bytes], present: int) -> None:
        """Append chunks to the file, less their first `present` bytes, which it has already."""
        with self.path.open("ab") as file:
            for chunk in chunks:
                self.received += len(chunk)
                missing = chunk[present:]
                present -= len(chunk) - len(missing)
                if missing and not self._append(file, missing):
                    return

    def _append(self, file: BinaryIO, chunk: bytes) -> bool:
        """Append a chunk; return False if nobody waits for it any more.

        Raises:
            DownloadError: it cannot be of the archive.
        """
        starts_wrong = self.position == 0 and not GZIP_MAGIC.startswith(chunk[:2])
        if starts_wrong or self.position + len(chunk) > archive.ARCHIVE_BYTES:
            raise DownloadError(OTHER_FILE)
        with self._writing:
            if self._abandoned:
                return False
            file.write(chunk)
            file.flush()
        self.position += len(chunk)
        return True
