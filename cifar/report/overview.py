"""The one screen of a report: a table of all runs over seeds, and a line per claim with its verdicts."""

from collections.abc import Sequence

from cifar.analysis.claims import ONE_SEED, PUBLISHED_TEXT, STATEMENTS, Claim
from cifar.analysis.gains import MIN_EPOCHS, Gain, is_too_short
from cifar.analysis.groups import Average, Group
from cifar.analysis.summary import Summary
from cifar.report import numbers
from cifar.report.captions import data_captions, environment_captions
from cifar.report.table import Table

COLUMNS = ("network", "augment<", "runs>", "test %>", "gain>", "gap>", "MB>")
NOTE = (
    "test %: ± half the 95 % interval, over seeds (one run: over test images). gain: points over none. gap: points "
    "that clean training images score above test. MB: the larger of the ONNX and TFLite files."
)
CLAIMS_NOTE = (
    "overfits: the plain run, by its losses; the policy narrows that gap and raises test accuracy, which is then "
    "above the training curve's and above that on clean training images. ?: cannot tell."
)
VERDICTS = {"cannot tell": "?"}  # as the table shows them
SIZE_FORMATS = ("onnx", "tflite")


def results(summary: Summary) -> Table:
    """Return a table of all finished runs, a row per network and policy."""
    rows = []
    for group in summary.groups:
        gains = {gain.augment: gain for gain in group.gains()}
        for average in group.averages():
            rows.append(_row(group, average, gains.get(average.augment)))
    return Table(
        " ".join(["Results.", *data_captions(summary.groups)]),
        COLUMNS,
        rows,
        [NOTE, *environment_captions(summary.results)],
    )


def _row(group: Group, average: Average, gain: Gain | None) -> tuple[str, ...]:
    sizes = []
    for result in group.of(average.augment).values():
        for entry in result.exports:
            if entry.format in SIZE_FORMATS:
                sizes.append(entry.bytes)
    size = numbers.NONE
    if sizes:
        size = f"{max(sizes) / 1e6:.2f}"
    return (
        group.label,
        average.augment,
        str(len(average.seeds)),
        numbers.plus_minus(f"{average.test.mean * 100:.1f}", average.interval),
        _gain(gain),
        f"{(average.train - average.test.mean) * 100:.1f}",
        size,
    )


def _gain(gain: Gain | None) -> str:
    if gain is None or is_too_short(gain.epochs):
        return numbers.NONE
    return numbers.plus_minus(numbers.points(gain.difference), gain.interval)


def claims(groups: Sequence[Group]) -> Table:
    """Return a table of the published claims: a row per network and policy that can be judged, a column per claim."""
    rows = []
    primary = []
    for group in groups:
        for augment, judged in _judged_claims(group).items():
            verdicts = [VERDICTS.get(claim.verdict, claim.verdict) for claim in judged]
            rows.append((group.label, augment, *verdicts))
            if judged[0].primary:
                primary.append(group.label)
    columns = ("network", "augment<", *[statement.heading for statement in STATEMENTS])
    return Table("Claims of the published text", columns, rows, _claim_notes(primary, len(rows)))


def _claim_notes(primary: Sequence[str], count: int) -> list[str]:
    """Return what the table of claims means, and which of its rows are exploratory."""
    notes = [f"{CLAIMS_NOTE} The published text: {PUBLISHED_TEXT}."]
    if not primary:
        notes.append("Exploratory, not corrected for the number of claims.")
    elif len(primary) < count:
        notes.append(f"Corrected for the number of claims (Holm): {', '.join(primary)}. All others: exploratory.")
    return notes


def _judged_claims(group: Group) -> dict[str, list[Claim]]:
    """Return by policy the claims that have a verdict: those over several seeds, trained long enough."""
    judged: dict[str, list[Claim]] = {}
    if not is_too_short(group.epochs):
        for claim in group.claims():
            if claim.verdict != ONE_SEED:
                judged.setdefault(claim.augment, []).append(claim)
    return judged


def sentences_without_verdicts(groups: Sequence[Group]) -> list[str]:
    """Return why networks have no verdicts on claims: too few epochs, or a single seed."""
    return [*_too_short_sentences(groups), *_one_seed_sentences(groups)]


def _too_short_sentences(groups: Sequence[Group]) -> list[str]:
    """Return a sentence on the networks that trained too short to show a gain, for each number of epochs."""
    names: dict[int, list[str]] = {}
    for group in groups:
        if group.pairs and is_too_short(group.epochs):
            names.setdefault(group.epochs, []).append(group.name)
    sentences = []
    for epochs, networks in names.items():
        unit = "epoch" if epochs == 1 else "epochs"
        sentences.append(
            f"{epochs} {unit} cannot show an augmentation gain (at least {MIN_EPOCHS} are needed): "
            f"no gains and no verdicts on claims for {', '.join(networks)}."
        )
    return sentences


def _one_seed_sentences(groups: Sequence[Group]) -> list[str]:
    """Return a sentence on the networks that trained long enough, but with one seed; none if there are none."""
    names = []
    for group in groups:
        if group.pairs and not is_too_short(group.epochs) and not _judged_claims(group):
            names.append(group.name)
    if not names:
        return []
    return [f"One seed cannot tell: no verdicts on claims for {', '.join(names)}."]
