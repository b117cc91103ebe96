"""Training the same network on the same images with `cifar train` and with the methods that a user would take else.

Each runs in a process of its own. A method takes a Workload and a function to call after every training step, and
trains until that function raises.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data import dataset
from cifar.recipes import POLICIES, Policy, Recipe, recipe
from cifar.system import environment, hardware
from cifar.training import backends, loop, step
from cifar.training.backends.tensorflow import batches
from cifar.training.callback import SilentCallback

N_IMAGES = 50_000  # as many as CIFAR-10 has: synthetic pictures, repeated
WARM_UP_STEPS = 12  # before every measurement: more than Keras's generators prefetch
TRIAL_STEPS = 8  # for which a batch size is tried


class Tick(Protocol):
    """Is called after every step; or after some of them, with the number of their images."""

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        network: by name.
        policy: the augmentation.
        batch_size: images per step.
        threads: of the arithmetic.
        images, labels: uint8, (50000, 32, 32, 3) and (50000,).
    """

    network: str
    policy: Policy
    batch_size: int
    threads: int
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @property
    def targets(self) -> NDArray[np.float32]:
        """The labels one-hot, (50000, 10)."""
        return np.eye(10, dtype=np.float32)[self.labels]

    @property
    def recipe(self) -> Recipe:
        """The recipe of `cifar train` for this workload, on TensorFlow."""
        full = recipe(self.network, self.policy.name, profile="reference", dataset="synthetic", threads=self.threads)
        return full.model_copy(update={"batch_size": self.batch_size})

    def first(self, n: int) -> dataset.Dataset:
        """Return the first n images as a data set for `cifar train`."""
        images, labels = self.images[:n], self.labels[:n]
        return dataset.Dataset("synthetic", None, (), images, labels, images[:1], labels[:1])


def cifar(work: Workload, tick: Tick) -> None:
    """`cifar train`: its model, its batches, its step."""
    environment.configure(work.threads)
    data = work.first(len(work.images))
    train_step = step.compile_step(loop.build_and_compile(work.recipe, data))
    for epoch in count(1):
        for images, targets in batches(work.recipe, data, epoch):
            train_step(images, targets)
            tick()


def cifar_on_jax(work: Workload, tick: Tick) -> None:
    """`cifar train` on JAX, on the GPU where there is one; there a call is an epoch, without its partial batch."""
    environment.configure(work.threads, "gpu" if hardware.gpu() else "cpu", "jax")
    n = len(work.images) // work.batch_size * work.batch_size
    on_jax = work.recipe.model_copy(update={"backend": "jax"})
    data = work.first(n)
    train_epoch = backends.epoch_trainer(loop.build_and_compile(on_jax, data), on_jax, data)
    seen = 0

    class TickCallback(SilentCallback):
        def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
            nonlocal seen
            del loss, accuracy
            before, seen = seen, (epoch - 1) * n + images
            tick(seen - before)

    for epoch in count(1):
        train_epoch(epoch, TickCallback())


def keras_fit(work: Workload, tick: Tick) -> None:
    """Keras `fit` on arrays."""
    _fit(_compile(work, []), tick, work.images, work.targets, batch_size=work.batch_size)


def keras_generator(work: Workload, tick: Tick) -> None:
    """Keras `fit` fed by ImageDataGenerator."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    policy = work.policy
    generator = ImageDataGenerator(
        horizontal_flip=policy.horizontal_flip,
        vertical_flip=policy.vertical_flip,
        height_shift_range=policy.shift,
        width_shift_range=policy.shift,
        rotation_range=policy.rotation,
    )
    batches = generator.flow(work.images, work.targets, batch_size=work.batch_size)
    _fit(_compile(work, []), tick, batches)


def keras_layers(work: Workload, tick: Tick) -> None:
    """Keras `fit` on arrays, augmented by keras.layers.Random* in front of the network."""
    from keras import layers

    policy = work.policy
    augmentation: list[Any] = []
    if policy.rotation:
        augmentation.append(layers.RandomRotation(policy.rotation / 360, fill_mode="nearest"))
    if policy.shift:
        augmentation.append(layers.RandomTranslation(policy.shift, policy.shift, fill_mode="nearest"))
    if policy.horizontal_flip:
        augmentation.append(layers.RandomFlip("horizontal"))
    _fit(_compile(work, augmentation), tick, work.images, work.targets, batch_size=work.batch_size)


def _compile(work: Workload, augmentation: list[Any]) -> Any:
    """The network behind other layers, as a user compiles it: Keras's defaults, no deterministic operations.

    TensorFlow takes the number of threads from the environment variables of the process.
    """
    import keras

    model = networks.build(work.network)
    if augmentation:
        model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *augmentation, model])
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model: Any, tick: Tick, *data: Any, **options: Any) -> None:
    import keras

    class TickCallback(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            tick()

    model.fit(*data, epochs=1_000, verbose=0, callbacks=[TickCallback()], **options)


def pytorch(work: Workload, tick: Tick) -> None:
    """PyTorch, channels last."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(work.threads)
    model = pytorch_network(work.network)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    images, labels = torch.from_numpy(work.images), torch.from_numpy(work.labels.astype(np.int64))
    while True:
        for index in torch.randperm(len(images)).split(work.batch_size):
            batch = images[index].permute(0, 3, 1, 2).float().div_(255)  # channels last in memory
            outputs = model(_augment_in_pytorch(batch, work.policy))
            loss = functional.cross_entropy(outputs, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            tick()


def pytorch_network(name: str) -> Any:
    """Return a reference network in PyTorch."""
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


def _augment_in_pytorch(images: Any, policy: Policy) -> Any:
    """Shift, rotation and flip as one bilinear resampling of a float batch (N, 3, 32, 32)."""
    import torch
    from torch.nn import functional

    if policy.name == "none":
        return images
    n = len(images)
    angle = torch.empty(n).uniform_(-1, 1) * policy.rotation * torch.pi / 180
    mirror = torch.ones(n)
    if policy.horizontal_flip:
        mirror = 1 - 2 * torch.randint(0, 2, (n,)).float()
    shift = torch.empty(2, n).uniform_(-2, 2) * policy.shift
    first_row = torch.stack([angle.cos() * mirror, -angle.sin(), shift[0]], dim=1)
    second_row = torch.stack([angle.sin() * mirror, angle.cos(), shift[1]], dim=1)
    matrices = torch.stack([first_row, second_row], dim=1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    resampled = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return resampled.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrainingMethod:
    """A method of training.

    Attributes:
        name: in tables.
        run: trains.
        package: what must be installed.
        policies: which it supports.
        batch_sizes: to choose the fastest of; none for that of our recipe.
        plain: the key of the same method without augmentation; none for itself.
    """

    name: str
    run: Callable[[Workload, Tick], None]
    package: str
    policies: tuple[str, ...]
    batch_sizes: tuple[int, ...] = (128, 256)
    plain: str = ""


AUGMENTED = ("shift-flip", "shift-flip-rotate")
OURS, JAX = "cifar", "jax"
TRAINING_METHODS = {
    OURS: TrainingMethod("cifar train", cifar, "tensorflow", ("none", *AUGMENTED), ()),
    JAX: TrainingMethod("cifar train, JAX", cifar_on_jax, "jax", ("none", *AUGMENTED), ()),
    "fit": TrainingMethod("Keras fit", keras_fit, "tensorflow", ("none",)),
    "generator": TrainingMethod("fit, ImageDataGenerator", keras_generator, "tensorflow", AUGMENTED, plain="fit"),
    "layers": TrainingMethod("fit, Random* layers", keras_layers, "tensorflow", AUGMENTED, plain="fit"),
    "pytorch": TrainingMethod("PyTorch, channels last", pytorch, "torch", ("none", *AUGMENTED)),
}


class _EnoughStepsError(Exception):
    """Ends a trial of a batch size."""


class Stopwatch:
    """A Tick that lets some steps warm up, hands over the seconds of the next ones, and begins again.

    Attributes:
        images: of a tick.
    """

    def __init__(self, batch_size: int, steps: int, report: Callable[[list[float]], None]) -> None:
        self.images, self._batch_size, self._steps, self._report = batch_size, batch_size, steps, report
        self._times: list[float] = []
        self._warmed_up = 0

    def __call__(self, images: int | None = None) -> None:
        """Note the time."""
        self.images = images or self._batch_size
        self._times.append(time.perf_counter())
        if self._warmed_up < WARM_UP_STEPS:
            self._warmed_up += 1
            self._times.clear()
        elif len(self._times) > self._steps:
            self._report(np.diff(self._times).tolist())
            self._times.clear()
            self._warmed_up = 0


@dataclass(frozen=True)
class TrainingJob:
    """What a worker times.

    Attributes:
        method: a key of TRAINING_METHODS.
        network, policy: by name.
        threads: of the arithmetic.
        steps: timed in a round.
    """

    method: str
    network: str
    policy: str
    threads: int
    steps: int


def try_batch_sizes(job: TrainingJob, batch_sizes: Sequence[int]) -> dict[int, float]:
    """Return the images/s of a few steps at each batch size."""
    train = _training_function(job)
    speeds = {}
    for batch_size in batch_sizes:
        speeds[batch_size] = _trial_speed(train, batch_size)
    return speeds


def measure(job: TrainingJob, batch_size: int, exchange: Callable[[Any], None]) -> None:
    """Time a method's training steps at one batch size, in rounds for as long as they are wanted.

    Nothing but the method is loaded or built in this process, whose peak memory is a column.

    Args:
        job: what is timed.
        batch_size: images per step.
        exchange: is given a dict: `memory_bytes`, the peak of the process so far; the `seconds` of a round's ticks
            and the `images` of each; the `device`.
    """

    def report(seconds: list[float]) -> None:
        memory = hardware.peak_memory()
        device = "gpu" if job.method == JAX and hardware.gpu() else "cpu"
        exchange({"memory_bytes": memory, "seconds": seconds, "images": stopwatch.images, "device": device})

    stopwatch = Stopwatch(batch_size, job.steps, report)
    _training_function(job)(batch_size, stopwatch)


def _training_function(job: TrainingJob) -> Callable[[int, Tick], None]:
    """Return a function that trains at a batch size, until its tick raises."""
    if job.method != JAX:
        os.environ.update(environment.BACKENDS["tensorflow"].settings)
    drawn = dataset.draw_synthetic()
    images = np.resize(drawn.x_train, (N_IMAGES, *drawn.x_train.shape[1:]))
    labels = np.resize(drawn.y_train, N_IMAGES)

    def train(batch_size: int, tick: Tick) -> None:
        work = Workload(job.network, POLICIES[job.policy], batch_size, job.threads, images, labels)
        TRAINING_METHODS[job.method].run(work, tick)

    return train


def _trial_speed(train: Callable[[int, Tick], None], batch_size: int) -> float:
    """Images/s of a few steps at a batch size."""
    samples: list[float] = []

    def stop(seconds: list[float]) -> None:
        samples.extend(seconds)
        raise _EnoughStepsError

    with contextlib.suppress(_EnoughStepsError):
        train(batch_size, Stopwatch(batch_size, TRIAL_STEPS, stop))
    return batch_size / float(np.median(samples))
