"""TFLite files in LiteRT."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.inference.runtimes import Tensor, class_output, single
from cifar.system import hardware


class Session:
    """A TFLite file, its tensors allocated for the latest batch size."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        assert device == "cpu", device
        from ai_edge_litert.interpreter import Interpreter

        with hardware.count_threads() as started, hardware.quiet():
            self._interpreter = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        self.threads = 1 + started()
        self.provider = _provider(self._interpreter)
        image = single("input", self._interpreter.get_input_details())
        outputs = self._interpreter.get_output_details()
        self.input = _tensor(image)
        self.output = class_output(list(map(_tensor, outputs)))
        self._input_index = image["index"]
        names = [detail["name"] for detail in outputs]
        self._output_index = outputs[names.index(self.output.name)]["index"]
        self._batch_size = int(image["shape"][0])

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output, in host memory, for a batch of the input's dtype and layout."""
        if len(batch) != self._batch_size:
            self._batch_size = len(batch)
            self._interpreter.resize_tensor_input(self._input_index, batch.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input_index, batch)
        self._interpreter.invoke()
        output: NDArray[Any] = self._interpreter.get_tensor(self._output_index)
        return output


def _provider(interpreter: Any) -> str:
    """XNNPACK if it runs any of the operations; LiteRT has no public function that tells."""
    for operation in interpreter._get_ops_details():
        if operation["op_name"] == "DELEGATE":
            return "XNNPACK"
    return "built-in kernels"


def _tensor(detail: dict[str, Any]) -> Tensor:
    """An input or output of an interpreter."""
    scale, zero_point = detail["quantization"]
    shape = [int(side) if side > 0 else None for side in detail.get("shape_signature", detail["shape"])]
    return Tensor(detail["name"], np.dtype(detail["dtype"]), tuple(shape), float(scale), int(zero_point))
