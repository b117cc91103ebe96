"""A synthetic stand-in for CIFAR-10 that is drawn in seconds: ten classes of small images.

Every image shows one glyph, bright on a dark shaded background, with noise; in some it is faint, in a few invisible.
Its position, size and direction do not depend on its class. The training images come in series: twenty of the same
glyph in the same pose, with different colours and shading. A network sees few poses and can memorise them, while the
test images show each pose once, so that shifts and flips improve the test accuracy.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SIDE = 32
CHUNK = 1000  # images drawn at once
SERIES = 20  # training images of the same glyph in the same pose
NOISE = 0.15  # standard deviation, as a share of the range from black to white
FOG = 0.3  # share of the images whose glyph is faint, from nearly clear to invisible

Plane = NDArray[np.float32]


def draw(n: int, seed: int, split: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw n images, uint8 (n, 32, 32, 3), and their labels, uint8 (n,), the classes in turn.

    Args:
        n: number of images.
        seed: of everything random; image i is the same for every n > i.
        split: 0 for training, in series; 1 for test, every image in a pose of its own.
    """
    labels = (np.arange(n) % len(CLASS_NAMES)).astype(np.uint8)
    series = SERIES if split == 0 else 1
    chunks = []
    for start in range(0, n, CHUNK):
        chunk = _draw_chunk(np.random.default_rng([seed, split, start]), series)
        chunks.append(chunk[: n - start])
    return np.concatenate(chunks), labels


def _draw_chunk(rng: np.random.Generator, series: int) -> NDArray[np.uint8]:
    """Draw CHUNK images, the classes in turn, `series` of each class in the same pose: uint8 (CHUNK, 32, 32, 3)."""
    coverage = _draw_glyphs(rng, CHUNK // series)
    image = np.arange(CHUNK)
    label = image % len(CLASS_NAMES)
    pose = image // (len(CLASS_NAMES) * series) * len(CLASS_NAMES) + label

    background = _uniform(rng, 0.1, 0.4, CHUNK, 1, 1, 3)
    ink = _uniform(rng, 0.5, 1.0, CHUNK, 1, 1, 3)
    slope = _uniform(rng, -0.3, 0.3, CHUNK, 2, 1, 1, 1)
    ramp = (np.arange(SIDE, dtype=np.float32) / SIDE - 0.5)[:, None]
    shading = slope[:, 0] * ramp + slope[:, 1] * ramp[:, None]
    clarity = np.minimum(1, _uniform(rng, 0, 1, CHUNK, 1, 1, 1) / FOG)
    clean = background + (ink - background) * clarity * coverage[pose] + shading
    noisy = clean + rng.normal(0, NOISE, clean.shape).astype(np.float32)
    images: NDArray[np.uint8] = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return images


def _draw_glyphs(rng: np.random.Generator, n_poses: int) -> Plane:
    """The share of each pixel that a glyph covers, (n_poses, 32, 32, 1), the classes in turn, each in a new pose."""
    size = _uniform(rng, 6, 11, n_poses, 1, 1)
    center_x = _uniform(rng, 11, 21, n_poses, 1, 1)
    center_y = _uniform(rng, 11, 21, n_poses, 1, 1)
    lean = _uniform(rng, -0.35, 0.35, n_poses, 1, 1)
    direction = np.where(_uniform(rng, 0, 1, n_poses, 1, 1) < 0.5, 1, -1)

    pixels = np.arange(SIDE, dtype=np.float32)
    across = (pixels - center_x) / size
    down = (pixels[:, None] - center_y) / size
    x = direction * (across + lean * down)
    y = down - lean * across
    labels = np.arange(n_poses) % len(CLASS_NAMES)
    distance = np.empty((n_poses, SIDE, SIDE), np.float32)
    for label, shape in enumerate(SHAPES.values()):
        in_class = labels == label
        distance[in_class] = shape(x[in_class], y[in_class])
    coverage: Plane = np.clip(0.5 - distance * size, 0, 1)
    return coverage[..., None]


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Plane:
    return rng.uniform(low, high, shape).astype(np.float32)


def _disc(x: Plane, y: Plane) -> Plane:
    distance: Plane = np.sqrt(x * x + y * y) - 1
    return distance


def _box(x: Plane, y: Plane, width: float = 0.9, height: float = 0.9) -> Plane:
    distance: Plane = np.maximum(np.abs(x) - width, np.abs(y) - height)
    return distance


def _hollow(distance: Plane) -> Plane:
    """The outline of a shape, inside its edge."""
    outline: Plane = np.abs(distance + 0.25) - 0.25
    return outline


# Signed distances: 0 at a glyph's edge, negative inside, in units of its size.
SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "ring": lambda x, y: _hollow(_disc(x, y)),
    "square": _box,
    "frame": lambda x, y: _hollow(_box(x, y)),
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.87 - y * 0.5 - 0.5, y - 0.9),
    "cross": lambda x, y: np.minimum(_box(x, y, 1, 0.3), _box(x, y, 0.3, 1)),
    "bars": lambda x, y: np.minimum(_box(x, y + 0.6, 1, 0.27), _box(x, y - 0.6, 1, 0.27)),
    "arrow": lambda x, y: np.minimum(_box(x + 0.4, y, 0.6, 0.25), np.maximum(-x - 0.1, x * 0.7 + np.abs(y) - 0.7)),
    "hook": lambda x, y: np.minimum(_box(x + 0.6, y, 0.3, 1), _box(x, y - 0.7, 0.9, 0.3)),
    "moon": lambda x, y: np.maximum(_disc(x, y), 0.8 - np.sqrt((x - 0.45) ** 2 + y * y)),
}
CLASS_NAMES = tuple(SHAPES)
