"""The tables of a report."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cifar.analysis.finished_run import Result
from cifar.analysis.gains import Claim, Gain
from cifar.analysis.summary import Average, BackendComparison, Exported, Group, Summary
from cifar.metrics.classification import PICKS
from cifar.metrics.statistics import Interval, Mean
from cifar.report.table import Table
from cifar.runs.schemas import Metrics, Verification


def caption_of(metrics: Metrics) -> str:
    """Return a sentence on the test data of a run's scores."""
    return data_caption(metrics.dataset, metrics.official, metrics.data_sha256, metrics.n_test)


def data_caption(name: str, official: bool | None, sha256: str, n_test: int) -> str:
    """Return a sentence on test data: what it is, whether it is the published one, how many images."""
    if name == "synthetic":
        return f"SYNTHETIC DATA, not CIFAR-10: {n_test:,} drawn test images."
    origin = "CIFAR-10"
    if not official:
        origin = "a copy of CIFAR-10 that is not bit for bit the published one"
    return f"Data: {origin} (sha256 {sha256[:12]}), {n_test:,} test images."


def sections(summary: Summary, pick: str) -> Iterator[Table]:
    """All of a report's tables, in order."""
    for group in summary.groups:
        yield from figures_of(group)
        for result in group.first_seed_results():
            yield misclassified(result, pick)
    if between := summary.between_backends():
        yield backends(between)


def figures_of(group: Group) -> Iterator[Table]:
    """The tables of a network's figures: those that have anything to say, each headed by the network."""
    for section in _figures_of(group):
        yield replace(section, title=f"{group.name}: {section.title}")


def _figures_of(group: Group) -> Iterator[Table]:
    caption = caption_of(group.results[0].metrics)
    yield results(group.results)
    if any(len(average.seeds) > 1 for average in group.averages()):
        yield averages(group.averages(), caption)
    if found := group.gains():
        yield gains(found, caption)
        yield claims(group.claims())
    if exported := group.exported():
        yield exports(exported, caption)
    proven = [
        (result.run.path.name, verification) for result in group.results for verification in result.verifications
    ]
    if proven:
        yield verifications(proven)


def results(found: Sequence[Result]) -> Table:
    """Accuracy of every run."""
    rows = [
        (
            result.network,
            result.augment,
            str(result.seed),
            f"{result.scores.accuracy:.1%}",
            _span(result.scores.interval),
            f"{result.mean_last_epochs('test_accuracy'):.1%}" if len(result.history) >= 5 else "-",
            f"{result.metrics.train_accuracy_clean:.1%}",
            f"{result.scores.loss:.3f}",
            f"{result.scores.ece:.3f}",
        )
        for result in found
    ]
    columns = ("network", "augment", "seed>", "test>", "95 %>", "last 5>", "train>", "loss>", "ECE>")
    caption = (
        "test: accuracy after the last epoch, with Wilson's interval. last 5: its mean over the last five epochs. "
        "train: on the clean training images. " + caption_of(found[0].metrics)
    )
    return Table("Accuracy", columns, rows, [caption])


def averages(found: Sequence[Average], caption: str) -> Table:
    """Accuracy over seeds."""
    rows = [
        (
            average.network,
            average.augment,
            str(len(average.seeds)),
            _with_reach(average.test),
            _with_reach(average.late),
            f"{average.train:.1%}",
            f"{(average.train - average.test.mean) * 100:.1f}",
        )
        for average in found
    ]
    columns = ("network", "augment", "seeds>", "test, %>", "last 5, %>", "train>", "gap>")
    explained = (
        "Means over seeds ± half of Student's 95 % interval. test: after the last epoch. last 5: mean over the last "
        "five epochs. train: on the clean training images; gap: its distance to test, in points. "
    )
    return Table("Accuracy over seeds", columns, rows, [explained + caption])


def gains(found: Sequence[Gain], caption: str) -> Table:
    """Augmentation gain."""
    rows = [
        (
            gain.network,
            gain.augment,
            str(len(gain.seeds)),
            f"{gain.difference * 100:+.1f}",
            _signed(gain.interval),
            "-" if gain.p_value is None else f"{gain.p_value:.1g}",
            f"{gain.mean_last_epochs_difference * 100:+.1f}",
            _signed(gain.mean_last_epochs_interval),
        )
        for gain in found
    ]
    columns = ("network", "augment", "seeds>", "gain>", "95 %>", "p>", "last 5>", "95 %>")
    explained = (
        "gain: points of test accuracy over plain, after the last epoch. last 5: of the means over the last five "
        "epochs. With several seeds the intervals are over seeds; with one, interval and McNemar's p speak of these "
        "two runs on these images, not of other seeds. "
    )
    return Table("Augmentation gain", columns, rows, [explained + caption])


def backends(found: Sequence[BackendComparison]) -> Table:
    """The same recipes on two backends."""
    rows = [
        (
            versus.network,
            versus.augment,
            versus.backend,
            f"{versus.first.n}, {versus.second.n}",
            _with_reach(versus.first),
            _with_reach(versus.second),
            f"{(versus.second.mean - versus.first.mean) * 100:+.1f}",
            _signed(versus.interval),
        )
        for versus in found
    ]
    columns = ("network", "augment", "backend", "seeds>", "TensorFlow>", "it>", "change>", "95 %>")
    explained = (
        "Test accuracy after the last epoch, in percent, over seeds. Another backend draws other initial weights and "
        "dropout masks: runs are compared as distributions over seeds (Welch's interval)."
    )
    return Table("Another backend", columns, rows, [explained])


def claims(found: Sequence[Claim]) -> Table:
    """The claims of the published text."""
    rows = [(claim.network, f"{claim.claim}: {claim.figures}", claim.verdict) for claim in found]
    explained = (
        "Of several seeds the 95 % interval decides: cannot tell, if it holds zero. One seed tells of its own runs "
        "alone. Training figures are the curve's, running means over an epoch with dropout, unless they are said "
        "to be on clean images."
    )
    return Table("Claims of the published text", ("network", "claim and figures", "verdict<"), rows, [explained])


def exports(found: Sequence[Exported], caption: str) -> Table:
    """What formats cost."""
    rows = [
        (
            exported.network,
            exported.format,
            str(exported.change.n),
            f"{exported.bytes / 1000:,.0f}",
            _points(exported.change.mean),
            f"{_points(exported.worst)} to {_points(exported.best)}",
            f"{exported.agreement:.2%}",
        )
        for exported in found
    ]
    columns = ("network", "format", "runs>", "kB>", "change>", "from, to>", "agree>")
    explained = (
        "change: points of test accuracy against the Keras model, each file in its own runtime; mean, smallest and "
        "largest over runs. agree: the least share of images with the Keras model's class. "
    )
    return Table("Exported formats", columns, rows, [explained + caption])


def verifications(found: Sequence[tuple[str, Verification]]) -> Table:
    """What `cifar verify` found, by the run's name."""
    rows = [
        (
            name,
            verification.check,
            f"{verification.result}: {verification.message}. {verification.verified[:10]}, {_commit(verification.commit)}",
        )
        for name, verification in found
    ]
    return Table("Verification", ("run", "check<", "result"), rows)


def misclassified(result: Result, pick: str) -> Table:
    """The ten misclassified pictures in words."""
    rows = [
        (str(row["index"]), row["true"], row["predicted"], f"{row['confidence']:.1%}")
        for row in result.misclassified(pick)
    ]
    title = f"Misclassified by {result.network} {result.augment} seed {result.seed}, {PICKS[pick][0]}"
    return Table(title, ("image>", "true", "predicted", "confidence>"), rows)


def _points(difference: float) -> str:
    """A difference in points; nothing is lost where none is: no -0.00."""
    return f"{round(difference * 100, 2) + 0.0:+.2f}"


def _span(interval: Interval) -> str:
    return f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f}"


def _signed(interval: Interval | None) -> str:
    return f"{interval[0] * 100:+.1f} to {interval[1] * 100:+.1f}" if interval else "-"


def _with_reach(mean: Mean) -> str:
    """A mean in percent and half the width of its interval, if it has one."""
    centre = f"{mean.mean * 100:.1f}"
    return centre if mean.interval is None else f"{centre} ± {(mean.interval[1] - mean.mean) * 100:.1f}"


def _commit(commit: str | None) -> str:
    """A commit in short, with its `-dirty`."""
    return "no commit" if commit is None else commit[:7] + "-dirty" * commit.endswith("-dirty")
