"""Verification: what a run claims, made again and compared to the bit. A ladder whose checks are the rows of CHECKS."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from cifar.data.dataset import Dataset
from cifar.runs.run import Run
from cifar.runs.schemas import Verification
from cifar.system import environment
from cifar.system.files import lock
from cifar.verify import exports, images, interrupted, repeated
from cifar.verify.result import CheckOptions, CheckResult


@dataclass(frozen=True)
class Check:
    """A kind of proof: what it shows, in words, and the function that finds out."""

    shows: str
    check: Callable[[Run, Dataset, CheckOptions], CheckResult]


CHECKS: dict[str, Check] = {
    "repeated": Check("trained again, the same weights, history and predictions", repeated.check),
    "interrupted": Check("killed and resumed, the same weights", interrupted.check),
    "images": Check("the same augmented images whatever the order of work", images.check),
    "exports": Check("exported twice, the same answers and bytes", exports.check),
}


def run_check(run: Run, data: Dataset, name: str, options: CheckOptions) -> Verification:
    """Try a check of CHECKS and add what was found to the run's verify.jsonl.

    Raises:
        UsageError: the run cannot stand this proof here; the sentence says why.
        cifar.errors.StorageError: verify.jsonl cannot be written.
    """
    finding = CHECKS[name].check(run, data, options)
    proof = Verification(
        check=name,
        result=finding.result,
        message=finding.message,
        figures=finding.figures,
        epochs=finding.epochs,
        verified=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=environment.commit(),
    )
    with lock(run.path, patience=5):
        run.write_lines("verify.jsonl", [*run.verifications, proof])
    return proof
