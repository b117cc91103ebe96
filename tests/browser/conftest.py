"""A headless Chromium; the tests are skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar.inference.runtimes import requirements

CHROMIUM = requirements.CHROMIUM.path
ARGUMENTS = (
    "--disable-background-networking",  # nothing but the pages of the tests
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # which root cannot have
)
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`));
"""
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra browser)")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Watched:
    """A page, and what it did that it should not: errors in its console, requests, dialogs, violations of its policy.

    Attributes:
        page: Playwright's.
        complaints: a line each.
        requests: addresses that it asked for.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self._dismiss(dialog))
        page.on("request", lambda request: self.requests.append(request.url))
        page.add_init_script(REPORT_VIOLATIONS)

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path: Path) -> None:
        """Open a file."""
        self.page.goto(path.as_uri())


@pytest.fixture
def watched(chromium: Any) -> Iterator[Watched]:
    """A new page of 1280 pixels width."""
    width, height = WIDTHS["desktop"]
    context = chromium.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    yield Watched(context.new_page())
    context.close()
