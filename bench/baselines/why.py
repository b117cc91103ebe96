"""The figures by which README.md here explains the reference results: `python bench/baselines/why.py RUN...`.

Each RUN is a folder that `cifar train --profile reference` wrote, with its model.keras. Writes why.json: of each run
the test accuracy on shifted images and how many channels of each convolution are dead; where the learning rate is
constant, also the test accuracy after three continued epochs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.metrics import classification
from cifar.runs.loading import load_data, load_keras
from cifar.runs.run import Run
from cifar.system import environment, files
from cifar.training import backends, loop
from cifar.training.callback import SilentCallback

FORMAT_VERSION = 2
WHY = Path(__file__).with_name("why.json")
SHIFTS = (0, 0.1, 0.25, 0.5, 1)  # pixels
RATE_FACTORS = {"same rate": 1.0, "a tenth": 0.1}
CONTINUED_EPOCHS = 3
DEAD_CHANNEL_IMAGES = 2_000  # test images on which a dead channel is 0


def explain(run: Run, data: Dataset) -> dict[str, Any]:
    """Return all figures of one run."""
    model = load_keras(run)
    shifted, continued = {}, {}
    for pixels in SHIFTS:
        shifted[f"{pixels:g}"] = _accuracy(model, shift(data.x_test, pixels), data)
    if run.recipe.schedule == "constant" and not run.recipe.warmup:
        for name, factor in RATE_FACTORS.items():
            continued[name] = continue_training(run, data, model.get_weights(), factor)
    dead = count_dead_channels(model, data.x_test[:DEAD_CHANNEL_IMAGES])
    return {"shifted": shifted, "continued": continued, "dead_channels": dead}


def shift(images: NDArray[np.uint8], pixels: float) -> NDArray[np.uint8]:
    """Shift images, (N, 32, 32, 3), up and to the left: bilinear, the edge repeated, rounded to bytes."""
    padded = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge").astype(np.float32)
    down = (1 - pixels) * padded[:, :-1] + pixels * padded[:, 1:]
    return np.rint((1 - pixels) * down[:, :, :-1] + pixels * down[:, :, 1:]).astype(np.uint8)


def continue_training(run: Run, data: Dataset, weights: list[Any], factor: float) -> list[dict[str, float]]:
    """Train epochs after a run's last, at `factor` times its learning rate, from fresh optimizer state."""
    model = loop.build_and_compile(run.recipe, data)
    model.set_weights(weights)
    model.optimizer.learning_rate = factor * run.recipe.learning_rate
    train_epoch = backends.epoch_trainer(model, run.recipe, data)
    epochs = []
    for number in range(run.recipe.epochs + 1, run.recipe.epochs + 1 + CONTINUED_EPOCHS):
        loss, _ = train_epoch(number, SilentCallback())
        epochs.append({"loss": loss, "test_accuracy": _accuracy(model, data.x_test, data)})
    return epochs


def count_dead_channels(model: Any, images: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Return, for each convolution, how many of its channels are 0 everywhere in every image, and how many it has."""
    import keras

    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    counts = {}
    for layer in convolutions:
        activations = keras.Model(model.inputs, layer.output)
        largest = np.zeros(layer.filters)
        for batch in np.split(images, 10):
            features = activations.predict_on_batch(batch)
            largest = np.maximum(largest, features.max(axis=(0, 1, 2)))
        counts[layer.name] = [int((largest <= 0).sum()), len(largest)]
    return counts


def _accuracy(model: Any, images: NDArray[np.uint8], data: Dataset) -> float:
    probabilities = classification.predict(networks.predictor(model), images)
    return classification.score(probabilities, data.y_test).accuracy


def main(*folders: str) -> None:
    """Explain some runs, some three minutes each; the figures of other runs in why.json stay."""
    environment.configure(threads=2)
    commit = environment.commit()  # before why.json changes the tree
    for folder in folders:
        print(folder, flush=True)
        run = Run(Path(folder))
        data = load_data(run, None, print)
        content = json.loads(WHY.read_text()) if WHY.exists() else {"format_version": FORMAT_VERSION, "runs": {}}
        content["runs"][run.path.name] = {"commit": commit, **explain(run, data)}
        content["runs"] = dict(sorted(content["runs"].items()))
        files.write(WHY, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CifarError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
