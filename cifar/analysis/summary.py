"""All figures of a report, computed from run folders."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cifar.analysis.comparisons import between_backends, between_precisions
from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.groups import Group, group_by_recipe
from cifar.runs.run import Run

FORMAT_VERSION = 2


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
            "backends": list(map(asdict, between_backends(self.groups))),
            "precisions": list(map(asdict, between_precisions(self.groups))),
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
