"""The data set on the nodes of a cluster: each node's own copy, or one that is sent to it."""

from dataclasses import dataclass
from pathlib import Path

from cifar.data import dataset
from cifar.data.download import cache
from cifar.errors import CifarError, DataError
from cifar.system import files
from cifar.training.cluster.packed import Packed, unpack


@dataclass(frozen=True)
class WantedData:
    """The data that a node must have.

    Attributes:
        name: of the data set.
        folder: the place that the user names, on every node; None for where `cifar train` looks.
        sha256: of its arrays.
        copy: this machine's copy, which may be sent to nodes; None for synthetic data.
    """

    name: str
    folder: Path | None
    sha256: str
    copy: Path | None

    @property
    def sent(self) -> Path:
        """Where a node keeps a copy that was sent to it, in the cache of its user."""
        return cache() / "sent" / self.sha256[:16]


def place_on_this_node(wanted: WantedData) -> Path | None:
    """Return the place that `cifar train` must be told on this node; None where it finds the data by itself.

    Raises:
        DataError: there is no copy with the digest; the message says what is wrong with the node's own.
    """
    try:
        _require(wanted, wanted.folder)
        return wanted.folder
    except CifarError as error:
        if wanted.copy is None:
            raise
        sent = wanted.sent / wanted.copy.name
        try:
            _require(wanted, sent)
        except CifarError:
            raise error from None
        return sent


def receive(wanted: WantedData, packed: Packed) -> None:
    """On a node: keep a copy that was sent, unless another node with the same home keeps it already.

    Raises:
        BusyError: another process keeps one, and needs more than a minute.
        DataError: it was damaged on its way.
        cifar.errors.StorageError: it cannot be written.
    """
    with files.locked_dir(wanted.sent):
        try:
            _require(wanted, wanted.sent / packed.name)
        except CifarError:
            unpack(packed, wanted.sent / packed.name)


def _require(wanted: WantedData, place: Path | None) -> None:
    """Raise DataError, or NotFoundError, unless the data at a place has the digest."""
    found = dataset.by_name(wanted.name, place, lambda _note: None, download=False)
    if found.sha256 != wanted.sha256:
        raise DataError(f"{wanted.name} has another SHA-256 than the copy that is wanted ({found.sha256[:12]}).")
