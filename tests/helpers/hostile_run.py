"""A run whose texts are markup that would run, were it not escaped."""

import json
import shutil
from pathlib import Path

from cifar.runs.run import Run
from cifar.system import json_files

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&lt;"
HOSTILE_NAME = "<!--<script>alert(3)"


def hostile_copy(run: Run, folder: Path) -> Run:
    """Return a copy with hostile texts: its name, the processor, the platform and its files' runtimes."""
    path = Path(shutil.copytree(run.path, folder / HOSTILE_NAME))
    facts = json_files.read_json(path / "environment.json")
    facts["cpu"]["model"] = facts["platform"] = HOSTILE
    (path / "environment.json").write_text(json.dumps(facts))
    entries = json_files.read_json(path / "exports" / "manifest.json")
    for entry in entries["models"]:
        entry["runtime"] = HOSTILE
    (path / "exports" / "manifest.json").write_text(json.dumps(entries))
    return Run(path)
