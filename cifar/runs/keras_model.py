"""A finished run's model, as Keras has it."""

from typing import Any

from cifar import networks
from cifar.errors import UsageError, first_line
from cifar.runs.run import Run


def load_keras(run: Run) -> Any:
    """Build a run's network and fill it with the weights of its model.keras; nothing else of the file is trusted.

    Raises:
        UsageError: the file is not there or damaged, the network is no longer the one that was trained, or the
            weights are not those that were scored.
    """
    path = run.path / "model.keras"
    if not path.exists():
        raise UsageError(
            f"{path}: it is not there; `cifar train` makes it again from this recipe, in another folder."
        )
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
