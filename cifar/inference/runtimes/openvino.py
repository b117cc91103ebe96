"""Any of our formats in OpenVINO, on the CPU.

Its default precision depends on the processor; here it is set, and read back.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import CifarError
from cifar.inference.runtimes import Tensor, class_output, single

TELEMETRY = "openvino_telemetry"  # would write a folder into the user's home, and OpenVINO does without it


class Session:
    """A file compiled for one stream of so many threads."""

    delegated_share: float | None = None

    def __init__(self, path: Path, threads: int, device: str, precision: str = "float32") -> None:
        assert device == "cpu", device
        sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
        import openvino

        properties = {
            "INFERENCE_PRECISION_HINT": getattr(openvino.Type, PRECISIONS[precision]),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(path)), "CPU", properties)
        for name, wanted in properties.items():
            set_to = compiled.get_property(name)
            if str(set_to) != str(wanted):
                raise CifarError(f"OpenVINO computes with {name} {set_to}, not {wanted}.")
        self.details = {"streams": int(compiled.get_property("NUM_STREAMS"))}
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        devices = list(map(str, compiled.get_property("EXECUTION_DEVICES")))
        self.provider = f"OpenVINO, {precision}" if devices == ["CPU"] else f"OpenVINO on {', '.join(devices)}"
        self.input = _tensor(single("input", compiled.inputs))
        self.output = class_output(list(map(_tensor, compiled.outputs)))
        self._output_index = [_tensor(port).name for port in compiled.outputs].index(self.output.name)
        self._request = compiled.create_infer_request()

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output, in host memory, for a batch of the input's dtype and layout."""
        self._request.infer([batch])
        output: NDArray[Any] = self._request.get_output_tensor(self._output_index).data.copy()
        return output


PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""Names of precisions, by ours."""


def _tensor(port: Any) -> Tensor:
    """An input or output of a compiled model; OpenVINO has turned quantised ones into plain numbers."""
    shape = [None if side.is_dynamic else side.get_length() for side in port.get_partial_shape()]
    return Tensor(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()), tuple(shape))
