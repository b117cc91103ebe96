"""How long the page of all committed runs takes to open."""

from pathlib import Path

from bench.conftest import MARKS
from cifar.benchmark.report_page import opening
from cifar.runs.run import runs_in

pytestmark = MARKS
FOLDERS = ("baselines", "recipes")


def test_report_page(record):
    here = Path(__file__).parent
    runs = [run for folder in FOLDERS for run in runs_in(here / folder)]
    record(lambda: opening(runs))
