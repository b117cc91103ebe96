"""What a run was trained on and what it ended with: its data set and its Keras model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cifar import networks
from cifar.data import dataset
from cifar.data.dataset import Dataset
from cifar.errors import UsageError, first_line
from cifar.runs.run import Run


def load_keras(run: Run) -> Any:
    """Return a run's network, built from its name, with the weights of its model.keras; the file's code is not run.

    Raises:
        UsageError: the file is missing or damaged, the network is no longer the one that was trained, or the
            weights are not those that metrics.json scored.
    """
    path = run.path / "model.keras"
    if not path.exists():
        raise UsageError(f"{path}: not found; `cifar train` trains it again from this recipe, in another folder.")
    model = networks.build_with_fresh_names(run.recipe.network)
    if networks.architecture_sha256(model) != run.identity.network_sha256:
        raise UsageError(f"{run.path}: the network '{run.recipe.network}' is no longer the one that was trained.")
    try:
        model.load_weights(path)
    except Exception as error:  # a damaged zip raises many kinds
        raise UsageError(f"{path}: cannot be loaded: {first_line(error)}") from error
    if networks.weights_sha256(model) != run.metrics.weights_sha256:
        raise UsageError(f"{path}: its weights are not those that metrics.json scored.")
    return model


def load_data(run: Run, data_dir: Path | None, note: Callable[[str], None]) -> Dataset:
    """Return the data set that a run was trained on; arguments and further errors as of `dataset.by_name`.

    Raises:
        UsageError: the data set on this machine has another digest, or the run scored held-out training images.
    """
    run.require_test_scores()
    name, recorded = run.recipe.dataset, run.identity.data_sha256
    data = dataset.by_name(name, data_dir, note)
    if data.sha256 != recorded:
        raise UsageError(
            f"{run.path} was trained on {name} with digest {recorded[:16]}…, "
            f"the {name} here has {data.sha256[:16]}…: its test set may differ."
        )
    return data
