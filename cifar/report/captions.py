"""Sentences on the data that figures and tables are about."""

import json
from collections.abc import Iterable

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.groups import Group
from cifar.errors import UsageError
from cifar.runs.schemas import Metrics
from cifar.system.environment import reproducibility_key


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


def environment_captions(results: Iterable[FinishedRun]) -> list[str]:
    """Return a sentence that runs are of several environments; none if they are of one."""
    environments = {_environment_key(result) for result in results}
    if len(environments) < 2:
        return []
    return [
        f"These runs were trained in {len(environments)} environments (processors, versions, settings): where those "
        "of a comparison differ in it, that is a part of their spread."
    ]


def _environment_key(result: FinishedRun) -> str | None:
    """What a run's bits depend on beside recipe and data, as JSON; None where its record does not tell."""
    try:
        return json.dumps(reproducibility_key(result.run.environment), sort_keys=True)
    except (UsageError, KeyError, TypeError, AttributeError):
        return None
