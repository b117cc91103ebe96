"""How long the page of all committed runs takes to open."""

from pathlib import Path

from bench.conftest import MARKS
from cifar.benchmark.report_page import opening
from cifar.runs.run import runs_in

pytestmark = MARKS


def test_report_page(record):
    runs = runs_in(Path(__file__).parent / "baselines")
    record(lambda: opening(runs))
