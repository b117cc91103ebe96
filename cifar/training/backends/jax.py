"""JAX: the data set is on the device as bytes, images are augmented there, and one call runs many steps.

On a GPU an epoch is two calls: all full batches, then the partial one. On a CPU, where XLA's convolutions are slow in
a loop, every step is a call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.dataset import Dataset
from cifar.errors import CifarError, UsageError
from cifar.metrics import classification
from cifar.recipes import Recipe
from cifar.training.backends import DivergedError, EpochTrainer, visits
from cifar.training.backends.jax_augmentation import Arrays, apply, as_arrays
from cifar.training.callback import Callback

State = tuple[list[Any], list[Any], list[Any]]
"""Values of a model's trainable variables, of its others (dropout's seeds among them), of its optimizer's."""


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """See cifar.training.backends.epoch_trainer.

    Raises:
        UsageError: the recipe needs what only TensorFlow has here.
        CifarError: the device's memory is too small.
    """
    import jax

    if recipe.weight_averaging != "none":
        raise UsageError(f"weight_averaging '{recipe.weight_averaging}' needs the TensorFlow backend.")
    n = len(data.x_train)
    max_steps = n  # per call
    if jax.default_backend() == "cpu":
        max_steps = 1
    with _explained_out_of_memory():
        all_images = jax.device_put(data.x_train)
        all_labels = jax.device_put(data.y_train.astype(np.int32))
    run_steps = _compile_steps(model, recipe.label_smoothing)

    def train_epoch(epoch: int, callback: Callback) -> tuple[float, float]:
        loss_sum = 0.0
        correct_sum = 0
        seen = 0
        state = _state(model)
        for block, drawn in _augmented_blocks(recipe, epoch, n, max_steps):
            with _explained_out_of_memory():
                state, losses, correct = run_steps(state, all_images, all_labels, block.astype(np.int32), drawn)
                step_losses = np.asarray(losses, np.float64)
            if not np.isfinite(step_losses).all():
                _assign_state(model, state)
                raise _diverged(epoch, seen, step_losses, block.shape[1])
            seen += block.size
            loss_sum += float(step_losses.sum()) * block.shape[1]
            correct_sum += int(correct)
            callback.step(epoch, seen, loss_sum / seen, correct_sum / seen)
        _assign_state(model, state)
        assert seen == recipe.images_per_epoch(n)
        return loss_sum / seen, correct_sum / seen

    return train_epoch


def _augmented_blocks(
    recipe: Recipe, epoch: int, n: int, max_steps: int
) -> Iterator[tuple[NDArray[np.int64], Arrays | None]]:
    """Yield an epoch's blocks, each with its parameters of augmentation; None if no image is changed."""
    parameters = augmentation.draw(recipe.policy, recipe.seed, epoch, n)
    augmented = parameters.any()
    for block in split_into_blocks(visits(recipe, epoch, n), recipe.batch_size, max_steps):
        drawn = None
        if augmented:
            drawn = as_arrays(parameters[block])
        yield block, drawn


def _diverged(epoch: int, seen: int, step_losses: NDArray[np.float64], batch_size: int) -> DivergedError:
    """Return the error for a block of steps in which a loss is not finite; `seen` images were seen before it."""
    first_bad = int(np.isfinite(step_losses).argmin())
    seen += (first_bad + 1) * batch_size
    return DivergedError(f"the loss became {step_losses[first_bad]} in epoch {epoch}, after {seen} of its images")


def split_into_blocks(visits: NDArray[np.int64], batch_size: int, max_steps: int) -> Iterator[NDArray[np.int64]]:
    """Yield an epoch's image indices as blocks (steps, batch size) of at most `max_steps`, the partial batch last."""
    full_batches = len(visits) // batch_size
    for start in range(0, full_batches, max_steps):
        stop = min(start + max_steps, full_batches)
        yield visits[start * batch_size : stop * batch_size].reshape(-1, batch_size)
    if len(visits) % batch_size:
        yield visits[full_batches * batch_size :][np.newaxis]


def _compile_steps(model: Any, label_smoothing: float) -> Callable[..., Any]:
    """Return a compiled function that runs some steps: each is forward, backward, one update of the weights.

    It takes the state, all images and labels, the indices of a block and the block's parameters of augmentation
    (None for none), and returns the new state, the loss of each step and the number of correct predictions.
    """
    import jax
    import jax.numpy as jnp
    import keras

    def loss(weights: Any, others: Any, images: Any, labels: Any) -> Any:
        outputs = model.stateless_call(weights, others, images, training=True, return_losses=True)
        probabilities, others, layer_losses = outputs
        targets = jax.nn.one_hot(labels, classification.CLASSES)
        losses = keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=label_smoothing)
        total = losses.mean() + sum(layer_losses)
        correct = (probabilities.argmax(axis=1) == labels).sum()
        return total, (others, correct)

    gradient = jax.value_and_grad(loss, has_aux=True)

    def run_steps(state: State, all_images: Any, all_labels: Any, block: Any, drawn: Arrays | None) -> Any:
        def step(state: State, visit: Any) -> Any:
            weights, others, optimizer = state
            indices, drawn = visit
            images = all_images[indices]
            if drawn is not None:
                images = apply(images, drawn)
            (value, (others, correct)), gradients = gradient(weights, others, images, all_labels[indices])
            weights, optimizer = model.optimizer.stateless_apply(optimizer, gradients, weights)
            return (weights, others, optimizer), (value, correct)

        if len(block) == 1:
            only_visit = jax.tree.map(lambda values: values[0], (block, drawn))
            state, (value, correct) = step(state, only_visit)
            return state, value[jnp.newaxis], correct
        state, (losses, correct) = jax.lax.scan(step, state, (block, drawn))
        return state, losses, correct.sum()

    compiled: Callable[..., Any] = jax.jit(run_steps, donate_argnums=0)
    return compiled


def _variables(model: Any) -> tuple[list[Any], list[Any], list[Any]]:
    return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables


def _state(model: Any) -> State:
    trainable, others, optimizer = map(_values, _variables(model))
    return trainable, others, optimizer


def _values(variables: list[Any]) -> list[Any]:
    return [variable.value for variable in variables]


def _assign_state(model: Any, state: State) -> None:
    for variables, values in zip(_variables(model), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


@contextmanager
def _explained_out_of_memory() -> Iterator[None]:
    """Turn JAX's error about too little memory into one sentence.

    Raises:
        CifarError: the device's memory is too small.
    """
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        device = jax.devices()[0]
        raise CifarError(
            f"The memory of {device.device_kind} is too small for this run: use another device."
        ) from error
