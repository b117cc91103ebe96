"""JAX: the data set lies on the device as bytes, images are augmented there, many steps run per call.

On a GPU an epoch is two calls (the last, partial batch is one of its own), and nothing returns to the host between.
XLA's convolutions are slow in a loop on a CPU: there a call is one step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data import augmentation
from cifar.data.augmentation import SIDE, Parameters
from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.metrics import classification
from cifar.recipes import Recipe
from cifar.training.backends import DivergedError, EpochTrainer
from cifar.training.callback import Callback

Arrays = dict[str, Any]
State = tuple[list[Any], list[Any], list[Any]]
"""Values of a model's trainable variables, of its others (dropout's seeds among them), of its optimizer's."""


def epoch_trainer(model: Any, recipe: Recipe, data: Dataset) -> EpochTrainer:
    """See cifar.training.backends.loop.

    Raises:
        CifarError: the device's memory is too small.
    """
    import jax

    most = 1 if jax.default_backend() == "cpu" else len(data.x_train)  # steps per call
    with _memory_in_words():
        images, labels = jax.device_put(data.x_train), jax.device_put(data.y_train.astype(np.int32))
    steps = _steps(model)
    n = len(data.x_train)

    def epoch(number: int, callback: Callback) -> tuple[float, float]:
        loss_sum = 0.0
        right_sum = seen = 0
        parameters = augmentation.draw(recipe.policy, recipe.seed, number, n)
        plain = not parameters.any()
        state = _state(model)
        for index in blocks(augmentation.order(recipe.seed, number, n), recipe.batch_size, most):
            drawn = None if plain else as_arrays(parameters[index])
            with _memory_in_words():
                state, losses, right = steps(state, images, labels, index.astype(np.int32), drawn)
                loss_of = np.asarray(losses, np.float64)
            if not np.isfinite(loss_of).all():
                _put_back(model, state)
                bad = int(np.isfinite(loss_of).argmin())
                seen += (bad + 1) * index.shape[1]
                raise DivergedError(f"the loss became {loss_of[bad]} in epoch {number}, after {seen} of its images")
            seen += index.size
            loss_sum += float(loss_of.sum()) * index.shape[1]
            right_sum += int(right)
            callback.step(number, seen, loss_sum / seen, right_sum / seen)
        _put_back(model, state)
        assert seen == n
        return loss_sum / seen, right_sum / seen

    return epoch


def blocks(visits: NDArray[np.int64], batch_size: int, most: int) -> Iterator[NDArray[np.int64]]:
    """An epoch's visits as (steps, batch size) blocks of at most so many steps; last of all the partial batch."""
    whole = len(visits) // batch_size
    for start in range(0, whole, most):
        stop = min(start + most, whole)
        yield visits[start * batch_size : stop * batch_size].reshape(-1, batch_size)
    if len(visits) % batch_size:
        yield visits[whole * batch_size :][np.newaxis]


def _steps(model: Any) -> Callable[..., Any]:
    """A compiled function that takes some steps: forward, backward, one update of the weights each."""
    import jax
    import jax.numpy as jnp
    import keras

    def loss(weights: Any, others: Any, images: Any, labels: Any) -> Any:
        answer = model.stateless_call(weights, others, images, training=True, return_losses=True)
        probabilities, others, extra = answer
        targets = jax.nn.one_hot(labels, classification.CLASSES)
        whole = keras.losses.categorical_crossentropy(targets, probabilities).mean() + sum(extra)
        return whole, (others, (probabilities.argmax(axis=1) == labels).sum())

    gradient = jax.value_and_grad(loss, has_aux=True)

    def run(state: State, images: Any, labels: Any, index: Any, drawn: Arrays | None) -> Any:
        def step(state: State, visit: Any) -> Any:
            weights, others, optimizer = state
            index, drawn = visit
            batch = images[index] if drawn is None else apply(images[index], drawn)
            (value, (others, right)), gradients = gradient(weights, others, batch, labels[index])
            weights, optimizer = model.optimizer.stateless_apply(optimizer, gradients, weights)
            return (weights, others, optimizer), (value, right)

        if len(index) == 1:
            state, (value, right) = step(state, jax.tree.map(lambda values: values[0], (index, drawn)))
            return state, value[jnp.newaxis], right
        state, (losses, right) = jax.lax.scan(step, state, (index, drawn))
        return state, losses, right.sum()

    compiled: Callable[..., Any] = jax.jit(run, donate_argnums=0)
    return compiled


def _state(model: Any) -> State:
    return (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
        [variable.value for variable in model.optimizer.variables],
    )


def _put_back(model: Any, state: State) -> None:
    variables = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    for mine, values in zip(variables, state, strict=True):
        for variable, value in zip(mine, values, strict=True):
            variable.assign(value)


def as_arrays(parameters: Parameters) -> Arrays:
    """Parameters as float32 arrays: shifts are exact in it; of an angle its cosine and sine, made in float64."""
    arrays: Arrays = {
        "rows": parameters.rows.astype(np.float32),
        "columns": parameters.columns.astype(np.float32),
        "flip_rows": parameters.flip_rows,
        "flip_columns": parameters.flip_columns,
    }
    if parameters.angle is not None:
        theta = np.deg2rad(parameters.angle)
        arrays |= {"cos": np.cos(theta).astype(np.float32), "sin": np.sin(theta).astype(np.float32)}
    return arrays


def augmented(images: NDArray[np.uint8], parameters: Parameters) -> NDArray[np.uint8]:
    """cifar.data.augmentation.apply, computed on the device."""
    return np.asarray(_compiled_apply()(images, as_arrays(parameters)))


@cache
def _compiled_apply() -> Any:
    import jax

    return jax.jit(apply)


def apply(images: Any, drawn: Arrays) -> Any:
    """cifar.data.augmentation.apply on the device: the same bits where nothing is turned, else to a grey level.

    Args:
        images: uint8, (N, 32, 32, 3).
        drawn: what `as_arrays` makes of the parameters of the same N images.
    """
    import jax.numpy as jnp

    changed = _resample_plane(images, drawn) if "cos" in drawn else _resample_axes(images, drawn)
    return jnp.rint(changed).astype(jnp.uint8)


def _resample_axes(images: Any, drawn: Arrays) -> Any:
    """Shift and flip: a small matrix product per axis, exact in float32."""
    import jax.numpy as jnp

    down = _weights(drawn["rows"], drawn["flip_rows"])
    across = _weights(drawn["columns"], drawn["flip_columns"])
    moved = jnp.einsum("nor,nrcx->nocx", down, images.astype(jnp.float32), precision="highest")
    return jnp.einsum("noc,nrcx->nrox", across, moved, precision="highest")


def _weights(shift: Any, flip: Any) -> Any:
    """(N, output, input) matrices that shift by linear interpolation with nearest fill, then flip."""
    import jax.numpy as jnp

    pixels = jnp.arange(SIDE, dtype=jnp.float32)
    source = jnp.clip(pixels + shift[:, None], 0, SIDE - 1)
    source = jnp.where(flip[:, None], source[:, ::-1], source)
    return jnp.maximum(0, 1 - jnp.abs(source[:, :, None] - pixels))


def _resample_plane(images: Any, drawn: Arrays) -> Any:
    """Rotation, shift and flip: four neighbours gathered per pixel."""
    import jax.numpy as jnp

    centre = (SIDE - 1) / 2
    grid = jnp.arange(SIDE, dtype=jnp.float32) - centre
    cos, sin = drawn["cos"][:, None, None], drawn["sin"][:, None, None]
    across = jnp.where(drawn["flip_columns"][:, None], -grid, grid)[:, None, :] + drawn["columns"][:, None, None]
    down = jnp.where(drawn["flip_rows"][:, None], -grid, grid)[:, :, None] + drawn["rows"][:, None, None]
    column = jnp.clip(cos * across - sin * down + centre, 0, SIDE - 1)
    row = jnp.clip(sin * across + cos * down + centre, 0, SIDE - 1)

    left, top = (jnp.minimum(axis.astype(jnp.int32), SIDE - 2) for axis in (column, row))
    right_part, lower_part = (column - left)[..., None], (row - top)[..., None]
    number = jnp.arange(len(images))[:, None, None]

    def corner(below: int, beside: int) -> Any:
        return images[number, top + below, left + beside].astype(jnp.float32)

    upper = corner(0, 0) + (corner(0, 1) - corner(0, 0)) * right_part
    lower = corner(1, 0) + (corner(1, 1) - corner(1, 0)) * right_part
    return upper + (lower - upper) * lower_part


@contextmanager
def _memory_in_words() -> Iterator[None]:
    """Tell in a sentence that the device's memory is too small.

    Raises:
        CifarError: it is.
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
