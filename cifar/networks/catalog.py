"""The reference networks as data."""

import re
from dataclasses import dataclass

from cifar.errors import UsageError, one_of
from cifar.recipes import NETWORK_PATTERN


@dataclass(frozen=True)
class Network:
    """A reference network: filters of its three stages, and where its figures come from."""

    filters: tuple[int, int, int]
    origin: str


NETWORKS: dict[str, Network] = {
    "first": Network((32, 64, 64), "published, with its 50 epochs; batch size our choice"),
    "second": Network((16, 32, 64), "published; batch size and epochs our choice"),
    "third": Network((32, 64, 128), "our choice throughout: the published text names no third network's figures"),
}


def check_name(name: str) -> str:
    """Return `name` if it is a reference network or has the form `module:function`.

    Raises:
        UsageError: it is neither.
    """
    if ":" in name:
        if not re.match(NETWORK_PATTERN, name):
            raise UsageError(f"There is no network {name!r}. Your own is module:function.")
        return name
    return one_of("network", name, NETWORKS, also=", or your own as module:function")
