"""The detailed tables of a report, and the paragraphs that explain them."""

from collections.abc import Sequence
from dataclasses import replace

from cifar.analysis.claims import PUBLISHED_TEXT
from cifar.analysis.comparisons import (
    EQUIVALENT,
    BackendComparison,
    PrecisionComparison,
    between_backends,
    between_precisions,
)
from cifar.analysis.finished_run import LAST_EPOCHS, FinishedRun
from cifar.analysis.gains import Gain
from cifar.analysis.groups import Average
from cifar.analysis.summary import Summary
from cifar.metrics.misclassified import PICKS
from cifar.metrics.statistics import Mean
from cifar.report import numbers, overview, runtime_tables
from cifar.report.table import Table
from cifar.runs.schemas import Verification

ACCURACY = (
    "Accuracy: test is after the last epoch, with Wilson's interval; last 5 its mean over the last five epochs; "
    "train on the clean training images; ECE the expected calibration error."
)
SEEDS = (
    "Accuracy over seeds: means ± half of Student's 95 % interval. test is after the last epoch, last 5 the mean "
    "over the last five epochs, train on the clean training images, gap its distance to test in points."
)
GAIN = (
    "Augmentation gain: points of test accuracy over plain, after the last epoch; last 5 of the means over the last "
    "five epochs. With several seeds the intervals are over seeds; with one, interval and McNemar's p speak of these "
    "two runs on these images, not of other seeds."
)
CLAIMS = (
    "Claims: Student's test over seeds decides at 5 %; intervals are not corrected. The claims on first tuned "
    "bfloat16 with shift-flip are the primary family: their p is corrected for their number (Holm), and the "
    "corrected one decides. All others are exploratory. One seed decides nothing. Training figures are the curve's, "
    "running means over an epoch with dropout, unless they are said to be on clean images. The published text: "
    f"{PUBLISHED_TEXT}."
)
EXPORTS = (
    "Exported formats: change is points of test accuracy against the Keras model, each file in its own runtime; "
    "mean, smallest and largest over runs. agree is the smallest share of images with the Keras model's class."
)
TRAINING_COSTS = (
    "Training cost: PFLOP are floating-point operations of the convolutions and dense layers, in 10^15: six per "
    "multiply-add, training image and epoch. test is a mean over seeds, after the last epoch, ± half of its interval."
)
PRECISIONS = (
    "Training in bfloat16: test accuracy after the last epoch, in percent, of runs of the same seeds, which have the "
    "same initial weights and order of images. change: points over float32, with Student's interval over the pairs. "
    f"equivalent: yes where that interval lies within {100 * EQUIVALENT:g} point of 0."
)
BACKENDS = (
    "Another backend: test accuracy after the last epoch, in percent, over seeds. Another backend draws other "
    "initial weights and dropout masks: runs are compared as distributions over seeds (Welch's interval)."
)


def details(summary: Summary) -> list[Table]:
    """Return the tables of numbers that have any rows, in order."""
    tables = [
        accuracies(summary),
        averages(summary),
        gains(summary),
        claims(summary),
        training_costs(summary),
        exports(summary),
        runtime_tables.kept(summary),
        verifications(_named_verifications(summary)),
        precisions(between_precisions(summary.groups)),
        backends(between_backends(summary.groups)),
    ]
    return [table for table in tables if table.rows]


def markdown_tables(summary: Summary, pick: str) -> list[Table]:
    """Return all tables of a report, with the notes of all below the last one."""
    tables = [overview.results(summary), *details(summary)]
    for result in summary.first_seed_results():
        tables.append(misclassified(result, pick))
    notes = [*overview.sentences_without_verdicts(summary.groups), *legend(tables)]
    bare = without_notes(tables)
    return [*bare[:-1], replace(bare[-1], notes=notes)]


def without_notes(tables: Sequence[Table]) -> list[Table]:
    """Return tables without their notes."""
    return [replace(table, notes=()) for table in tables]


def legend(tables: Sequence[Table]) -> list[str]:
    """Return the notes of tables, each once."""
    notes: dict[str, None] = {}
    for table in tables:
        notes.update(dict.fromkeys(table.notes))
    return list(notes)


def accuracies(summary: Summary) -> Table:
    """Return the accuracy of every run."""
    rows = []
    for group in summary.groups:
        for result in group.results:
            rows.append((group.name, *_accuracy_cells(result)))
    columns = ("network", "augment", "seed>", "test>", "95 %>", "last 5>", "train>", "loss>", "ECE>")
    return Table("Accuracy", columns, rows, [ACCURACY])


def _accuracy_cells(result: FinishedRun) -> tuple[str, ...]:
    last_epochs = numbers.NONE
    if len(result.history) >= LAST_EPOCHS:
        last_epochs = numbers.percent(result.mean_last_epochs("test_accuracy"))
    return (
        result.augment,
        str(result.seed),
        numbers.percent(result.scores.accuracy),
        numbers.span(result.scores.interval),
        last_epochs,
        numbers.percent(result.metrics.train_accuracy_clean),
        f"{result.scores.loss:.3f}",
        f"{result.scores.ece:.3f}",
    )


def averages(summary: Summary) -> Table:
    """Return the accuracy over seeds, of networks that have several."""
    rows = []
    for group in summary.groups:
        group_averages = group.averages()
        if any(len(average.seeds) > 1 for average in group_averages):
            for average in group_averages:
                rows.append((group.name, *average_cells(average)))
    columns = ("network", "augment", "seeds>", "test, %>", "last 5, %>", "train>", "gap>")
    return Table("Accuracy over seeds", columns, rows, [SEEDS])


def average_cells(average: Average) -> tuple[str, ...]:
    """Return the cells of an average, without the network."""
    return (
        average.augment,
        str(len(average.seeds)),
        _mean_percent(average.test),
        _mean_percent(average.mean_last_epochs),
        numbers.percent(average.train),
        f"{(average.train - average.test.mean) * 100:.1f}",
    )


def gains(summary: Summary) -> Table:
    """Return the augmentation gains."""
    rows = []
    for group in summary.groups:
        for gain in group.gains():
            rows.append((group.name, *_gain_cells(gain)))
    columns = ("network", "augment", "seeds>", "gain>", "95 %>", "p>", "last 5>", "95 %>")
    return Table("Augmentation gain", columns, rows, [GAIN])


def _gain_cells(gain: Gain) -> tuple[str, ...]:
    return (
        gain.augment,
        str(len(gain.seeds)),
        f"{gain.difference * 100:+.1f}",
        numbers.points_span(gain.interval),
        numbers.p_value(gain.p_value),
        f"{gain.mean_last_epochs_difference * 100:+.1f}",
        numbers.points_span(gain.mean_last_epochs_interval),
    )


def claims(summary: Summary) -> Table:
    """Return the claims of the published text with their figures."""
    rows = []
    for group in summary.groups:
        for claim in group.claims():
            row = (
                group.name,
                f"{claim.claim}: {claim.figures}",
                numbers.p_value(claim.p_value, 2),
                numbers.p_value(claim.adjusted_p_value, 2),
                claim.verdict,
            )
            rows.append(row)
    columns = ("network", "claim and figures", "p>", "Holm>", "verdict<")
    return Table("Claims of the published text", columns, rows, [CLAIMS])


def exports(summary: Summary) -> Table:
    """Return what the export formats cost."""
    rows = []
    for group in summary.groups:
        for exported in group.exported():
            row = (
                group.name,
                exported.format,
                str(exported.change.n),
                f"{exported.bytes / 1000:,.0f}",
                numbers.points(exported.change.mean, 2),
                f"{numbers.points(exported.worst, 2)} to {numbers.points(exported.best, 2)}",
                f"{exported.agreement:.2%}",
            )
            rows.append(row)
    columns = ("network", "format", "runs>", "kB>", "change>", "from, to>", "agree>")
    return Table("Exported formats", columns, rows, [EXPORTS])


def training_costs(summary: Summary) -> Table:
    """Return what training took, a row per recipe and policy, where an export counted the multiply-adds."""
    rows = []
    for group in summary.groups:
        if group.training_flop is None:
            continue
        pflop = f"{group.training_flop / 1e15:.2g}"
        for average in group.averages():
            test = numbers.plus_minus(f"{average.test.mean * 100:.1f}", average.interval)
            rows.append((group.name, average.augment, str(group.epochs), pflop, test))
    columns = ("network", "augment", "epochs>", "PFLOP>", "test %>")
    return Table("Training cost", columns, rows, [TRAINING_COSTS])


def verifications(named: Sequence[tuple[str, Verification]]) -> Table:
    """Return the results of `cifar verify`, each with its run's name."""
    rows = []
    for name, verification in named:
        result = f"{verification.result}: {verification.message}."
        when = f"{verification.verified[:10]}, {_short_commit(verification.commit)}"
        rows.append((name, verification.check, f"{result} {when}"))
    return Table("Verification", ("run", "check<", "result"), rows)


def _named_verifications(summary: Summary) -> list[tuple[str, Verification]]:
    named = []
    for result in summary.results:
        for verification in result.verifications:
            named.append((result.run.path.name, verification))
    return named


def precisions(comparisons: Sequence[PrecisionComparison]) -> Table:
    """Return the same recipes and seeds in float32 and bfloat16."""
    verdicts = {True: "yes", False: "no", None: "cannot tell"}
    rows = []
    for comparison in comparisons:
        row = (
            comparison.network,
            comparison.augment,
            str(len(comparison.seeds)),
            f"{comparison.float32.mean * 100:.2f}",
            f"{comparison.bfloat16.mean * 100:.2f}",
            numbers.points(comparison.change.mean, 2),
            numbers.points_span(comparison.change.interval),
            verdicts[comparison.is_equivalent],
        )
        rows.append(row)
    columns = ("network", "augment", "seeds>", "float32>", "bfloat16>", "change>", "95 %>", "equivalent<")
    return Table("Training in bfloat16", columns, rows, [PRECISIONS])


def backends(comparisons: Sequence[BackendComparison]) -> Table:
    """Return the same recipes on two backends."""
    rows = []
    for comparison in comparisons:
        row = (
            comparison.network,
            comparison.augment,
            comparison.backend,
            f"{comparison.first.n}, {comparison.second.n}",
            _mean_percent(comparison.first),
            _mean_percent(comparison.second),
            f"{(comparison.second.mean - comparison.first.mean) * 100:+.1f}",
            numbers.points_span(comparison.interval),
        )
        rows.append(row)
    columns = ("network", "augment", "backend", "seeds>", "TensorFlow>", "other>", "change>", "95 %>")
    return Table("Another backend", columns, rows, [BACKENDS])


def misclassified(result: FinishedRun, pick: str) -> Table:
    """Return ten misclassified images of a run, without the pictures."""
    rows = []
    for row in result.misclassified(pick):
        rows.append((str(row["index"]), row["true"], row["predicted"], numbers.percent(row["confidence"])))
    title = f"Misclassified by {result.network} {result.augment} seed {result.seed}, {PICKS[pick][0]}"
    return Table(title, ("image>", "true", "predicted", "confidence>"), rows)


def _mean_percent(mean: Mean) -> str:
    """Return a mean in percent and half the width of its interval, if it has one."""
    return numbers.plus_minus(f"{mean.mean * 100:.1f}", mean.interval)


def _short_commit(commit: str | None) -> str:
    """Return the first seven digits of a commit, with its `-dirty`."""
    if commit is None:
        return "no commit"
    if commit.endswith("-dirty"):
        return f"{commit[:7]}-dirty"
    return commit[:7]
