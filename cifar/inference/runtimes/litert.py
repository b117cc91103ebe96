"""TFLite files in LiteRT."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.inference.runtimes import Tensor, class_output, single
from cifar.system import hardware

DELEGATE = "DELEGATE"  # LiteRT's name of an operation that stands for those that a delegate runs


class Session:
    """A TFLite file, its tensors allocated for the latest batch size.

    Without `delegates` the built-in kernels run it; they do with `keep_tensors` too, for a delegate keeps none.
    """

    details: Mapping[str, Any] = {}

    def __init__(
        self, path: Path, threads: int, device: str, keep_tensors: bool = False, delegates: bool = True
    ) -> None:
        assert device == "cpu", device
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        options: dict[str, Any] = {}
        if keep_tensors or not delegates:
            options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if keep_tensors:
            options["experimental_preserve_all_tensors"] = True
        with hardware.count_threads() as started, hardware.quiet():
            self._interpreter = Interpreter(str(path), num_threads=threads, **options)
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

    @property
    def delegated_share(self) -> float:
        """The share of the file's operations that the delegate runs."""
        return delegated_share(self._interpreter._get_ops_details(), self._output_index)

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

    def activations(self) -> dict[str, tuple[Tensor, NDArray[Any]]]:
        """Return what each operation gave for the latest batch, by the tensor's name; needs `keep_tensors`."""
        details = {int(detail["index"]): detail for detail in self._interpreter.get_tensor_details()}
        found = {}
        for operation in self._interpreter._get_ops_details():
            for index in map(int, operation["outputs"]):
                tensor = _tensor(details[index])
                found[tensor.name] = (tensor, self._interpreter.get_tensor(index))
        return found


def _provider(interpreter: Any) -> str:
    """XNNPACK if it runs any of the operations; LiteRT has no public function that tells."""
    for operation in interpreter._get_ops_details():
        if operation["op_name"] == DELEGATE:
            return "XNNPACK"
    return "built-in kernels"


def delegated_share(operations: Sequence[Mapping[str, Any]], output: int) -> float:
    """Return the share of operations that delegates run.

    LiteRT lists delegates behind the operations that they replace, which stay in the list. What runs is found from
    the output backwards: of two operations that write a tensor, the delegate.

    Args:
        operations: as LiteRT lists them: of each `op_name`, and the tensors `inputs` and `outputs`.
        output: the tensor that the model is run for.
    """
    writers = {int(tensor): operation for operation in operations for tensor in operation["outputs"]}
    tensors, running = [output], set()
    while tensors:
        writer = writers.get(tensors.pop())
        if writer is not None and writer["index"] not in running:
            running.add(writer["index"])
            tensors += map(int, writer["inputs"])
    own = [operation["index"] for operation in operations if operation["op_name"] != DELEGATE]
    return 1 - len(running.intersection(own)) / len(own)


def _tensor(detail: dict[str, Any]) -> Tensor:
    """An input or output of an interpreter."""
    scale, zero_point = detail["quantization"]
    shape = [int(side) if side > 0 else None for side in detail.get("shape_signature", detail["shape"])]
    return Tensor(detail["name"], np.dtype(detail["dtype"]), tuple(shape), float(scale), int(zero_point))
