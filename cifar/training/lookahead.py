"""Lookahead (Zhang et al. 2019): every few steps the weights become their moving average.

As in airbench94 it averages all of a model's variables that are floats, running statistics among them, with a decay
that grows with the third power of the progress; after the last step the weights are the average.
"""

from collections.abc import Callable
from typing import Any

from cifar.recipes import Recipe

STEPS = 5  # between two updates of the average


def start(model: Any, recipe: Recipe, n_train: int) -> Callable[[], None]:
    """Return what must be called after each step; it does nothing in a recipe without lookahead.

    Args:
        model: a compiled Keras model; the average becomes part of its optimizer's variables, so of its checkpoint.
        recipe: what is trained.
        n_train: number of training images.
    """
    if recipe.weight_averaging == "none":
        return lambda: None
    optimizer = model.optimizer
    variables = [variable for variable in model.variables if "float" in str(variable.dtype)]
    averages = []
    for variable in variables:
        average = optimizer.add_variable_from_reference(variable, name="average")
        average.assign(variable.value)
        averages.append(average)
    total_steps = recipe.epochs * recipe.steps_per_epoch(n_train)

    def after_step() -> None:
        step = int(optimizer.iterations)
        last = step == total_steps
        if step % STEPS and not last:
            return
        decay = recipe.averaging_decay**STEPS * (step / total_steps) ** 3
        for variable, average in zip(variables, averages, strict=True):
            if not last:
                average.assign(decay * average.value + (1 - decay) * variable.value)
            variable.assign(average.value)

    return after_step
