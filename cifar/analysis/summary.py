"""All figures of a report, computed from run folders."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.gains import accuracy
from cifar.analysis.groups import Group, group_by_recipe
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval, Mean
from cifar.runs.run import Run

FORMAT_VERSION = 2


@dataclass(frozen=True)
class BackendComparison:
    """Test accuracy of one network and policy on TensorFlow, first, and on another backend, second.

    Attributes:
        backend: the other backend.
        first, second: accuracy after the last epoch over seeds.
        interval: of the second mean less the first (Welch); None for a single seed.
    """

    network: str
    augment: str
    backend: str
    first: Mean
    second: Mean
    interval: Interval | None


@dataclass(frozen=True)
class Summary:
    """All figures of a report.

    Attributes:
        groups: the finished runs.
        unfinished: the other runs.
        held_out: runs that scored held-out training images: of no use beside test accuracies.
    """

    groups: list[Group]
    unfinished: list[Run]
    held_out: list[Run]

    @property
    def results(self) -> list[FinishedRun]:
        """All finished runs, group by group."""
        results = []
        for group in self.groups:
            results += group.results
        return results

    def first_seed_results(self) -> list[FinishedRun]:
        """Return the run of the smallest seed of each network and policy."""
        results = []
        for group in self.groups:
            results += group.first_seed_results()
        return results

    def between_backends(self) -> list[BackendComparison]:
        """Return the comparisons of TensorFlow with other backends: groups that differ in the backend only."""
        comparisons = []
        for first, second in self._groups_on_two_backends():
            for augment in first.policies:
                if augment in second.policies:
                    comparisons.append(_compare_backends(first, second, augment))
        return comparisons

    def _groups_on_two_backends(self) -> Iterator[tuple[Group, Group]]:
        """Yield groups on TensorFlow, each with a group on another backend and otherwise equal recipes."""
        for first in self.groups:
            if first.backend != "tensorflow":
                continue
            for second in self.groups:
                if second.backend != "tensorflow" and first.comparison_key == second.comparison_key:
                    yield first, second

    def restrict_to(self, runs: Sequence[Run]) -> "Summary":
        """Return the part that concerns some runs: their groups, and those of them that are unfinished."""
        paths = {run.path for run in runs}
        groups = []
        for group in self.groups:
            if not paths.isdisjoint(result.run.path for result in group.results):
                groups.append(group)
        unfinished = [run for run in self.unfinished if run.path in paths]
        return Summary(groups, unfinished, [run for run in self.held_out if run.path in paths])

    def facts(self, pick: str) -> dict[str, Any]:
        """Return the summary ready for JSON."""
        facts: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "runs": [result.facts(pick) for result in self.results],
            "unfinished": [],
            "averages": [],
            "exported": [],
            "backends": list(map(asdict, self.between_backends())),
            "gains": [],
            "claims": [],
        }
        for run in self.unfinished:
            facts["unfinished"].append({"path": str(run.path), "status": run.status})
        for group in self.groups:
            facts["averages"] += map(asdict, group.averages())
            facts["exported"] += map(asdict, group.exported())
            facts["gains"] += map(asdict, group.gains())
            facts["claims"] += map(asdict, group.claims())
        return facts


def summarise(runs: Sequence[Run]) -> Summary:
    """Return the summary of runs.

    Raises:
        UsageError: a finished run is damaged.
    """
    finished, unfinished, held_out = [], [], []
    for run in runs:
        if run.recipe.hold_out:
            held_out.append(run)
        elif run.finished:
            finished.append(FinishedRun(run))
        else:
            unfinished.append(run)
    return Summary(group_by_recipe(finished), unfinished, held_out)


def _compare_backends(first: Group, second: Group, augment: str) -> BackendComparison:
    on_tensorflow = list(map(accuracy, first.of(augment).values()))
    on_other = list(map(accuracy, second.of(augment).values()))
    return BackendComparison(
        network=first.network,
        augment=augment,
        backend=second.backend,
        first=statistics.mean(on_tensorflow),
        second=statistics.mean(on_other),
        interval=statistics.difference_of_means(on_tensorflow, on_other),
    )
