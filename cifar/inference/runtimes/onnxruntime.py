"""ONNX files in ONNX Runtime."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.formats.onnx import input_quantisation
from cifar.inference.runtimes import ONNX_RUNTIME_PROVIDERS, Tensor, class_output, single
from cifar.system import hardware

DTYPES = {"float": "float32", "double": "float64"}  # ONNX's names that are not numpy's
EXACT_INTEGER_PRODUCTS = "session.x64quantprecision", "1"
"""For x86 without VNNI, where sums of two uint8 x int8 products are else cut to 16 bits. With VNNI the bits are the
same, in twice the time."""


class Session:
    """An ONNX file with the provider of the device if it is installed, else with the CPU's."""

    delegated_share: float | None = None
    details: Mapping[str, Any] = {}

    def __init__(self, path: Path, threads: int, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if not hardware.has_vnni():
            options.add_session_config_entry(*EXACT_INTEGER_PRODUCTS)
        provider = ONNX_RUNTIME_PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            provider = "CPUExecutionProvider"
        with hardware.count_threads() as started:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        self.threads = 1 + started()
        self.provider = str(self._session.get_providers()[0])
        self._path = path
        self._input_end = single("input", self._session.get_inputs())
        self._names = [self.output.name], self._input_end.name

    @cached_property
    def input(self) -> Tensor:
        """The input; scale and zero point are read from the graph, which takes longer than loading it."""
        tensor = _tensor(self._input_end)
        if tensor.dtype.kind == "f":
            return tensor
        scale, zero_point = input_quantisation(self._path)
        return replace(tensor, scale=scale, zero_point=zero_point)

    @cached_property
    def output(self) -> Tensor:
        """The output of ten numbers."""
        return class_output([_tensor(end) for end in self._session.get_outputs()])

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output, in host memory, for a batch of the input's dtype and layout."""
        outputs, image = self._names
        output: NDArray[Any] = self._session.run(outputs, {image: batch})[0]
        return output


def _tensor(end: Any) -> Tensor:
    """An input or output of an ONNX Runtime session."""
    kind = str(end.type).removeprefix("tensor(").removesuffix(")")
    shape = [side if isinstance(side, int) and side > 0 else None for side in end.shape]
    try:
        dtype = np.dtype(DTYPES.get(kind, kind))
    except TypeError as error:
        raise UsageError(f"its '{end.name}' is {kind}; float, uint8 and int8 are supported.") from error
    return Tensor(end.name, dtype, tuple(shape))
