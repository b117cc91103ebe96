"""How often a run opens, renames or removes a file or makes a folder in its folder: counted while two are trained.

python bench/sweep/storage_operations.py    writes storage_operations.json beside this file
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

COUNT = """
import sys
folder, counted = sys.argv[1], 0

def count(event, arguments):
    global counted
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(folder):
        counted += 1

sys.addaudithook(count)
from cifar.cli import main
grid = "--network second --augment none --data synthetic --threads 1 --quiet --train-only".split()
try:
    main(["train", *grid, "--runs", folder, "--epochs", sys.argv[2]])
except SystemExit:
    print(counted)
"""


def count(epochs: int) -> int:
    """The operations of a run of so many epochs."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", COUNT, folder, str(epochs)], capture_output=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    first, third = count(1), count(3)
    content = {"format_version": 1, "first_epoch": first, "each_further_epoch": (third - first) / 2}
    Path(__file__).with_name("storage_operations.json").write_text(json.dumps(content, indent=1) + "\n")
    print(content)


if __name__ == "__main__":
    main()
