"""Sentences on the data that figures and tables are about."""

from collections.abc import Iterable

from cifar.analysis.groups import Group
from cifar.runs.schemas import Metrics


def data_caption(name: str, official: bool | None, sha256: str, n_test: int) -> str:
    """Return a sentence on test data: what it is, whether it is the published one, how many images."""
    if name == "synthetic":
        return f"SYNTHETIC DATA, not CIFAR-10: {n_test:,} drawn test images."
    origin = "CIFAR-10"
    if not official:
        origin = "a copy of CIFAR-10 that is not bit for bit the published one"
    return f"Data: {origin} (sha256 {sha256[:12]}), {n_test:,} test images."


def caption_of(metrics: Metrics) -> str:
    """Return a sentence on the test data of a run's scores."""
    return data_caption(metrics.dataset, metrics.official, metrics.data_sha256, metrics.n_test)


def data_captions(groups: Iterable[Group]) -> list[str]:
    """Return a sentence on each of the test data of some groups."""
    captions = [caption_of(group.results[0].metrics) for group in groups]
    return list(dict.fromkeys(captions))
