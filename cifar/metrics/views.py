"""Test-time augmentation: several views of each image are predicted, and their log-probabilities averaged.

That of airbench94 (Jordan 2024, arXiv 2404.00498, section 3.5) averages logits. Log-probabilities are logits less a
constant for each view, which the softmax of their average ignores: the result is the same, and no logits are needed.
Only where a probability is below MIN_PROBABILITY does it differ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar.metrics.classification import CLASSES, Probabilities

MIN_PROBABILITY = 1e-7  # as of the loss: a probability of 0 is one of an 8-bit output, and no veto
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """A view of an image.

    Attributes:
        weight: of its log-probabilities.
        mirrored: left and right are swapped.
        shift: pixels by which the picture moves up and left; its edges are filled by reflection.
    """

    weight: float
    mirrored: bool = False
    shift: int = 0


TEST_TIME_AUGMENTATIONS: dict[str, tuple[View, ...]] = {
    "mirror": (View(1 / 2), View(1 / 2, mirrored=True)),
    "mirror-shift": (
        View(1 / 4),
        View(1 / 4, mirrored=True),
        View(1 / 8, shift=-1),
        View(1 / 8, shift=-1, mirrored=True),
        View(1 / 8, shift=1),
        View(1 / 8, shift=1, mirrored=True),
    ),
}
"""By name, the views that are averaged; the first is always the image itself. `mirror-shift` is airbench94's."""


def stack_views(images: Images, name: str | None) -> Images:
    """Return the views of images, (N, 32, 32, 3), one after another: uint8, (views * N, 32, 32, 3).

    Without test-time augmentation (None) the images are their only view.
    """
    if name is None:
        return images
    views = [_look(images, view) for view in TEST_TIME_AUGMENTATIONS[name]]
    return np.concatenate(views)


def split_views(probabilities: Probabilities, name: str | None) -> tuple[Probabilities, Probabilities | None]:
    """Return the probabilities of images, (N, 10), without and with test-time augmentation (None if there is none).

    Args:
        probabilities: of their views, float32 (views * N, 10), as `stack_views` stacked them.
        name: of the test-time augmentation, or None.
    """
    if name is None:
        return probabilities, None
    n = len(probabilities) // len(TEST_TIME_AUGMENTATIONS[name])
    return probabilities[:n], average_views(probabilities, name)


def average_views(probabilities: Probabilities, name: str) -> Probabilities:
    """Return the probabilities, float32 (N, 10), of images from those of their views, (views * N, 10), as stacked."""
    weights = np.array([view.weight for view in TEST_TIME_AUGMENTATIONS[name]])
    of_views = probabilities.reshape(len(weights), -1, CLASSES).astype(np.float64)
    average = np.tensordot(weights, np.log(np.maximum(of_views, MIN_PROBABILITY)), axes=1)
    powers = np.exp(average - average.max(axis=1, keepdims=True))
    probabilities_of_images: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities_of_images


def _look(images: Images, view: View) -> Images:
    margin = abs(view.shift)
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), "reflect")
    first = margin + view.shift
    _, height, width, _ = images.shape
    shifted = padded[:, first : first + height, first : first + width]
    return shifted[:, :, ::-1] if view.mirrored else shifted
