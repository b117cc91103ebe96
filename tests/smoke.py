"""What a user does first, with the installed `cifar`, in an empty folder: `python tests/smoke.py`.

Nothing of the clone is used, so that it also tests the wheel, other systems and the lowest versions of dependencies.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

NAME = "second-shift-flip-s0"
EXPORTS = f"runs/{NAME}/exports/{NAME}"
COMMANDS = (
    "--version",
    "--help",
    "train --help",
    "bench --help",
    "networks second",
    "data info",
    "train --network second --augment shift-flip --data synthetic --epochs 1",
    f"export runs/{NAME} --format all --max-drop 100 --card",
    f"evaluate {EXPORTS}.saved_model",
    f"evaluate {EXPORTS}.tflite",
    f"evaluate {EXPORTS}.float16.tflite",
    f"evaluate {EXPORTS}.int8.tflite",
    f"evaluate {EXPORTS}.onnx",
    f"evaluate {EXPORTS}.int8.onnx",
    f"predict {EXPORTS}.onnx picture.png",
    f"bench {EXPORTS}.onnx --batch-size 1",
    f"verify runs/{NAME} --epochs 1",
    "report runs --details",
)


def main() -> None:
    """Run the commands; the first that fails ends it, with its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (48, 32), "navy").save(Path(folder, "picture.png"))
        for command in COMMANDS:
            print(f"$ cifar {command}", flush=True)
            done = subprocess.run([sys.executable, "-m", "cifar", *command.split()], cwd=folder)
            if done.returncode:
                sys.exit(done.returncode)
    print(f"{len(COMMANDS)} passed, 0 failed")


if __name__ == "__main__":
    main()
