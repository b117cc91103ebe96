"""ONNX, written by tf2onnx and run by ONNX Runtime."""

from pathlib import Path
from typing import Any

from cifar import environment
from cifar.evaluation import Predictor
from cifar.formats import INPUT, OUTPUT
from cifar.formats.graph import serving

OPSET = 18


def write(model: Any, path: Path, metadata: dict[str, str]) -> None:
    """Write a Keras model as an ONNX file of opset 18, its free batch dimension named N."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    serve = serving(model).serve
    signature = [tf.TensorSpec((None, 32, 32, 3), tf.uint8, name=INPUT)]
    with environment.quiet():
        proto, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=OPSET)
    for end in (*proto.graph.input, *proto.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def load(path: Path, threads: int) -> Predictor:
    """Load an ONNX file in ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(images: Any) -> Any:
        return session.run([OUTPUT], {INPUT: images})[0]

    return predict


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
