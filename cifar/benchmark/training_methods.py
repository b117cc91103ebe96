"""Ways to train the same network on the same images: ours, and those that a user would go otherwise.

Each runs in a process of its own (cifar.benchmark.worker). A way takes a Work and a function to call after every training step,
and trains until that function raises.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data import dataset
from cifar.recipes import POLICIES, Policy, recipe
from cifar.system import environment, hardware
from cifar.training import backends, loop, step
from cifar.training.backends.tensorflow import batches
from cifar.training.callback import SilentCallback

IMAGES = 50_000  # as many as CIFAR-10 has: synthetic pictures, repeated
WARM_UP = 12  # steps before every measurement: more than Keras's generators have ready from before
SWEEP = 8  # steps for which a batch size is tried


class Tick(Protocol):
    """What a way calls after every step; or after some of them, with the number of their images."""

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        network: by name.
        policy: the augmentation.
        batch: images per step.
        threads: of the arithmetic.
        images, labels: uint8, (50000, 32, 32, 3) and (50000,).
    """

    network: str
    policy: Policy
    batch: int
    threads: int
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @property
    def targets(self) -> NDArray[np.float32]:
        """The labels one-hot, (50000, 10)."""
        return np.eye(10, dtype=np.float32)[self.labels]


def cifar(work: Work, tick: Tick) -> None:
    """`cifar train`: its model, its batches, its step."""
    environment.configure(work.threads)
    wanted = recipe(work.network, work.policy.name, profile="reference", dataset="synthetic", threads=work.threads)
    wanted = wanted.model_copy(update={"batch_size": work.batch})
    whole = dataset.Dataset("synthetic", None, (), work.images, work.labels, work.images[:1], work.labels[:1])
    advance = step.compiled(loop.build_and_compile(wanted))
    for epoch in count(1):
        for images, targets in batches(wanted, whole, epoch):
            advance(images, targets)
            tick()


def on_jax(work: Work, tick: Tick) -> None:
    """`cifar train` on JAX, on the GPU where there is one; there a call is an epoch, without its partial batch."""
    environment.configure(work.threads, "gpu" if hardware.gpu() else "cpu", "jax")
    n = len(work.images) // work.batch * work.batch
    wanted = recipe(work.network, work.policy.name, profile="reference", dataset="synthetic", backend="jax")
    wanted = wanted.model_copy(update={"batch_size": work.batch, "threads": work.threads})
    whole = dataset.Dataset("synthetic", None, (), work.images[:n], work.labels[:n], work.images[:1], work.labels[:1])
    train_on = backends.epoch_trainer(loop.build_and_compile(wanted), wanted, whole)
    seen = 0

    class Tell(SilentCallback):
        def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
            nonlocal seen
            del loss, accuracy
            before, seen = seen, (epoch - 1) * n + images
            tick(seen - before)

    for epoch in count(1):
        train_on(epoch, Tell())


def keras_fit(work: Work, tick: Tick) -> None:
    """Keras `fit` on arrays."""
    _fit(_compiled(work, []), tick, work.images, work.targets, batch_size=work.batch)


def keras_generator(work: Work, tick: Tick) -> None:
    """Keras `fit` fed by ImageDataGenerator."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    model, policy = _compiled(work, []), work.policy
    generator = ImageDataGenerator(
        horizontal_flip=policy.horizontal_flip,
        vertical_flip=policy.vertical_flip,
        height_shift_range=policy.shift,
        width_shift_range=policy.shift,
        rotation_range=policy.rotation,
    )
    _fit(model, tick, generator.flow(work.images, work.targets, batch_size=work.batch))


def keras_layers(work: Work, tick: Tick) -> None:
    """Keras `fit` on arrays, the augmentation made by keras.layers.Random* in front of the network."""
    from keras import layers

    policy = work.policy
    stack = [
        *([layers.RandomRotation(policy.rotation / 360, fill_mode="nearest")] if policy.rotation else []),
        *([layers.RandomTranslation(policy.shift, policy.shift, fill_mode="nearest")] if policy.shift else []),
        *([layers.RandomFlip("horizontal")] if policy.horizontal_flip else []),
    ]
    _fit(_compiled(work, stack), tick, work.images, work.targets, batch_size=work.batch)


def _compiled(work: Work, before: list[Any]) -> Any:
    """The network behind other layers, as a user compiles it: Keras's defaults, no deterministic operations.

    TensorFlow takes the number of threads from the environment that cifar.benchmark.processes sets.
    """
    import keras

    network = networks.build(work.network)
    model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *before, network]) if before else network
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model: Any, tick: Tick, *data: Any, **options: Any) -> None:
    import keras

    class Tell(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            tick()

    model.fit(*data, epochs=1_000, verbose=0, callbacks=[Tell()], **options)


def pytorch(work: Work, tick: Tick) -> None:
    """PyTorch, channels last."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(work.threads)
    model = pytorch_network(work.network)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    images, labels = torch.from_numpy(work.images), torch.from_numpy(work.labels.astype(np.int64))
    while True:
        for index in torch.randperm(len(images)).split(work.batch):
            batch = images[index].permute(0, 3, 1, 2).float().div_(255)  # channels last in memory
            loss = functional.cross_entropy(model(_moved(batch, work.policy)), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            tick()


def pytorch_network(name: str) -> Any:
    """A reference network in PyTorch."""
    import torch
    from torch import nn

    stack: list[Any] = []
    width = 3
    for filters in networks.NETWORKS[name].filters:
        stack += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3), nn.ReLU()]
        stack += [nn.MaxPool2d(2), nn.Dropout(0.25)]
        width = filters
    stack += [nn.Flatten(), nn.Linear(4 * width, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
    return nn.Sequential(*stack).to(memory_format=torch.channels_last)


def _moved(images: Any, policy: Policy) -> Any:
    """Shift, rotation and flip as one bilinear resampling of a float batch (N, 3, 32, 32) in PyTorch."""
    import torch
    from torch.nn import functional

    if policy.name == "none":
        return images
    n = len(images)
    angle = torch.empty(n).uniform_(-1, 1) * policy.rotation * torch.pi / 180
    mirror = 1 - 2 * torch.randint(0, 2, (n,)).float() if policy.horizontal_flip else torch.ones(n)
    shift = torch.empty(2, n).uniform_(-2, 2) * policy.shift
    first = torch.stack([angle.cos() * mirror, -angle.sin(), shift[0]], dim=1)
    second = torch.stack([angle.sin() * mirror, angle.cos(), shift[1]], dim=1)
    grid = functional.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrainingMethod:
    """A way to train.

    Attributes:
        name: in tables.
        run: trains.
        package: what must be installed.
        policies: which it can do.
        batches: sizes to choose the best of; none for that of our recipe.
        plain: the way that does the same without augmentation, by key; none for itself.
    """

    name: str
    run: Callable[[Work, Tick], None]
    package: str
    policies: tuple[str, ...]
    batches: tuple[int, ...] = (128, 256)
    plain: str = ""


AUGMENTED = ("shift-flip", "shift-flip-rotate")
OURS, JAX = "cifar", "jax"
TRAINING_METHODS = {
    OURS: TrainingMethod("cifar train", cifar, "tensorflow", ("none", *AUGMENTED), ()),
    JAX: TrainingMethod("cifar train, JAX", on_jax, "jax", ("none", *AUGMENTED), ()),
    "fit": TrainingMethod("Keras fit", keras_fit, "tensorflow", ("none",)),
    "generator": TrainingMethod("fit, ImageDataGenerator", keras_generator, "tensorflow", AUGMENTED, plain="fit"),
    "layers": TrainingMethod("fit, Random* layers", keras_layers, "tensorflow", AUGMENTED, plain="fit"),
    "pytorch": TrainingMethod("PyTorch, channels last", pytorch, "torch", ("none", *AUGMENTED)),
}


class _DoneError(Exception):
    """Enough steps."""


class Stopwatch:
    """A Tick that lets steps pass until the times settle, hands over the seconds of the next ones, and begins again.

    Attributes:
        images: of a tick.
    """

    def __init__(self, batch: int, steps: int, done: Callable[[list[float]], None]) -> None:
        self.images, self._batch, self._steps, self._done = batch, batch, steps, done
        self._times: list[float] = []
        self._settled = 0

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""
        self.images = images or self._batch
        self._times.append(time.perf_counter())
        if self._settled < WARM_UP:
            self._settled += 1
            self._times.clear()
        elif len(self._times) > self._steps:
            self._done(np.diff(self._times).tolist())
            self._times.clear()
            self._settled = 0


def measure(
    way: str,
    network: str,
    policy: str,
    batches: list[int],
    threads: int,
    steps: int,
    exchange: Callable[[Any], None],
) -> None:
    """Time a way's training steps, at the best of some batch sizes, in rounds for as long as they are wanted.

    Args:
        way, network, policy: by name.
        batches: sizes to try.
        threads: of the arithmetic.
        steps: timed in a round.
        exchange: is given a dict: `batch`; the `seconds` of a round's ticks and the `images` of each; the `device`;
            `tried`, the images/s of each size; `memory_bytes`, the peak of the process so far; `flop_per_image` of a
            training step.
    """
    if way != JAX:
        os.environ.update(environment.BACKENDS["tensorflow"].settings)
    drawn = dataset.draw_synthetic()
    images = np.resize(drawn.x_train, (IMAGES, *drawn.x_train.shape[1:]))
    labels = np.resize(drawn.y_train, IMAGES)

    def train(batch: int, tick: Tick) -> None:
        TRAINING_METHODS[way].run(Work(network, POLICIES[policy], batch, threads, images, labels), tick)

    tried = {batch: _speed(train, batch) for batch in batches} if len(batches) > 1 else {}
    best = max(tried, key=lambda batch: tried[batch]) if tried else batches[0]

    def report(seconds: list[float]) -> None:
        flop = networks.training_flop(networks.build(network))
        facts = {"batch": best, "tried": tried, "flop_per_image": flop, "memory_bytes": hardware.peak_memory()}
        device = "gpu" if way == JAX and hardware.gpu() else "cpu"
        exchange({**facts, "seconds": seconds, "images": callback.images, "device": device})

    callback = Stopwatch(best, steps, report)
    train(best, callback)


def _speed(train: Callable[[int, Tick], None], batch: int) -> float:
    """Images/s of a few steps at a batch size."""
    found: list[float] = []

    def enough(seconds: list[float]) -> None:
        found.extend(seconds)
        raise _DoneError

    with contextlib.suppress(_DoneError):
        train(batch, Stopwatch(batch, SWEEP, enough))
    return batch / float(np.median(found))
