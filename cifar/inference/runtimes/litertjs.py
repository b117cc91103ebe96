"""TFLite files in LiteRT.js: WebAssembly in Chromium."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar.formats import tflite
from cifar.inference.runtimes import Tensor, single
from cifar.inference.runtimes.onnxruntime_web import chromium_command
from cifar.inference.runtimes.program import MessageSession


class Session(MessageSession):
    """A TFLite file, a copy of which declares a batch of one: LiteRT.js refuses the free size of ours."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        assert device == "cpu", device
        model = tflite.parse(path.read_bytes())
        with tempfile.TemporaryDirectory(prefix="cifar-bench-") as folder:
            copy = Path(folder) / "single.tflite"
            copy.write_bytes(_with_batch_of_one(model))
            command = [*chromium_command(), "litertjs", str(copy), str(threads)]
            super().__init__(command, "LiteRT.js, Chromium")
        graph = model.subgraphs[0]
        image, output = graph.tensors[single("input", graph.inputs)], graph.tensors[single("output", graph.outputs)]
        self.input = replace(_quantised(self.input, image), shape=(None, *self.input.shape[1:]))
        self.output = _quantised(self.output, output)


def _quantised(tensor: Tensor, described: Any) -> Tensor:
    """With scale and zero point as the file has them."""
    quantisation = described.quantization
    if quantisation is None or quantisation.scale is None:
        return tensor
    return replace(tensor, scale=float(quantisation.scale[0]), zero_point=int(quantisation.zeroPoint[0]))


def _with_batch_of_one(model: Any) -> bytes:
    """The file, with 1 for every free size."""
    for tensor in model.subgraphs[0].tensors:
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = [max(int(side), 1) for side in tensor.shapeSignature]
    return tflite.pack(model, 1 << 20)
