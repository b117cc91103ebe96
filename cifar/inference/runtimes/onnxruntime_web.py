"""ONNX files in ONNX Runtime for the web: WebAssembly in Node or in Chromium."""

from dataclasses import replace
from pathlib import Path

from cifar.formats.onnx import input_quantisation
from cifar.inference.runtimes import ONNX_RUNTIME_WEB
from cifar.inference.runtimes.program import MessageSession
from cifar.inference.runtimes.requirements import NODE
from cifar.system.child_process import python_command

NODE_PROGRAM = Path(__file__).parent / "web" / "node.mjs"


def chromium_command() -> list[str]:
    """Return the command that runs a file in Chromium, but for its arguments."""
    return python_command("cifar.inference.runtimes.chromium", "main")


class Session(MessageSession):
    """An ONNX file in Node, or in Chromium."""

    def __init__(self, path: Path, threads: int, device: str, host: str) -> None:
        assert device == "cpu", device
        command = [str(NODE.path), str(NODE_PROGRAM), str(ONNX_RUNTIME_WEB.folder), str(path), str(threads)]
        if host == "Chromium":
            command = [*chromium_command(), "onnxruntime", str(path), str(threads)]
        super().__init__(command, f"ORT web, {host}")
        if self.input.dtype.kind != "f":
            scale, zero_point = input_quantisation(path)
            self.input = replace(self.input, scale=scale, zero_point=zero_point)
