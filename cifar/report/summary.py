"""The figures of a report, taken from run folders: accuracies, gains, claims. Drawing them is for others."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar import evaluation, files, statistics
from cifar.errors import UsageError
from cifar.evaluation import Scores
from cifar.records import Epoch, Proof
from cifar.run import Run

JUDGED_FROM = 20  # epochs below which the claims are not judged
LAST = 5  # epochs in a mean over the last ones


class Result:
    """A finished run as a report sees it.

    Attributes:
        run: its folder.
        probabilities, labels: its predictions of the test set.
        scores: made anew from them.
        history: its epochs.
        proofs: what `cifar verify` found, the latest of each rung.

    Raises:
        UsageError: a file is damaged, or the run's metrics were written beside another history or other predictions.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.metrics = run.metrics
        self.probabilities, self.labels = run.predictions()
        self.scores: Scores = evaluation.score(self.probabilities, self.labels)
        self.history: list[Epoch] = run.history
        self.proofs: list[Proof] = list({proof.rung: proof for proof in run.proofs}.values())  # the latest of each
        self._check_predictions()
        self._check_history()

    def _check_predictions(self) -> None:
        """Raise UsageError unless predictions.npz is the one that metrics.json scores."""
        for name, found in (("n_test", self.scores.n), ("accuracy", self.scores.accuracy)):
            if found != self.metrics[name]:
                raise UsageError(
                    f"{self.run.path}: predictions.npz gives {name} {found}, metrics.json says {self.metrics[name]}."
                )
        self._check_digest("predictions.npz", "probabilities_sha256", evaluation.sha256(self.probabilities))

    def _check_history(self) -> None:
        """Raise UsageError unless history.jsonl is the whole one of this run."""
        path = self.run.path / "history.jsonl"
        epochs = self.run.recipe.epochs
        in_order = all(line.epoch == number for number, line in enumerate(self.history, start=1))
        if len(self.history) != epochs or not in_order:
            raise UsageError(f"{path}: expected a line for each of {epochs} epochs, in their order.")
        if any(value is None for line in self.history for value in line.model_dump().values()):
            raise UsageError(f"{path}: it has epochs that diverged, and the run is finished.")
        self._check_digest("history.jsonl", "history_sha256", files.sha256(path))

    def _check_digest(self, name: str, field: str, found: str) -> None:
        """Raise UsageError if metrics.json holds another digest of a file."""
        if self.metrics[field] != found:
            raise UsageError(f"{self.run.path / name}: not the one that metrics.json was written beside.")

    @property
    def augment(self) -> str:
        """The policy's name."""
        return self.run.recipe.policy.name

    @property
    def seed(self) -> int:
        """The seed."""
        return self.run.recipe.seed

    def pictures(self, images: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
        """Its test images, (N, 32, 32, 3), from test images by data digest; None where its own are not there."""
        mine = images.get(self.metrics["data_sha256"])
        return mine if mine is not None and len(mine) == self.scores.n else None

    @cached_property
    def hits(self) -> Any:
        """Which test images it gets right, (N,) bool."""
        return self.probabilities.argmax(axis=1) == self.labels

    def late(self, field: str) -> float:
        """Mean of a history column over the last five epochs (over all, if there are fewer)."""
        return float(np.mean([getattr(line, field) for line in self.history[-LAST:]]))

    @property
    def loss_gap(self) -> float:
        """Test loss less training loss of the curve, means over the last five epochs."""
        return self.late("test_loss") - self.late("loss")

    def misclassified(self, pick: str) -> list[dict[str, Any]]:
        """The ten pictures that a rule of evaluation.PICKS chooses."""
        names = list(self.metrics["per_class"])
        return [
            {
                "index": int(i),
                "true": names[self.labels[i]],
                "predicted": names[self.probabilities[i].argmax()],
                "confidence": float(self.probabilities[i].max()),
            }
            for i in evaluation.misclassified(self.probabilities, self.labels, pick)
        ]

    def facts(self, pick: str) -> dict[str, Any]:
        """The result ready for JSON."""
        return {
            "path": str(self.run.path),
            **self.metrics,
            "batch_size": self.run.recipe.batch_size,
            "verified": [proof.model_dump() for proof in self.proofs],
            "confusion": self.scores.confusion.tolist(),
            "misclassified": self.misclassified(pick),
        }


@dataclass(frozen=True)
class Gain:
    """What a policy buys over none, on one network and otherwise equal recipes.

    Attributes:
        difference: accuracy with the policy less accuracy without, last epoch; the mean over seeds.
        late_difference: the same, of the means over the last five epochs.
        interval: 95 %: over test images for one seed (Agresti and Min), over seeds for several (Student).
        p_value: McNemar's exact test; None for several seeds.
        basis: in words, what the interval covers.
    """

    network: str
    augment: str
    epochs: int
    seeds: list[int]
    plain: float
    augmented: float
    difference: float
    late_difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    basis: str


@dataclass(frozen=True)
class Claim:
    """A claim of the published text, judged by one network's figures.

    The verdict is one of: yes, no, cannot tell, too short to judge.
    """

    network: str
    claim: str
    verdict: str
    figures: str


@dataclass(frozen=True)
class Group:
    """Results of one network whose recipes differ in policy and seed alone."""

    network: str
    name: str
    results: list[Result]

    def of(self, augment: str) -> dict[int, Result]:
        """The results under a policy, by seed."""
        return {result.seed: result for result in self.results if result.augment == augment}

    @property
    def policies(self) -> list[str]:
        """The policies, none first."""
        return sorted({result.augment for result in self.results}, key=lambda name: (name != "none", name))

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
        return [_gain(self.network, augment, pairs) for augment, pairs in self.pairs]

    def claims(self) -> list[Claim]:
        """The four claims of the published text."""
        return [claim for augment, pairs in self.pairs for claim in _claims(self.network, augment, pairs)]


@dataclass(frozen=True)
class Summary:
    """Everything a report says."""

    groups: list[Group]
    unfinished: list[Run]

    @property
    def results(self) -> list[Result]:
        """All results, group by group."""
        return [result for group in self.groups for result in group.results]

    def around(self, runs: Sequence[Run]) -> "Summary":
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
            "gains": [asdict(gain) for group in self.groups for gain in group.gains()],
            "claims": [asdict(claim) for group in self.groups for claim in group.claims()],
        }


def summarise(runs: Sequence[Run]) -> Summary:
    """Take the figures of runs; the unfinished are listed apart."""
    groups: dict[Hashable, list[Result]] = {}
    for run in runs:
        if run.finished:
            result = Result(run)
            settings = run.recipe.model_dump_json(exclude={"policy", "seed"})
            alike = settings, run.identity.data_sha256, result.labels.tobytes()  # gains are over the same images
            groups.setdefault(alike, []).append(result)
    networks = [results[0].run.recipe.network for results in groups.values()]
    made = []
    for network, results in zip(networks, groups.values(), strict=True):
        stem = network.replace(":", ".")
        recipe = results[0].run.recipe
        alone = networks.count(network) == 1
        name = stem if alone else f"{stem}-{recipe.dataset}-{results[0].metrics['n_train']}x{recipe.epochs}"
        results.sort(key=lambda result: (result.augment != "none", result.augment, result.seed))
        made.append(Group(network, name, results))
    return Summary(made, [run for run in runs if not run.finished])


def _gain(network: str, augment: str, pairs: list[tuple[Result, Result]]) -> Gain:
    interval: tuple[float, float] | None
    if len(pairs) == 1:
        paired = statistics.paired_difference(pairs[0][0].hits, pairs[0][1].hits)
        interval, p_value, basis = paired.interval, paired.p_value, "test images, one seed"
    else:
        over = statistics.mean([b.scores.accuracy - a.scores.accuracy for a, b in pairs])
        interval, p_value, basis = over.interval, None, f"{len(pairs)} seeds"
    plain, augmented = (float(np.mean([pair[side].scores.accuracy for pair in pairs])) for side in (0, 1))
    return Gain(
        network=network,
        augment=augment,
        epochs=pairs[0][0].run.recipe.epochs,
        seeds=[a.seed for a, _ in pairs],
        plain=plain,
        augmented=augmented,
        difference=augmented - plain,
        late_difference=float(np.mean([b.late("test_accuracy") - a.late("test_accuracy") for a, b in pairs])),
        interval=interval,
        p_value=p_value,
        basis=basis,
    )


def _claims(network: str, augment: str, pairs: list[tuple[Result, Result]]) -> list[Claim]:
    gap, narrowed = (float(np.mean([pair[side].loss_gap for pair in pairs])) for side in (0, 1))
    gain = _gain(network, augment, pairs)
    assert gain.interval is not None
    low, high = gain.interval
    augmented = [b for _, b in pairs]
    test, curve = (float(np.mean([r.late(field) for r in augmented])) for field in ("test_accuracy", "accuracy"))
    final = float(np.mean([r.scores.accuracy for r in augmented]))
    clean = float(np.mean([r.metrics["train_accuracy_clean"] for r in augmented]))
    too_short = pairs[0][0].run.recipe.epochs < JUDGED_FROM

    def claim(text: str, verdict: str, figures: str) -> Claim:
        return Claim(network, text, "too short to judge" if too_short else verdict, figures)

    return [
        claim(
            "the plain run overfits",
            _yes(gap > 0),
            f"test loss less training loss {gap:+.3f}, mean of the last {LAST} epochs",
        ),
        claim(f"{augment} narrows that gap", _yes(narrowed < gap), f"{gap:+.3f} to {narrowed:+.3f}"),
        claim(
            f"{augment} raises test accuracy",
            "yes" if low > 0 else "no" if high < 0 else "cannot tell",
            f"{gain.difference * 100:+.1f} points, 95 % {low * 100:+.1f} to {high * 100:+.1f} ({gain.basis})",
        ),
        claim(
            f"with {augment}, test accuracy exceeds the training curve's",
            _yes(test > curve),
            f"{test:.1%} against {curve:.1%}, mean of the last {LAST} epochs",
        ),
        claim(
            f"with {augment}, it exceeds that on clean training images",
            _yes(final > clean),
            f"{final:.1%} against {clean:.1%}, last epoch",
        ),
    ]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
