"""Training in bfloat16."""

from typing import Any

from cifar.errors import UsageError, first_line


def in_bfloat16(model: Any) -> Any:
    """Return a copy of a float32 model that computes in bfloat16: Keras's `mixed_bfloat16`.

    Its weights are float32, and so are the layers before the first kernel (scaling), the last layer with a kernel and
    all that follow: the logits, the probabilities and the loss.

    Raises:
        UsageError: the model has no layer with a kernel, or cannot be copied layer by layer.
    """
    import keras

    with_kernel = [number for number, layer in enumerate(model.layers) if getattr(layer, "kernel", None) is not None]
    if not with_kernel:
        raise UsageError("precision bfloat16: the network has no convolution and no dense layer.")
    reduced = model.layers[with_kernel[0] : with_kernel[-1]]

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer in reduced:
            config["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(config)

    try:
        copied = keras.models.clone_model(model, clone_function=copy)
        copied.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UsageError(f"precision bfloat16: the network cannot be copied: {first_line(error)}") from error
    return copied
