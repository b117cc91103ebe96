"""What is used of other packages without being theirs to promise: a new version that moves it fails here, by name."""

import ast
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT

SOURCES = [*sorted((ROOT / "cifar").rglob("*.py")), *sorted((ROOT / "bench").glob("*.py"))]
DOCUMENTED = {"_exit", "_core"}  # os._exit; numpy._core is a word of pickles, imported nowhere


def source(name: str) -> str:
    return inspect.getsource(importlib.import_module(name))


def keras_layer_has_inbound_nodes() -> bool:
    from keras import layers

    layer = layers.Dense(1)
    layer(layers.Input((2,)))
    return len(layer._inbound_nodes) == 1


def keras_runs_a_functional_model_by_its_graph() -> bool:
    import keras

    image = keras.Input((2,))
    doubled = keras.layers.Rescaling(2.0)(image)
    model = keras.Model(image, keras.layers.Add()([doubled, image]))
    assert type(model).__name__ == "Functional"
    output = model._run_through_graph(keras.ops.ones((1, 2)), operation_fn=lambda operation: operation)
    return bool(keras.ops.all(output == 3))


def ai_edge_litert_lists_operations() -> bool:
    from ai_edge_litert.interpreter import Interpreter

    return callable(Interpreter._get_ops_details)


def tensorflow_has_the_saved_model_message() -> bool:
    from tensorflow.core.protobuf import saved_model_pb2

    return "meta_graphs" in saved_model_pb2.SavedModel.DESCRIPTOR.fields_by_name


def tf2onnx_counts_names() -> bool:
    import tf2onnx

    return isinstance(tf2onnx.utils.INTERNAL_NAME, int)


# A name as CONTRIBUTING.md lists it, and whether it is still what the code here expects.
PRIVATE: dict[str, Callable[[], bool]] = {
    "pickle._Unpickler": lambda: pickle.EMPTY_DICT[0] in pickle._Unpickler.dispatch,
    "keras.src.legacy.preprocessing.image": lambda: (
        "class ImageDataGenerator" in source("keras.src.legacy.preprocessing.image")
    ),
    "layer._inbound_nodes": keras_layer_has_inbound_nodes,
    "model._run_through_graph": keras_runs_a_functional_model_by_its_graph,
    "interpreter._get_ops_details": ai_edge_litert_lists_operations,
    "ai_edge_litert.schema_py_generated": lambda: "class ModelT" in source("ai_edge_litert.schema_py_generated"),
    "tensorflow.core.protobuf.saved_model_pb2": tensorflow_has_the_saved_model_message,
    "tf2onnx.utils.INTERNAL_NAME": tf2onnx_counts_names,
    "config._benchmarksession": lambda: "config._benchmarksession = " in source("pytest_benchmark.plugin"),
    "terminalreporter._tw": lambda: "self._tw" in source("_pytest.terminal"),
    "_tw._file": lambda: "self._file" in source("_pytest._io.terminalwriter"),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_is_as_the_code_expects_it_and_is_listed(name: str) -> None:
    assert PRIVATE[name]()
    assert f"`{name}`" in (ROOT / "CONTRIBUTING.md").read_text()


def defined_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def private_names(tree: ast.AST) -> Iterator[str]:
    """Attributes with a leading underscore, of other objects than self and cls; imports from a package's inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and ".src." in f"{node.module}.":
            yield str(node.module)


def test_no_other_private_name_is_used() -> None:
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    ours = {name for tree in trees for name in defined_names(tree)}
    used = {name for tree in trees for name in private_names(tree)}
    known = {name if ".src." in name else name.rpartition(".")[2] for name in PRIVATE}
    assert used - ours - DOCUMENTED <= known
    assert {"_inbound_nodes", "_get_ops_details"} <= used
