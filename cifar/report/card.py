"""The model card of an exported run: training data, accuracy, weaknesses, and how to check them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cifar.analysis.finished_run import FinishedRun
from cifar.formats.manifest import ManifestEntry
from cifar.report.captions import caption_of
from cifar.report.table import markdown_table

MAX_CONFUSIONS = 5
TASK = "image-classification"
CARD = """---
{front_matter}---

# {name}

`{network}` ({parameters:,} parameters), trained for {epochs} epochs at batch {batch_size} on {n_train:,} images,
augmentation `{augment}`, seed {seed}. {data}

**Test accuracy {accuracy:.2%}** ({correct:,} of {n_test:,}; 95 % over test images {low:.1%} to {high:.1%}){last_5}.
Clean training images: {train_accuracy_clean:.2%}. Calibration error {ece:.3f}.

{files}

change: points of test accuracy against the Keras model. same class: share of the test images in the same class as it.

## Where it fails

{classes}

Most frequent confusions: {confusions}.

It is meant for comparing networks, formats and runtimes. It knows ten classes and pictures of 32x32 pixels, predicts
one of them for any picture, and its confidence is worth what the calibration error says.

## How to check it

In this folder, where the data is at hand,

```sh
{commands}
```

gives the accuracies above, and refuses a file that is not the one of the manifest. `cifar verify` on the run's folder
trains it again. SHA-256 of its weights:
`{weights_sha256}`, of the Keras model's probabilities on the test set:
`{probabilities_sha256}`.

{digests}
"""
HUB_DATA_SETS = {"cifar10": ("uoft-cs/cifar10", "CIFAR-10")}
"""By the name of a data set: its identifier on the Hugging Face hub, and its name there."""
FILE_COLUMNS = ("file", "precision", "bytes>", "test accuracy>", "change>", "same class>")


def markdown(result: FinishedRun, entries: Sequence[ManifestEntry]) -> str:
    """Return the model card of a finished run's exports.

    Args:
        result: the run.
        entries: of the manifest, those of its files.
    """
    low, high = result.scores.interval
    return CARD.format(
        **result.metrics.model_dump(),
        front_matter=_front_matter(result, entries),
        name=result.run.path.name,
        batch_size=result.run.recipe.batch_size,
        data=caption_of(result.metrics),
        low=low,
        high=high,
        last_5=_last_epochs(result.metrics.accuracy_mean_last_5_epochs),
        classes=_class_table(result.metrics.per_class),
        confusions=_confusions(result),
        **_file_sections(entries, result.metrics.accuracy),
    )


def _front_matter(result: FinishedRun, entries: Sequence[ManifestEntry]) -> str:
    """Return the metadata of a card in YAML (https://huggingface.co/docs/hub/model-cards): accuracies are shares."""
    import yaml

    dataset = result.metrics.dataset
    identifier, name = HUB_DATA_SETS.get(dataset, (dataset, dataset))
    if result.metrics.official is False and dataset in HUB_DATA_SETS:
        name += ", a copy that is not bit for bit the published one"
    metrics = [_metric("test accuracy", result.metrics.accuracy)]
    for entry in sorted(entries, key=lambda entry: entry.format):
        metrics.append(_metric(f"test accuracy, {entry.format}", entry.accuracy))
    evaluation = {
        "task": {"type": TASK},
        "dataset": {"type": identifier, "name": name, "split": "test"},
        "metrics": metrics,
    }
    metadata: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "keras",
        "pipeline_tag": TASK,
        "tags": ["cifar-bench", *sorted({entry.format for entry in entries})],
        "metrics": ["accuracy"],
        "model-index": [{"name": result.run.path.name, "results": [evaluation]}],
    }
    if dataset in HUB_DATA_SETS:
        metadata["datasets"] = [identifier]
    text: str = yaml.safe_dump(metadata, sort_keys=False, width=1000)
    return text


def _metric(name: str, accuracy: float) -> dict[str, Any]:
    return {"type": "accuracy", "value": accuracy, "name": name}


def _last_epochs(accuracy: float | None) -> str:
    if accuracy is None:
        return ""
    return f"; mean of the last five epochs {accuracy:.2%}"


def _class_table(per_class: dict[str, float]) -> str:
    rows = []
    for name, accuracy in per_class.items():
        rows.append((name, f"{accuracy:.1%}"))
    return markdown_table(("class", "test accuracy>"), rows)


def _file_sections(entries: Sequence[ManifestEntry], accuracy: float) -> dict[str, str]:
    """Return the sections about the files: a table, their digests, the commands that check them."""
    rows, digests, commands = [], [], []
    for entry in sorted(entries, key=lambda entry: entry.file):
        row = (
            f"`{entry.file}`",
            entry.precision,
            f"{entry.bytes:,}",
            f"{entry.accuracy:.2%}",
            f"{(entry.accuracy - accuracy) * 100:+.2f}",
            f"{entry.agreement:.2%}",
        )
        rows.append(row)
        digests.append((f"`{entry.file}`", f"`{entry.sha256}`"))
        commands.append(f"cifar evaluate {entry.file}")
    return {
        "files": markdown_table(FILE_COLUMNS, rows),
        "digests": markdown_table(("file", "SHA-256"), digests),
        "commands": "\n".join(commands),
    }


def _confusions(result: FinishedRun) -> str:
    """Return the most frequent misclassifications."""
    names = list(result.metrics.per_class)
    wrong = result.scores.confusion - np.diag(result.scores.confusion.diagonal())
    most_frequent = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS]
    phrases = []
    for place in most_frequent:
        true, predicted = divmod(int(place), len(names))
        phrases.append(f"{names[true]} taken for {names[predicted]} ({wrong[true, predicted]})")
    return ", ".join(phrases)
