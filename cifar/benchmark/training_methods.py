"""Training the same network on the same images with `cifar train` and with the methods that a user would take else.

Each runs in a process of its own. A method takes a Workload and a function to call after every training step, and
trains until that function raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from cifar import networks
from cifar.benchmark import pytorch_training
from cifar.benchmark.workload import Precision, Tick, Workload
from cifar.system import environment, hardware
from cifar.system.environment import BackendName
from cifar.training import backends, loop
from cifar.training.callback import SilentCallback


def cifar(work: Workload, tick: Tick) -> None:
    """`cifar train`: its model, its batches, its step."""
    _train(work, tick, "tensorflow", "cpu")


def cifar_on_jax(work: Workload, tick: Tick) -> None:
    """`cifar train` on JAX, on the GPU where there is one; there a call is an epoch."""
    _train(work, tick, "jax", "gpu" if hardware.gpu() else "cpu")


def _train(work: Workload, tick: Tick, backend: BackendName, device: str) -> None:
    environment.configure(work.threads, device, backend)
    recipe, data = work.recipe.model_copy(update={"backend": backend}), work.whole_batches()
    train_epoch = backends.epoch_trainer(loop.build_and_compile(recipe, data), recipe, data)
    seen = 0

    class TickCallback(SilentCallback):
        def step(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
            nonlocal seen
            del loss, accuracy
            before, seen = seen, (epoch - 1) * len(data.x_train) + images
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
    if work.precision == "bfloat16":
        model = networks.in_bfloat16(model)
    if augmentation:
        model = keras.Sequential([keras.Input((32, 32, 3), dtype="uint8"), *augmentation, model])
    optimizer: Any = "rmsprop"
    if work.recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(1e-3, momentum=work.recipe.momentum, nesterov=True)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=work.recipe.label_smoothing)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def _fit(model: Any, tick: Tick, *data: Any, **options: Any) -> None:
    import keras

    class TickCallback(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del batch, logs
            tick()

    model.fit(*data, epochs=1_000, verbose=0, callbacks=[TickCallback()], **options)


@dataclass(frozen=True)
class TrainingMethod:
    """A method of training.

    Attributes:
        name: in tables.
        run: trains.
        package: what must be installed.
        policies: which it supports.
        batch_sizes: to choose the fastest of; none for that of our recipe.
        precisions: which it supports.
    """

    name: str
    run: Callable[[Workload, Tick], None]
    package: str
    policies: tuple[str, ...]
    batch_sizes: tuple[int, ...] = (128, 256)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")


AUGMENTED = ("shift-flip", "shift-flip-rotate")
OURS, JAX = "cifar", "jax"
TRAINING_METHODS = {
    OURS: TrainingMethod("cifar train", cifar, "tensorflow", ("none", *AUGMENTED), ()),
    JAX: TrainingMethod("cifar train, JAX", cifar_on_jax, "jax", ("none", *AUGMENTED), (), precisions=("float32",)),
    "fit": TrainingMethod("Keras fit", keras_fit, "tensorflow", ("none",)),
    "generator": TrainingMethod("ImageDataGenerator", keras_generator, "tensorflow", AUGMENTED),
    "layers": TrainingMethod("Random* layers", keras_layers, "tensorflow", AUGMENTED),
    "pytorch": TrainingMethod("PyTorch", pytorch_training.train, "torch", ("none", *AUGMENTED)),
}
