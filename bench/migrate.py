"""Rewrite this repository's committed results from format_version 1 to 2; run once, from the root of a checkout.

Manifests: largest_difference -> max_difference. Benchmark results: way -> method, hits -> correct_mask, start ->
cold_start, late_* -> mean_last_epochs_*. why.json: moved -> shifted, further -> continued, silent -> dead_channels.
verify.jsonl: rung -> check, words -> message. golden.json: key -> reproducibility_key.
"""

import json
from pathlib import Path
from typing import Any

RENAMED = {
    "largest_difference": "max_difference",
    "way": "method",
    "hits": "correct_mask",
    "start_ms": "cold_start_ms",
    "late_difference": "mean_last_epochs_difference",
    "late_interval": "mean_last_epochs_interval",
    "product": "library",
    "moved": "shifted",
    "further": "continued",
    "silent": "dead_channels",
    "rung": "check",
    "words": "message",
    "key": "reproducibility_key",
}
UNCHANGED = ("recipe", "environment", "metrics", "history", "timing", "diverged")


def migrate(value: Any) -> Any:
    """Return JSON content with the new names."""
    if isinstance(value, list):
        return [migrate(item) for item in value]
    if not isinstance(value, dict):
        return value
    content = {RENAMED.get(name, name): migrate(item) for name, item in value.items()}
    if content.get("kind") == "start":
        content["kind"] = "cold_start"
    if isinstance(content.get("name"), str):
        content["name"] = content["name"].replace("test_start[", "test_cold_start[")
    if isinstance(content.get("case"), str):
        content["case"] = content["case"].replace("test_start[", "test_cold_start[")
    if content.get("format_version") == 1:
        content["format_version"] = 2
    return content


def main() -> None:
    """Migrate every committed file that holds an old name."""
    manifests = [Path("exports/manifest.json"), *Path("bench/baselines").glob("*/exports/manifest.json")]
    results = [*Path("bench/history").glob("*.json"), Path("bench/baselines/quality.json")]
    for path in (*manifests, *results, Path("bench/baselines/why.json"), Path("cifar/verify/golden.json")):
        text = path.read_text()
        indent = len(text.splitlines()[1]) - len(text.splitlines()[1].lstrip())
        content = json.loads(text)
        if content["format_version"] == 1:
            path.write_text(json.dumps(migrate(content), indent=indent) + "\n")
    for path in Path("bench/baselines").glob("*/verify.jsonl"):
        lines = [json.dumps(migrate(json.loads(line)), separators=(",", ":")) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
