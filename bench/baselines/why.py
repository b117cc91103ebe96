"""The figures by which README.md here explains the reference results: `python bench/baselines/why.py RUN...`.

Each RUN is a folder that `cifar train --profile reference` has left, with its model.keras. Writes why.json: of each
run the test accuracy on moved images, and after further epochs; how many channels of each convolution never answer.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar import networks
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import CifarError
from cifar.metrics import classification
from cifar.runs.loading import load_keras
from cifar.runs.run import Run
from cifar.system import environment, files
from cifar.training import backends, loop
from cifar.training.callback import SilentCallback

WHY = Path(__file__).with_name("why.json")
MOVES = (0, 0.1, 0.25, 0.5, 1)  # pixels
RATES = {"same rate": 1.0, "a tenth": 0.1}
FURTHER = 3  # epochs
LOOKED_AT = 2_000  # test images, for channels that never answer


def explain(run: Run, data: Dataset) -> dict[str, Any]:
    """All of it for one run."""
    model = load_keras(run)
    return {
        "moved": {f"{by:g}": _accuracy(model, moved(data.x_test, by), data) for by in MOVES},
        "further": {name: further(run, data, model.get_weights(), factor) for name, factor in RATES.items()},
        "silent": silent(model, data.x_test[:LOOKED_AT]),
    }


def moved(images: NDArray[np.uint8], by: float) -> NDArray[np.uint8]:
    """Images, (N, 32, 32, 3), moved up and to the left: bilinear, the edge repeated, rounded to bytes."""
    padded = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge").astype(np.float32)
    down = (1 - by) * padded[:, :-1] + by * padded[:, 1:]
    return np.rint((1 - by) * down[:, :, :-1] + by * down[:, :, 1:]).astype(np.uint8)


def further(run: Run, data: Dataset, weights: list[Any], factor: float) -> list[dict[str, float]]:
    """The epochs after a run's last, at `factor` times its learning rate, from fresh optimizer state."""
    model = loop.build_and_compile(run.recipe)
    model.set_weights(weights)
    model.optimizer.learning_rate = factor * run.recipe.learning_rate
    train_on = backends.epoch_trainer(model, run.recipe, data)
    epochs = []
    for number in range(run.recipe.epochs + 1, run.recipe.epochs + 1 + FURTHER):
        loss, _ = train_on(number, SilentCallback())
        epochs.append({"loss": loss, "test_accuracy": _accuracy(model, data.x_test, data)})
    return epochs


def silent(model: Any, images: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Of each convolution: how many of its channels are 0 everywhere in every image, and how many it has."""
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    looking = keras.Model(model.inputs, [layer.output for layer in layers])
    found = [looking.predict_on_batch(part) for part in np.split(images, 10)]
    largest = [np.max([part.max(axis=(0, 1, 2)) for part in parts], axis=0) for parts in zip(*found, strict=True)]
    return {layer.name: [int((top <= 0).sum()), len(top)] for layer, top in zip(layers, largest, strict=True)}


def _accuracy(model: Any, images: NDArray[np.uint8], data: Dataset) -> float:
    return classification.score(classification.predict(networks.predictor(model), images), data.y_test).accuracy


def main(*folders: str) -> None:
    """Explain some runs, some three minutes each; what why.json tells of others stays."""
    environment.configure(threads=2)
    data = dataset.load_cifar10(None, print, download=False)
    commit = environment.commit()  # before why.json changes the tree
    for folder in folders:
        print(folder, flush=True)
        run = Run(Path(folder))
        known = json.loads(WHY.read_text()) if WHY.exists() else {"format_version": 1, "runs": {}}
        known["runs"][run.path.name] = {"commit": commit, **explain(run, data)}
        known["runs"] = dict(sorted(known["runs"].items()))
        files.write(WHY, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CifarError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
