"""The same recipes on two backends, or in two precisions: groups of runs that differ in that alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cifar.analysis.gains import accuracy
from cifar.analysis.groups import Group, comparison_key
from cifar.metrics import statistics
from cifar.metrics.statistics import Interval, Mean

EQUIVALENT = 0.01
"""Accuracies that differ by less are taken as equal: fixed before the first pair in two precisions was known."""


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
class PrecisionComparison:
    """Test accuracy of one network and policy in float32 and in bfloat16, paired by seed.

    Attributes:
        seeds: of the pairs: with the same initial weights and order of images.
        float32, bfloat16: accuracy after the last epoch over seeds.
        change: in bfloat16 less in float32, over pairs (Student).
    """

    network: str
    augment: str
    seeds: list[int]
    float32: Mean
    bfloat16: Mean
    change: Mean

    @property
    def is_equivalent(self) -> bool | None:
        """Whether the 95 % interval lies within EQUIVALENT of 0; None where it lies on both sides, or is unknown."""
        if self.change.interval is None:
            return None
        low, high = self.change.interval
        if low >= -EQUIVALENT and high <= EQUIVALENT:
            return True
        if low > EQUIVALENT or high < -EQUIVALENT:
            return False
        return None


def between_backends(groups: Sequence[Group]) -> list[BackendComparison]:
    """Compare TensorFlow with each other backend."""
    comparisons = []
    for first, second in _pairs(groups, "backend", "tensorflow"):
        for augment in first.policies:
            if augment in second.policies:
                comparisons.append(_compare_backends(first, second, augment))
    return comparisons


def between_precisions(groups: Sequence[Group]) -> list[PrecisionComparison]:
    """Compare float32 with bfloat16, where both have runs of the same seeds."""
    comparisons = []
    for first, second in _pairs(groups, "precision", "float32"):
        for augment in first.policies:
            in_float32, in_bfloat16 = first.of(augment), second.of(augment)
            seeds = sorted(in_float32.keys() & in_bfloat16.keys())
            if seeds:
                of_first = [accuracy(in_float32[seed]) for seed in seeds]
                of_second = [accuracy(in_bfloat16[seed]) for seed in seeds]
                changes = [after - before for before, after in zip(of_first, of_second, strict=True)]
                means = map(statistics.mean, (of_first, of_second, changes))
                comparisons.append(PrecisionComparison(first.name, augment, seeds, *means))
    return comparisons


def _pairs(groups: Sequence[Group], field: str, first_value: str) -> Iterator[tuple[Group, Group]]:
    """Yield each group whose recipes have a value of a field, with every group that differs from it in that alone."""
    for first in groups:
        if getattr(first.results[0].run.recipe, field) != first_value:
            continue
        for second in groups:
            if second is not first and _key(first, field) == _key(second, field):
                yield first, second


def _key(group: Group, field: str) -> object:
    return comparison_key(group.results[0], {field})


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
