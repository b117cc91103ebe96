"""Proof: what a run claims, made again and compared to the bit. A ladder whose rungs are the rows of RUNGS."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from cifar import environment
from cifar.dataset import Dataset
from cifar.files import lock
from cifar.proof import exports, images, interrupted, repeated
from cifar.proof.finding import Asked, Finding
from cifar.records import Proof
from cifar.run import Run


@dataclass(frozen=True)
class Rung:
    """A kind of proof: what it shows, in words, and the function that finds out."""

    shows: str
    check: Callable[[Run, Dataset, Asked], Finding]


RUNGS: dict[str, Rung] = {
    "repeated": Rung("trained again, the same weights, history and predictions", repeated.check),
    "interrupted": Rung("killed and resumed, the same weights", interrupted.check),
    "images": Rung("the same augmented images whatever the order of work", images.check),
    "exports": Rung("exported twice, the same answers and bytes", exports.check),
}


def climb(run: Run, data: Dataset, name: str, asked: Asked) -> Proof:
    """Try a rung of RUNGS and add what was found to the run's verify.jsonl.

    Raises:
        UsageError: the run cannot stand this proof here; the sentence says why.
        cifar.errors.StorageError: verify.jsonl cannot be written.
    """
    finding = RUNGS[name].check(run, data, asked)
    proof = Proof(
        rung=name,
        result=finding.result,
        words=finding.words,
        figures=finding.figures,
        epochs=finding.epochs,
        verified=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=environment.commit(),
    )
    with lock(run.path, patience=5):
        run.write_lines("verify.jsonl", [*run.proofs, proof])
    return proof
