"""The figures of a report, taken from run folders. Drawing them is for others."""

import hashlib
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cifar.analysis.finished_run import Result
from cifar.analysis.gains import PUBLISHED, Claim, Gain, gain_of, judge_claims
from cifar.formats.manifest import ManifestEntry
from cifar.metrics.statistics import Interval, Mean, difference_of_means, mean
from cifar.runs.run import Run


@dataclass(frozen=True)
class Average:
    """Results of one network and policy over seeds.

    Attributes:
        test: accuracy after the last epoch.
        late: its mean over the last five epochs.
        train: accuracy on the clean training images.
    """

    network: str
    augment: str
    seeds: list[int]
    test: Mean
    late: Mean
    train: float


@dataclass(frozen=True)
class Exported:
    """What one format made of a network's results.

    Attributes:
        bytes: of a file, the largest.
        change: accuracy of the file less that of the Keras model.
        worst, best: the smallest and the largest change.
        agreement: the least share of images with the Keras model's class.
    """

    network: str
    format: str
    bytes: int
    change: Mean
    worst: float
    best: float
    agreement: float


@dataclass(frozen=True)
class BackendComparison:
    """A network and policy on TensorFlow, first, and on another backend, second.

    Attributes:
        backend: the other one.
        first, second: accuracy after the last epoch over seeds.
        interval: of the second less the first (Welch); None for a single seed.
    """

    network: str
    augment: str
    backend: str
    first: Mean
    second: Mean
    interval: Interval | None


Change = tuple[ManifestEntry, float]
"""A file, and its accuracy less that of the Keras model."""


@dataclass(frozen=True)
class Group:
    """Results of one network whose recipes differ in policy and seed alone."""

    network: str
    name: str
    results: list[Result]

    @property
    def backend(self) -> str:
        """The backend that trained them."""
        return self.results[0].run.recipe.backend

    @property
    def comparison_key(self) -> Hashable:
        """What the results have in common beside their backend."""
        return _comparison_key(self.results[0], {"backend"})

    def of(self, augment: str) -> dict[int, Result]:
        """The results under a policy, by seed."""
        return {result.seed: result for result in self.results if result.augment == augment}

    @property
    def policies(self) -> list[str]:
        """The policies, none first."""
        return sorted({result.augment for result in self.results}, key=lambda name: (name != "none", name))

    def first_seed_results(self) -> list[Result]:
        """Of each policy the result of the smallest seed."""
        return [min(self.of(augment).items())[1] for augment in self.policies]

    def averages(self) -> list[Average]:
        """Of each policy the accuracy over its seeds."""
        return [_average(self.network, list(self.of(augment).values())) for augment in self.policies]

    def exported(self) -> list[Exported]:
        """What each format cost, over all results."""
        by_format: dict[str, list[Change]] = {}
        for result in self.results:
            for line in result.exported:
                by_format.setdefault(line.format, []).append((line, line.accuracy - result.scores.accuracy))
        return [_exported(self.network, by_format[name]) for name in sorted(by_format)]

    @property
    def pairs(self) -> Iterable[tuple[str, list[tuple[Result, Result]]]]:
        """Per policy the (plain, augmented) results of the seeds that have both."""
        plain = self.of("none")
        for augment in self.policies:
            both = [(plain[seed], result) for seed, result in self.of(augment).items() if seed in plain]
            if augment != "none" and both:
                yield augment, both

    def gains(self) -> list[Gain]:
        """What every policy buys."""
        return [gain_of(self.network, augment, pairs) for augment, pairs in self.pairs]

    def claims(self) -> list[Claim]:
        """The claims of the published text, judged by its own policy; without that, by each of the others."""
        pairs = dict(self.pairs)
        judged = [PUBLISHED] if PUBLISHED in pairs else list(pairs)
        return [claim for augment in judged for claim in judge_claims(self.network, augment, pairs[augment])]


@dataclass(frozen=True)
class Summary:
    """Everything a report says."""

    groups: list[Group]
    unfinished: list[Run]

    @property
    def results(self) -> list[Result]:
        """All results, group by group."""
        return [result for group in self.groups for result in group.results]

    def between_backends(self) -> list[BackendComparison]:
        """Groups whose recipes differ in the backend alone, against those on TensorFlow."""
        return [
            _compare_backends(first, second, augment)
            for first in self.groups
            for second in self.groups
            if first.backend == "tensorflow" != second.backend and first.comparison_key == second.comparison_key
            for augment in first.policies
            if augment in second.policies
        ]

    def restrict_to(self, runs: Sequence[Run]) -> "Summary":
        """The part that concerns some runs: the groups they stand in, and those of them that are unfinished."""
        paths = {run.path for run in runs}
        groups = [group for group in self.groups if any(result.run.path in paths for result in group.results)]
        return Summary(groups, [run for run in self.unfinished if run.path in paths])

    def facts(self, pick: str) -> dict[str, Any]:
        """The summary ready for JSON."""
        return {
            "format_version": 1,
            "runs": [result.facts(pick) for result in self.results],
            "unfinished": [{"path": str(run.path), "status": run.status} for run in self.unfinished],
            "averages": [asdict(average) for group in self.groups for average in group.averages()],
            "exported": [asdict(exported) for group in self.groups for exported in group.exported()],
            "backends": [asdict(versus) for versus in self.between_backends()],
            "gains": [asdict(gain) for group in self.groups for gain in group.gains()],
            "claims": [asdict(claim) for group in self.groups for claim in group.claims()],
        }


def summarise(runs: Sequence[Run]) -> Summary:
    """Take the figures of runs; the unfinished are listed apart."""
    groups: dict[Hashable, list[Result]] = {}
    for run in runs:
        if run.finished:
            result = Result(run)
            groups.setdefault(_comparison_key(result), []).append(result)
    made = []
    for name, results in zip(_names(groups), groups.values(), strict=True):
        results.sort(key=lambda result: (result.augment != "none", result.augment, result.seed))
        made.append(Group(results[0].network, name, results))
    return Summary(made, [run for run in runs if not run.finished])


def _names(groups: dict[Hashable, list[Result]]) -> list[str]:
    """A name for each group, fit for a file: no longer than sets it apart from the others."""
    spellings = []
    for comparison_key, results in groups.items():
        stem = results[0].network.replace(":", ".").replace(" ", "-")
        recipe = results[0].run.recipe
        longer = f"{stem}-{recipe.dataset}-{results[0].metrics.n_train}x{recipe.epochs}"
        digest = hashlib.sha256(repr(comparison_key).encode()).hexdigest()[:6]
        spellings.append((stem, longer, f"{longer}-{digest}"))
    names = []
    for mine in spellings:
        apart = [name for i, name in enumerate(mine) if sum(name == other[i] for other in spellings) == 1]
        names.append(apart[0])
    return names


def _comparison_key(result: Result, beside: Collection[str] = ()) -> Hashable:
    """What decides which results are compared: the recipe but for policy, seed and fields beside, and the images."""
    settings = result.run.recipe.model_dump_json(exclude={"policy", "seed", *beside})
    return settings, result.run.identity.data_sha256, result.labels.tobytes()


def _compare_backends(first: Group, second: Group, augment: str) -> BackendComparison:
    ours, theirs = ([result.scores.accuracy for result in group.of(augment).values()] for group in (first, second))
    return BackendComparison(
        network=first.network,
        augment=augment,
        backend=second.backend,
        first=mean(ours),
        second=mean(theirs),
        interval=difference_of_means(ours, theirs),
    )


def _average(network: str, results: Sequence[Result]) -> Average:
    return Average(
        network=network,
        augment=results[0].augment,
        seeds=[result.seed for result in results],
        test=mean([result.scores.accuracy for result in results]),
        late=mean([result.mean_last_epochs("test_accuracy") for result in results]),
        train=mean([result.metrics.train_accuracy_clean for result in results]).mean,
    )


def _exported(network: str, files: Sequence[Change]) -> Exported:
    changes = [change for _, change in files]
    return Exported(
        network=network,
        format=files[0][0].format,
        bytes=max(line.bytes for line, _ in files),
        change=mean(changes),
        worst=min(changes),
        best=max(changes),
        agreement=min(line.agreement for line, _ in files),
    )
