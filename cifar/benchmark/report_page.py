"""How long the page of a report takes to open in a browser."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from cifar.analysis.summary import summarise
from cifar.benchmark.session import NotAvailableError, Row
from cifar.data.dataset import load_cifar10
from cifar.errors import NotFoundError
from cifar.inference.runtimes.requirements import CHROMIUM
from cifar.report.html import page
from cifar.runs.run import Run

OPENINGS = 5
DRAWN = "() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))"
"""Waits until what the page's script has built is on the screen."""


def opening(runs: list[Run]) -> tuple[list[float], Row]:
    """Write the page of runs and open it in a new window several times; return the seconds of each, and the row.

    Raises:
        NotAvailableError: there is no Chromium, or no playwright to drive it.
    """
    chromium = CHROMIUM.path
    if chromium is None:
        raise NotAvailableError("there is no Chromium on this machine")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NotAvailableError("playwright is not installed (extra browser)") from error
    summary = summarise(runs)
    with tempfile.TemporaryDirectory(prefix="cifar-bench-page-") as scratch, sync_playwright() as playwright:
        path = Path(scratch) / "report.html"
        started = time.perf_counter()
        page.write(summary, _images(), path)
        seconds_to_write = time.perf_counter() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        seconds = [_open(browser, path) for _ in range(OPENINGS)]
        row: Row = {
            "kind": "report-page",
            "model": "report",
            "runs": len(summary.results),
            "file_bytes": path.stat().st_size,
            "seconds_to_write": seconds_to_write,
            "seconds_to_open": statistics.median(seconds),
            "browser": browser.version,
        }
        browser.close()
    return seconds, row


def _images() -> dict[str, Any]:
    """The test images, by their data's digest; none where there is no copy."""
    try:
        data = load_cifar10(None, lambda _: None, download=False)
    except NotFoundError:
        return {}
    return {data.sha256: data.x_test}


def _open(browser: Any, path: Path) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    window = context.new_page()
    started = time.perf_counter()
    window.goto(path.as_uri())
    window.evaluate(DRAWN)
    seconds = time.perf_counter() - started
    context.close()
    return seconds
