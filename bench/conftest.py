"""The table at the end of a benchmark run."""

from typing import Any

import pytest
from rich.console import Console

from cifar.report.terminal import table


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print images per second, and each policy's ratio to plain training of the same network in this run."""
    session = getattr(config, "_benchmarksession", None)
    entries = [bench.extra_info for bench in session.benchmarks if bench.extra_info] if session else []
    plain = {info["model"]: info["images_per_second"] for info in entries if info.get("augment") == "none"}
    rows = [
        (
            info["kind"],
            info.get("model", "-"),
            info["augment"],
            str(info["batch"]),
            str(info["threads"]),
            f"{info['images_per_second']:,.0f}",
            f"{info['images_per_second'] / plain[info['model']]:.2f}" if info.get("model") in plain else "-",
        )
        for info in entries
    ]
    if rows:
        columns = ("kind", "model", "augment", "batch>", "threads>", "images/s>", "of plain>")
        caption = "Median step after warm-up. Ratios hold within one run; absolute speeds are this machine's, today."
        terminalreporter.write_line("")
        Console().print(table("cifar-bench", columns, rows, caption))
