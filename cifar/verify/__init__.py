"""`cifar verify`: the results of a run, produced again and compared to the bit. Every check is a row of CHECKS."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass

from cifar.data.dataset import Dataset
from cifar.runs.run import Run
from cifar.runs.schemas import Verification
from cifar.system import environment
from cifar.system.files import lock
from cifar.verify import augmented_images, interrupted, repeated, repeated_exports
from cifar.verify.check_result import CheckOptions, CheckResult


@dataclass(frozen=True)
class Check:
    """One check of `cifar verify`.

    Attributes:
        description: what is done and what is compared.
        function: does it.
    """

    description: str
    function: Callable[[Run, Dataset, CheckOptions], CheckResult]


CHECKS: dict[str, Check] = {
    "repeated": Check("trained again: the same weights, history and predictions", repeated.check),
    "interrupted": Check("killed and resumed: the same weights", interrupted.check),
    "images": Check("the same augmented images in any order, batch size and thread", augmented_images.check),
    "exports": Check("exported twice: the same predictions and bytes", repeated_exports.check),
}


def run_check(run: Run, data: Dataset, name: str, options: CheckOptions) -> Verification:
    """Run a check of CHECKS and append its result to the run's verify.jsonl.

    Raises:
        UsageError: the check cannot be run on this run or on this machine; the message says why.
        cifar.errors.StorageError: verify.jsonl cannot be written.
    """
    result = CHECKS[name].function(run, data, options)
    verification = Verification(
        check=name,
        result=result.result,
        message=result.message,
        figures=result.figures,
        epochs=result.epochs,
        verified=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=environment.commit(),
    )
    with lock(run.path, timeout=5):
        run.write_lines("verify.jsonl", [*run.verifications, verification])
    return verification
