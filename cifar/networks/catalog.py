"""The reference networks as data."""

import re
from dataclasses import dataclass

from cifar.errors import UsageError, one_of
from cifar.recipes import NETWORK_PATTERN


@dataclass(frozen=True)
class Network:
    """A reference network.

    Attributes:
        name: as `--network` takes it.
        module: the module here whose `build` makes the Keras model.
        filters: of the convolutions in each of its three stages.
        origin: where its figures come from.
    """

    name: str
    module: str
    filters: tuple[int, int, int]
    origin: str

    @property
    def label(self) -> str:
        """The name and the filters for people to read: `first (32-64-64)`."""
        return f"{self.name} ({'-'.join(map(str, self.filters))})"


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("first", "tutorial", (32, 64, 64), "published, with its 50 epochs; batch size our choice"),
        Network("second", "tutorial", (16, 32, 64), "published; batch size and epochs our choice"),
        Network(
            "third",
            "tutorial",
            (32, 64, 128),
            "our choice throughout: the published text names no third network's figures",
        ),
        Network("resnet8", "resnet8", (16, 32, 64), "ResNet-8 of MLPerf Tiny; inputs are not scaled"),
        Network("airbench94", "airbench94", (64, 256, 256), "airbench94 (Jordan 2024), in Keras layers"),
    )
}
PUBLISHED = ("first", "second", "third")
"""The networks of the published text: what is trained and measured where no network is named."""


def label(name: str) -> str:
    """Return the label of a reference network; a user's own network is its own label."""
    if name in NETWORKS:
        return NETWORKS[name].label
    return name


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
