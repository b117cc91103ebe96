"""A recipe's Keras optimizer. All of its state is in `optimizer.variables`, so a checkpoint resumes it exactly."""

import math
from fnmatch import fnmatchcase
from typing import Any

import keras
from keras import ops

from cifar.errors import UsageError
from cifar.recipes import Recipe

NOT_DECAYED = ["bias", "gamma", "beta"]  # by `adamw`: kernels alone are drawn to zero


def build(recipe: Recipe, steps_per_epoch: int) -> Any:
    """Return a recipe's optimizer, not yet built.

    Args:
        recipe: what is trained.
        steps_per_epoch: how many updates an epoch has.
    """
    rate = _learning_rate(recipe, steps_per_epoch)
    if recipe.optimizer == "sgd":
        return NesterovSGD(
            rate,
            momentum=recipe.momentum,
            l2=recipe.weight_decay,
            rate_multipliers=recipe.rate_multipliers,
            frozen_after={pattern: epochs * steps_per_epoch for pattern, epochs in recipe.frozen_after.items()},
        )
    if recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
        return optimizer
    if recipe.optimizer == "muon":
        return Muon(rate, weight_decay=recipe.weight_decay)
    return keras.optimizers.RMSprop(rate)


def _learning_rate(recipe: Recipe, steps_per_epoch: int) -> Any:
    """The learning rate as a number, if it is constant, or as a schedule over the steps."""
    if recipe.schedule == "constant" and not recipe.warmup:
        return recipe.learning_rate
    return Schedule(
        recipe.learning_rate,
        recipe.epochs * steps_per_epoch,
        shape=recipe.schedule,
        warmup=recipe.warmup,
        initial=recipe.initial_rate,
        final=recipe.final_rate,
    )


class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that rises linearly, then stays, or falls on a line or half a cosine.

    Args:
        largest: the learning rate at the end of the warm-up.
        steps: of the whole training.
        shape: `constant`, `linear` or `cosine`, after the warm-up.
        warmup: share of the steps in which it rises.
        initial: that of the first step, as a share of the largest.
        final: towards which it falls, as a share of the largest; step number `steps` would have it.
    """

    def __init__(
        self, largest: float, steps: int, *, shape: str, warmup: float, initial: float, final: float
    ) -> None:
        self._largest = largest
        self._steps = steps
        self._shape = shape
        self._warmup = warmup
        self._initial = initial
        self._final = final

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0, as a float32 scalar."""
        progress = ops.cast(step, "float32") / self._steps
        factor = self._after_warmup((progress - self._warmup) / (1 - self._warmup))
        if self._warmup:
            rising = self._initial + (1 - self._initial) * progress / self._warmup
            factor = ops.where(progress < self._warmup, rising, factor)
        return self._largest * factor

    def _after_warmup(self, progress: Any) -> Any:
        """Return the share of the largest rate; `progress` goes from 0 to 1 after the warm-up."""
        if self._shape == "linear":
            return 1 - (1 - self._final) * progress
        if self._shape == "cosine":
            return self._final + (1 - self._final) * (1 + ops.cos(math.pi * progress)) / 2
        return ops.ones_like(progress)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of a new one."""
        return {
            "largest": self._largest,
            "steps": self._steps,
            "shape": self._shape,
            "warmup": self._warmup,
            "initial": self._initial,
            "final": self._final,
        }


class NesterovSGD(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Stochastic gradient descent with Nesterov momentum, as PyTorch computes it.

    The buffer holds gradients, where Keras's SGD holds gradients times learning rates: the two differ when the
    learning rate changes. See https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html.

    Args:
        learning_rate: a number or a schedule.
        momentum: of the buffer.
        l2: its product with a variable is added to the variable's gradient.
        rate_multipliers: by pattern of a variable's path (`layer/variable`); the l2 is divided by it.
        frozen_after: by pattern of a variable's path, the step from which it stays as it is.
    """

    def __init__(
        self,
        learning_rate: Any,
        *,
        momentum: float,
        l2: float,
        rate_multipliers: dict[str, float],
        frozen_after: dict[str, int],
    ) -> None:
        super().__init__(learning_rate=learning_rate, name="nesterov_sgd")
        self._momentum = momentum
        self._l2 = l2
        self._rate_multipliers = rate_multipliers
        self._frozen_after = frozen_after

    def build(self, variables: list[Any]) -> None:
        """Create the buffers.

        Raises:
            UsageError: a pattern matches no variable.
        """
        super().build(variables)
        paths = [variable.path for variable in variables]
        _check_patterns(self._rate_multipliers, "rate_multipliers", paths)
        _check_patterns(self._frozen_after, "frozen_after", paths)
        self._buffers = self.add_optimizer_variables(variables, "gradients")
        self._multipliers = [_matching(self._rate_multipliers, path, 1.0) for path in paths]
        self._last_steps = [_matching(self._frozen_after, path, None) for path in paths]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable."""
        index = self._get_variable_index(variable)
        buffer, multiplier, last_step = self._buffers[index], self._multipliers[index], self._last_steps[index]
        gradient = ops.cast(gradient, variable.dtype) + (self._l2 / multiplier) * variable
        self.assign(buffer, self._momentum * buffer + gradient)
        update = ops.cast(learning_rate, variable.dtype) * multiplier * (gradient + self._momentum * buffer)
        if last_step is not None:
            update = ops.where(self.iterations < last_step, update, ops.zeros_like(update))
        self.assign_sub(variable, update)


class Muon(keras.optimizers.Muon):  # type: ignore[misc]
    """Keras's Muon, applied to the kernels of convolutions as well; Keras leaves these to AdamW.

    A kernel (height, width, in, out) is updated as a matrix of height x width x in rows and out columns, as Jordan's
    implementation does (https://kellerjordan.github.io/posts/muon). The last layer's kernel and everything that is
    no kernel are AdamW's, at the same learning rate; biases and the variables of normalisation do not decay.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled, of kernels.
    """

    def __init__(self, learning_rate: Any, weight_decay: float) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, adam_weight_decay=weight_decay)
        self.exclude_from_weight_decay(var_names=NOT_DECAYED)

    def build(self, variables: list[Any]) -> None:
        """Create the buffers; the last kernel among the variables is the last layer's."""
        kernels = [variable.path for variable in variables if len(variable.shape) > 1]
        self._adamw_paths = kernels[-1:]
        super().build(variables)

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) < 2 or variable.path in self._adamw_paths

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign(m, self.momentum * m + gradient)
        update = ops.reshape(gradient + self.momentum * m, (-1, variable.shape[-1]))
        update = self.lr_adjust(self.zeropower_via_newtonschulz5(update, self.ns_steps))
        self.assign_sub(variable, ops.cast(lr, variable.dtype) * ops.reshape(update, variable.shape))


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches a path; some of Keras's models put their name before it."""
    without_model = path.partition("/")[2]
    return fnmatchcase(path, pattern) or fnmatchcase(without_model, pattern)


def _matching(patterns: dict[str, Any], path: str, default: Any) -> Any:
    """Return the value of the first pattern that matches a path."""
    for pattern, value in patterns.items():
        if _matches(path, pattern):
            return value
    return default


def _check_patterns(patterns: dict[str, Any], field: str, paths: list[str]) -> None:
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths):
            raise UsageError(f"{field}: no variable matches '{pattern}'; there are {', '.join(paths)}.")
