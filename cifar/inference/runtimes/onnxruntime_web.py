"""ONNX files in ONNX Runtime for the web: WebAssembly in Node or in Chromium."""

import sys
from dataclasses import replace
from pathlib import Path

from cifar.formats.onnx import input_quantisation
from cifar.inference.runtimes import ONNX_RUNTIME_WEB
from cifar.inference.runtimes.program import MessageSession
from cifar.inference.runtimes.requirements import NODE

NODE_PROGRAM = Path(__file__).parent / "web" / "node.mjs"
CHROMIUM_MODULE = "cifar.inference.runtimes.chromium"


class Session(MessageSession):
    """An ONNX file in Node, or in Chromium."""

    def __init__(self, path: Path, threads: int, device: str, host: str) -> None:
        assert device == "cpu", device
        command = [str(NODE.path), str(NODE_PROGRAM), str(ONNX_RUNTIME_WEB.folder), str(path), str(threads)]
        if host == "Chromium":
            command = [sys.executable, "-m", CHROMIUM_MODULE, "onnxruntime", str(path), str(threads)]
        super().__init__(command, f"ORT web, {host}")
        if self.input.dtype.kind != "f":
            scale, zero_point = input_quantisation(path)
            self.input = replace(self.input, scale=scale, zero_point=zero_point)
