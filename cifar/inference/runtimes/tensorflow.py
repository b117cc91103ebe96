"""SavedModels in TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.inference.runtimes import Tensor, class_output, single
from cifar.system import environment


class Session:
    """A SavedModel's serving signature."""

    delegated_share: float | None = None
    details: Mapping[str, Any] = {}

    def __init__(self, path: Path, threads: int, device: str) -> None:
        environment.configure(threads, device)
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))  # the signature does not keep its model alive
        self._signature = _serving_signature(self._model.signatures)
        self._constant = tf.constant
        self._last_output: Any = None
        self.threads = environment.threads_of("tensorflow")
        inputs = self._signature.structured_input_signature[1]
        outputs = self._signature.structured_outputs
        self.input = _tensor(single("input", list(inputs)), inputs)
        self.output = class_output([_tensor(name, outputs) for name in outputs])
        self._input_name, self._output_name = self.input.name, self.output.name

    @property
    def provider(self) -> str:
        """The device on which the latest output was made; CPU before the first."""
        if self._last_output is None:
            return "CPU"
        return environment.device_of(self._last_output)

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the output, in host memory, for a batch of the input's dtype and layout."""
        outputs = self._signature(**{self._input_name: self._constant(batch)})
        self._last_output = outputs[self._output_name]
        output: NDArray[Any] = self._last_output.numpy()
        return output


def _serving_signature(signatures: Any) -> Any:
    """`serving_default`, or the only signature."""
    if "serving_default" in signatures:
        return signatures["serving_default"]
    return signatures[single("signature", list(signatures))]


def _tensor(name: str, specs: Any) -> Tensor:
    """An input or output of a signature; a shape of unknown rank has no axes."""
    spec = specs[name]
    axes = (None,) if spec.shape.rank is None else tuple(spec.shape)
    return Tensor(name, np.dtype(spec.dtype.as_numpy_dtype), axes)
