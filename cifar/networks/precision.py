"""Training in bfloat16."""

from typing import Any

from cifar.errors import UsageError, first_line


def in_bfloat16(model: Any) -> Any:
    """Return a copy of a float32 model that computes in bfloat16: Keras's `mixed_bfloat16`.

    Its weights are float32, and so is its last layer: the probabilities and the loss.

    Raises:
        UsageError: the model cannot be copied layer by layer.
    """
    import keras

    last = model.layers[-1]

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer is not last:
            config["dtype"] = "mixed_bfloat16"
        return type(layer).from_config(config)

    try:
        copied = keras.models.clone_model(model, clone_function=copy)
        copied.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise UsageError(f"precision bfloat16: the network cannot be copied: {first_line(error)}") from error
    return copied
