"""The card of an exported model: what it was trained on, how good it is and where not, how to check that."""

from collections.abc import Sequence

import numpy as np

from cifar.analysis.finished_run import Result
from cifar.formats.manifest import ManifestEntry
from cifar.report.table import markdown_table
from cifar.report.tables import caption_of

WORST = 5  # confusions named
CARD = """# {name}

`{network}` ({parameters:,} parameters), trained for {epochs} epochs at batch {batch_size} on {n_train:,} images,
augmentation `{augment}`, seed {seed}. {data}

**Test accuracy {accuracy:.2%}** ({correct:,} of {n_test:,}; 95 % over test images {low:.1%} to {high:.1%}){late}.
Clean training images: {train_accuracy_clean:.2%}. Calibration error {ece:.3f}.

{files}

change: points of test accuracy against the Keras model. same class: share of the test images in the same class as it.

## Where it fails

{classes}

Most frequent confusions: {confusions}.

It was made to compare networks, formats and runtimes. It knows ten classes and pictures of 32x32 pixels, answers
something for any picture, and its confidence is worth what the calibration error says.

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
FILES = ("file", "precision", "bytes>", "test accuracy>", "change>", "same class>")


def markdown(result: Result, lines: Sequence[ManifestEntry]) -> str:
    """The card of a finished run's exports.

    Args:
        result: the run.
        lines: of the manifest, those of its files.
    """
    metrics, late = result.metrics, result.metrics.accuracy_mean_last_5_epochs
    low, high = result.scores.interval
    lines = sorted(lines, key=lambda line: line.file)
    return CARD.format(
        **metrics.model_dump(),
        name=result.run.path.name,
        batch_size=result.run.recipe.batch_size,
        data=caption_of(metrics),
        low=low,
        high=high,
        late="" if late is None else f"; mean of the last five epochs {late:.2%}",
        files=markdown_table(FILES, [_file(line, metrics.accuracy) for line in lines]),
        digests=markdown_table(("file", "SHA-256"), [(f"`{line.file}`", f"`{line.sha256}`") for line in lines]),
        classes=markdown_table(
            ("class", "test accuracy>"), [(n, f"{share:.1%}") for n, share in metrics.per_class.items()]
        ),
        confusions=_confusions(result),
        commands="\n".join(f"cifar evaluate {line.file}" for line in lines),
    )


def _file(line: ManifestEntry, accuracy: float) -> tuple[str, ...]:
    return (
        f"`{line.file}`",
        line.precision,
        f"{line.bytes:,}",
        f"{line.accuracy:.2%}",
        f"{(line.accuracy - accuracy) * 100:+.2f}",
        f"{line.agreement:.2%}",
    )


def _confusions(result: Result) -> str:
    """The most frequent wrong answers, in words."""
    names = list(result.metrics.per_class)
    wrong = result.scores.confusion - np.diag(result.scores.confusion.diagonal())
    places = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    pairs = [divmod(int(place), len(names)) for place in places]
    return ", ".join(f"{names[true]} taken for {names[said]} ({wrong[true, said]})" for true, said in pairs)
