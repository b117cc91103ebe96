"""Runs that can be compared, and their averages over seeds."""

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

from cifar.analysis.claims import PUBLISHED_POLICY, Claim, judge_claims
from cifar.analysis.finished_run import FinishedRun
from cifar.analysis.gains import (
    Gain,
    Pair,
    accuracy,
    accuracy_of_last_epochs,
    augmentation_gain,
    clean_training_accuracy,
    mean_over,
)
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval, Mean


@dataclass(frozen=True)
class Average:
    """Accuracies of one network and policy over seeds.

    Attributes:
        test: test accuracy after the last epoch.
        interval: of `test`, 95 %: over seeds, or over test images for one seed.
        mean_last_epochs: mean test accuracy of the last five epochs.
        train: accuracy on the clean training images.
    """

    network: str
    augment: str
    seeds: list[int]
    test: Mean
    interval: Interval
    mean_last_epochs: Mean
    train: float


@dataclass(frozen=True)
class ExportedFormat:
    """The exports of a network's runs in one format.

    Attributes:
        bytes: size of the largest file.
        change: accuracy of the file less that of the Keras model.
        worst, best: the smallest and the largest change.
        agreement: the smallest share of test images with the Keras model's class.
    """

    network: str
    format: str
    bytes: int
    change: Mean
    worst: float
    best: float
    agreement: float


@dataclass(frozen=True)
class Group:
    """Runs whose recipes differ in policy and seed only, on the same data.

    Attributes:
        network: its name, and its backend if that is not TensorFlow.
        name: a name for files, different for every group.
        results: the runs, those without augmentation first.
    """

    network: str
    name: str
    results: list[FinishedRun]

    @property
    def label(self) -> str:
        """The network as people read it; the group's name where that must tell it from other groups."""
        first = self.results[0]
        if self.name != _file_name(first):
            return self.name
        return first.label

    @property
    def backend(self) -> str:
        """The backend that trained the runs."""
        return self.results[0].run.recipe.backend

    @property
    def epochs(self) -> int:
        """Epochs of each run."""
        return self.results[0].run.recipe.epochs

    @property
    def training_flop(self) -> int | None:
        """Floating-point operations of each run's training; None if no export of theirs counted them."""
        counts = [result.training_flop for result in self.results if result.training_flop is not None]
        return counts[0] if counts else None

    def of(self, augment: str) -> dict[int, FinishedRun]:
        """Return the runs under a policy, by seed."""
        return {result.seed: result for result in self.results if result.augment == augment}

    @property
    def policies(self) -> list[str]:
        """The policies, `none` first."""
        names = {result.augment for result in self.results}
        return sorted(names, key=lambda name: (name != "none", name))

    def first_seed_results(self) -> list[FinishedRun]:
        """Return each policy's run of the smallest seed."""
        first = []
        for augment in self.policies:
            by_seed = self.of(augment)
            first.append(by_seed[min(by_seed)])
        return first

    def averages(self) -> list[Average]:
        """Return each policy's accuracies over its seeds."""
        averages = []
        for augment in self.policies:
            averages.append(_average(list(self.of(augment).values())))
        return averages

    def exported(self) -> list[ExportedFormat]:
        """Return what the runs' exports cost, by format."""
        formats: set[str] = set()
        for result in self.results:
            formats.update(entry.format for entry in result.exports)
        exported = []
        for name in sorted(formats):
            exported.append(_exported_format(self.network, name, self.results))
        return exported

    @property
    def pairs(self) -> dict[str, list[Pair]]:
        """By policy, the pairs of runs of the seeds that have a run without augmentation, too."""
        plain = self.of("none")
        pairs: dict[str, list[Pair]] = {}
        for result in self.results:
            if result.augment != "none" and result.seed in plain:
                pairs.setdefault(result.augment, []).append(Pair(plain[result.seed], result))
        return pairs

    def gains(self) -> list[Gain]:
        """Return the augmentation gain of every policy."""
        gains = []
        for augment, pairs in self.pairs.items():
            gains.append(augmentation_gain(self.network, augment, pairs))
        return gains

    def claims(self) -> list[Claim]:
        """Return the published claims on the published policy; if that is missing, on each of the others."""
        pairs = self.pairs
        policies = list(pairs)
        if PUBLISHED_POLICY in pairs:
            policies = [PUBLISHED_POLICY]
        claims = []
        for augment in policies:
            claims += judge_claims(self.network, augment, pairs[augment])
        return claims


def group_by_recipe(results: Sequence[FinishedRun]) -> list[Group]:
    """Return the runs in groups, in the order of their first runs."""
    by_key: dict[Hashable, list[FinishedRun]] = {}
    for result in results:
        by_key.setdefault(comparison_key(result), []).append(result)
    groups = []
    for name, members in zip(_file_names(by_key), by_key.values(), strict=True):
        members.sort(key=lambda result: (result.augment != "none", result.augment, result.seed))
        groups.append(Group(members[0].network, name, members))
    return groups


def comparison_key(result: FinishedRun, ignored: Collection[str] = ()) -> Hashable:
    """Return what runs that are compared share: the recipe without policy, seed and ignored fields, and the data."""
    settings = result.run.recipe.model_dump_json(exclude={"policy", "seed", *ignored})
    return settings, result.run.identity.data_sha256, result.labels.tobytes()


def _file_names(by_key: dict[Hashable, list[FinishedRun]]) -> list[str]:
    """Return a name for the files of each group: the shortest of its three that no other group has, too."""
    candidates = []
    uses: Counter[str] = Counter()
    for key, results in by_key.items():
        group_candidates = _candidate_names(key, results[0])
        candidates.append(group_candidates)
        uses.update(group_candidates)
    names = []
    for group_candidates in candidates:
        names.append(next(name for name in group_candidates if uses[name] == 1))
    return names


def _file_name(result: FinishedRun) -> str:
    """Return the network's name without characters that file names lack."""
    return result.network.replace(":", ".").replace(" ", "-")


def _candidate_names(key: Hashable, result: FinishedRun) -> tuple[str, str, str]:
    """Return a short, a longer and a unique name for the files of a group."""
    short = _file_name(result)
    recipe = result.run.recipe
    longer = f"{short}-{recipe.dataset}-{result.metrics.n_train}x{recipe.epochs}"
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:6]
    return short, longer, f"{longer}-{digest}"


def _average(results: Sequence[FinishedRun]) -> Average:
    test = statistics.mean(list(map(accuracy, results)))
    last_epochs = statistics.mean(list(map(accuracy_of_last_epochs, results)))
    return Average(
        network=results[0].network,
        augment=results[0].augment,
        seeds=[result.seed for result in results],
        test=test,
        interval=test.interval or results[0].scores.interval,
        mean_last_epochs=last_epochs,
        train=mean_over(results, clean_training_accuracy),
    )


def _exported_format(network: str, name: str, results: Sequence[FinishedRun]) -> ExportedFormat:
    sizes, changes, agreements = [], [], []
    for result in results:
        for entry in result.exports:
            if entry.format == name:
                sizes.append(entry.bytes)
                changes.append(entry.accuracy - result.scores.accuracy)
                agreements.append(entry.agreement)
    return ExportedFormat(
        network=network,
        format=name,
        bytes=max(sizes),
        change=statistics.mean(changes),
        worst=min(changes),
        best=max(changes),
        agreement=min(agreements),
    )
